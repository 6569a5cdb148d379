"""The mini encoder: a small convolutional network from RGB to the space of the word table. A stand-in.

It takes the place of a foundation model on machines that have none, so that the whole method can be run, taught and
tested. Trained on synthetic rooms only (recipe: `tools/mini_encoder/train.py`); on photographs expect little of it.
Knows no depth, no pose and no label set.

Shape suffixes of locals: B batch, C feature channels, H W working size, P wanted pixels, D embedding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from workers.encoders import weights

TITLE = "mini (a small stand-in, not a foundation model)"
"""How people meet it, everywhere."""

DIMENSION = 384
"""D, that of MiniLM."""

WORKING_AREA = 208 * 160
"""Pixels at which an image is embedded, whatever its own size; its aspect is kept."""

_MULTIPLE = 16
_CHANNELS = (24, 40, 72, 128)
_FEATURES = 64


class MiniNetwork(nn.Module):
    """A U-Net of about 0.6 million parameters with features at a quarter of the working resolution."""

    def __init__(self) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth = _CHANNELS
        self.stem = _block(3, half, stride=2)
        self.down4 = nn.Sequential(_block(half, quarter, stride=2), _block(quarter, quarter))
        self.down8 = nn.Sequential(_block(quarter, eighth, stride=2), _block(eighth, eighth))
        self.down16 = nn.Sequential(
            _block(eighth, sixteenth, stride=2),
            _block(sixteenth, sixteenth, dilation=2),
            _block(sixteenth, sixteenth, dilation=4),
        )
        self.up8 = nn.Sequential(_block(sixteenth + eighth, eighth, kernel=1), _block(eighth, eighth))
        self.up4 = nn.Sequential(_block(eighth + quarter, _FEATURES, kernel=1), _block(_FEATURES, _FEATURES))
        self.project = nn.Linear(_FEATURES, DIMENSION)
        # embeddings start near zero: with torch's own start they are ten times too long, and learning never recovers
        nn.init.normal_(self.project.weight, std=0.01)
        nn.init.zeros_(self.project.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Features (B,C,H/4,W/4) of images (B,3,H,W) in -1..1; H and W are multiples of 16.

        `project` carries features on to embeddings; it is linear, so that it can wait until pixels are chosen.
        """
        quarter = self.down4(self.stem(images))
        eighth = self.down8(quarter)
        joined = _joined(self.up8(_joined(self.down16(eighth), eighth)), quarter)
        features: Tensor = self.up4(joined)
        return features


class MiniEncoder:
    """The mini encoder with its shipped weights; implements `ImageEncoder`.

    Args:
        threads: CPU threads that torch may use (of this process); None leaves it as it is.
        path: another file of weights, for the recipe that makes them; None takes the shipped one.

    Raises:
        StoreCorrupt: the shipped weights are missing or are not the frozen ones.
    """

    def __init__(self, threads: int | None = None, path: Path | None = None) -> None:
        if path is None:
            weights.digest_of(weights.NETWORK)
        if threads is not None:
            torch.set_num_threads(threads)
        network = MiniNetwork()
        network.load_state_dict({k: v.float() for k, v in load_file(path or weights.NETWORK).items()})
        self._network = network.eval()

    @property
    def dimension(self) -> int:
        """D = 384."""
        return DIMENSION

    @property
    def title(self) -> str:
        """Says that it is a stand-in."""
        return TITLE

    @property
    def preprocessing(self) -> Mapping[str, object]:
        """The working size, how it is reached, the range of values, and how features are taken at pixels."""
        return {
            "decoded_by": "Pillow",
            "resized": {"to_area_px": WORKING_AREA, "to_multiples_of_px": _MULTIPLE, "by": "bilinear"},
            "values": [-1, 1],
            "features_taken": "bilinear",
        }

    @torch.inference_mode()
    def embed_pixels(
        self, image: NDArray[np.uint8], rows: NDArray[np.int64], columns: NDArray[np.int64], size: tuple[int, int]
    ) -> NDArray[np.float32]:
        """Embeddings (P,D) float32 of the pixels at `rows` and `columns` of an image of `size`; see `ImageEncoder`.

        Features are taken between the network's cells by bilinear interpolation, and only those of the wanted pixels
        are carried to D dimensions. Equal input gives equal output on one machine and number of threads.
        """
        features = self._network(_as_input(image))
        width, height = size
        x_P = (torch.from_numpy(np.asarray(columns, np.float32)) + 0.5) * (2.0 / width) - 1.0
        y_P = (torch.from_numpy(np.asarray(rows, np.float32)) + 0.5) * (2.0 / height) - 1.0
        grid = torch.stack((x_P, y_P), dim=-1)[None, None]
        taken_CP = functional.grid_sample(features, grid, padding_mode="border", align_corners=False)[0, :, 0]
        embeddings_PD: NDArray[np.float32] = self._network.project(taken_CP.T).numpy()
        return embeddings_PD


def _as_input(image: NDArray[np.uint8]) -> Tensor:
    """(1,3,H,W) float32 in -1..1 at the working size, from (h,w,3) uint8."""
    height, width = image.shape[:2]
    scale = math.sqrt(WORKING_AREA / (height * width))
    working = tuple(max(1, round(edge * scale / _MULTIPLE)) * _MULTIPLE for edge in (width, height))
    if working != (width, height):
        image = np.asarray(Image.fromarray(image).resize(working, Image.Resampling.BILINEAR))
    channels_first = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
    return channels_first.contiguous() / 127.5 - 1.0


def _block(inputs: int, outputs: int, stride: int = 1, dilation: int = 1, kernel: int = 3) -> nn.Sequential:
    """A convolution that keeps the size but for its stride, batch norm and ReLU."""
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, dilation=dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _joined(coarse: Tensor, fine: Tensor) -> Tensor:
    """`coarse` at the resolution of `fine`, their channels side by side."""
    up = functional.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    return torch.cat((up, fine), dim=1)

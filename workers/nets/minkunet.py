"""MinkUNet: a U-Net of sparse residual blocks, with the parameter names and shapes of MinkowskiEngine's.

Source: Choy, Gwak, Savarese, "4D Spatio-Temporal ConvNets", CVPR 2019; the table of widths and blocks is that of
MinkowskiEngine's examples. Knows layers and engines; no scene, no label set, no stage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from workers.sparse.choose import choose_engine
from workers.sparse.engine import Engine, SparseTensor
from workers.sparse.layers import Convolution, Norm

Arch = Literal["MinkUNet14A", "MinkUNet18A", "MinkUNet34A"]

_STEM_WIDTH = 32


@dataclass(frozen=True, slots=True)
class _Plan:
    """Widths and residual blocks of the four levels down and the four up."""

    widths: tuple[int, ...]
    blocks: tuple[int, ...]


_PLANS: dict[Arch, _Plan] = {
    "MinkUNet14A": _Plan((32, 64, 128, 256, 128, 128, 96, 96), (1, 1, 1, 1, 1, 1, 1, 1)),
    "MinkUNet18A": _Plan((32, 64, 128, 256, 128, 128, 96, 96), (2, 2, 2, 2, 2, 2, 2, 2)),
    "MinkUNet34A": _Plan((32, 64, 128, 256, 256, 128, 64, 64), (2, 3, 4, 6, 2, 2, 2, 2)),
}


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions and a shortcut, which is a 1x1x1 convolution where the widths differ."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = Convolution(in_channels, out_channels, 3)
        self.norm1 = Norm(out_channels)
        self.conv2 = Convolution(out_channels, out_channels, 3)
        self.norm2 = Norm(out_channels)
        self.downsample: nn.ModuleList | None = None
        if in_channels != out_channels:
            self.downsample = nn.ModuleList([Convolution(in_channels, out_channels, 1), Norm(out_channels)])

    def forward(self, engine: Engine, x: SparseTensor) -> SparseTensor:
        """(V,in) to (V,out) on the same grid."""
        y = self.norm1(self.conv1(engine, x))
        y = self.conv2(engine, y)
        shortcut = x
        if self.downsample is not None:
            shortcut = self.downsample[1](self.downsample[0](engine, x), relu=False)
        return cast(SparseTensor, self.norm2(y, shortcut=shortcut.features))


class MinkUNet(nn.Module):
    """A per-voxel embedding of a voxelized scene.

    Modules are named as in MinkowskiEngine's MinkUNet (conv0p1s1, bn0, .., block8, final), so state dicts agree.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 768,
        arch: Arch = "MinkUNet18A",
        engine: Engine | None = None,
        *,
        head_bias: bool = True,
    ) -> None:
        """Draws the initial weights from torch's global generator.

        Args:
            in_channels: channels of a voxel's input features.
            out_channels: D, the width of the embedding.
            arch: which table of widths and blocks.
            engine: convolves; None takes the default one.
            head_bias: whether the head adds a bias.

        Raises:
            ValueError: an unknown arch.
        """
        super().__init__()
        if arch not in _PLANS:
            raise ValueError(f"got arch {arch!r}, expected one of {', '.join(_PLANS)}")
        self._engine = choose_engine() if engine is None else engine
        widths, blocks = _PLANS[arch].widths, _PLANS[arch].blocks
        self.conv0p1s1 = Convolution(in_channels, _STEM_WIDTH, 5)
        self.bn0 = Norm(_STEM_WIDTH)
        skips = [_STEM_WIDTH]
        width = _STEM_WIDTH
        for level in range(1, 5):
            stride = 2 ** (level - 1)
            self.add_module(f"conv{level}p{stride}s2", Convolution(width, width, 2, 2))
            self.add_module(f"bn{level}", Norm(width))
            self.add_module(f"block{level}", _blocks(width, widths[level - 1], blocks[level - 1]))
            width = widths[level - 1]
            skips.append(width)
        for level in range(4, 8):
            stride, skip = 2 ** (8 - level), skips[7 - level]
            up = widths[level]
            self.add_module(f"convtr{level}p{stride}s2", Convolution(width, up, 2, 2, transposed=True))
            self.add_module(f"bntr{level}", Norm(up))
            self.add_module(f"block{level + 1}", _blocks(up + skip, up, blocks[level]))
            width = up
        self.final = Convolution(width, out_channels, 1, bias=head_bias)

    def forward(self, coordinates: Tensor, features: Tensor) -> Tensor:
        """Embeddings (V,D) of voxels, in the order given and the type of the features.

        Args:
            coordinates: (V,4) int32 or int64 [batch, x, y, z], each voxel once.
            features: (V,in_channels) floating.

        Raises:
            ValueError: shapes that do not fit, no voxel, a duplicate voxel, coordinates out of range.
        """
        engine = self._engine
        x = engine.tensor(coordinates, features)
        x = self.bn0(self.conv0p1s1(engine, x))
        skips = [x]
        for level in range(1, 5):
            x = self.get_submodule(f"conv{level}p{2 ** (level - 1)}s2")(engine, x)
            x = self.get_submodule(f"bn{level}")(x)
            x = self._block(level, x)
            skips.append(x)
        skips.pop()
        for level in range(4, 8):
            skip = skips.pop()
            x = self.get_submodule(f"convtr{level}p{2 ** (8 - level)}s2")(engine, x, skip.grid)
            x = self.get_submodule(f"bntr{level}")(x)
            x = self._block(level + 1, x.with_features(torch.cat([x.features, skip.features], dim=1)))
        rows, kernel, bias = engine.rows(x), self.final.kernel, self.final.bias
        return (rows @ kernel if bias is None else torch.addmm(bias, rows, kernel)).to(features.dtype)

    def _block(self, level: int, x: SparseTensor) -> SparseTensor:
        for block in self.get_submodule(f"block{level}").children():
            x = block(self._engine, x)
        return x


def _blocks(in_channels: int, out_channels: int, count: int) -> nn.ModuleList:
    """`count` residual blocks, of which the first changes the width."""
    return nn.ModuleList([ResidualBlock(in_channels if i == 0 else out_channels, out_channels) for i in range(count)])

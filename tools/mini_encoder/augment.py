"""Random changes of a picture while the mini encoder learns. Knows neither rooms nor networks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

WORKING_SIZE = (208, 160)
"""Width and height at which the mini encoder sees a picture of 4 : 3."""


def augmented(
    image: NDArray[np.uint8], labels: NDArray[np.int16], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """A crop of another scale, perhaps mirrored and blurred, of another exposure and noise.

    Args:
        image: (H,W,3) RGB.
        labels: (H,W).
        rng: where chance comes from.

    Returns:
        (160,208,3) float32 in -1..1 and (160,208) labels.
    """
    height, width = labels.shape
    share = float(rng.uniform(0.6, 1.0))
    crop = (int(width * share), int(height * share))
    left, top = int(rng.integers(width - crop[0] + 1)), int(rng.integers(height - crop[1] + 1))
    box = (left, top, left + crop[0], top + crop[1])
    picture = Image.fromarray(image).resize(WORKING_SIZE, Image.Resampling.BILINEAR, box=box)
    columns = left + ((np.arange(WORKING_SIZE[0]) + 0.5) * crop[0] / WORKING_SIZE[0]).astype(np.int64)
    rows = top + ((np.arange(WORKING_SIZE[1]) + 0.5) * crop[1] / WORKING_SIZE[1]).astype(np.int64)
    label_crop = labels[np.ix_(rows, columns)]
    if rng.random() < 0.3:
        picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 0.8))))
    pixels = np.asarray(picture, dtype=np.float32) / 255.0
    if rng.random() < 0.5:
        pixels, label_crop = pixels[:, ::-1], label_crop[:, ::-1]
    return jittered(pixels, rng) * 2.0 - 1.0, np.ascontiguousarray(label_crop)


def jittered(pixels: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Pixels 0..1 as another exposure of the same camera has them: gain, slight white balance and a little noise.

    Neither saturation nor contrast nor the order of channels changes, so that what is learnt of colour is that of the
    style that is learnt from (docs/decisions/0009).
    """
    gain = rng.uniform(0.8, 1.25) * rng.normal(1.0, 0.03, 3)
    noise = rng.normal(0.0, float(rng.uniform(0.0, 0.02)), pixels.shape)
    changed: NDArray[np.float32] = np.clip(pixels * gain + noise, 0.0, 1.0).astype(np.float32)
    return changed

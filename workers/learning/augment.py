"""Random changes of a scene before a training step: elastic distortion, rotation, flips, scale and colours.

Source: the authors' published code (the paper does not say; docs/decisions/0010). NumPy and SciPy only; every draw
comes from the generator given, and a change that is off draws nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import convolve1d
from scipy.spatial.transform import Rotation

from storage.specs.parts import Augment

ELASTIC = ((0.2, 0.4), (0.8, 1.6))
"""Granularity and magnitude of each elastic pass, metres."""


def augment(
    points_m: NDArray[np.float32], colours: NDArray[np.float32], options: Augment, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Changed copies of a scene's points and colours.

    Args:
        points_m: (N,3) metres.
        colours: (N,3) in 0..1.
        options: which changes, and how strong.
        rng: where chance comes from.
    """
    points = points_m - points_m.mean(axis=0, dtype=np.float64).astype(np.float32)
    if options.elastic:
        for granularity_m, magnitude_m in ELASTIC:
            if rng.random() < 0.95:
                points = elastic(points, granularity_m, magnitude_m, rng)
    if options.rotate or options.tilt_deg:
        tilts = rng.uniform(-options.tilt_deg, options.tilt_deg, 2) if options.tilt_deg else (0.0, 0.0)
        turn = rng.uniform(0, 360) if options.rotate else 0.0
        points = points @ Rotation.from_euler("zxy", [turn, *tilts], degrees=True).as_matrix().T.astype(np.float32)
    for axis in (0, 1):
        if rng.random() < options.flip:
            points[:, axis] *= -1
    points *= np.float32(1 + rng.uniform(-options.scale, options.scale))
    return points.astype(np.float32), _recolour(colours, options, rng)


def _recolour(colours: NDArray[np.float32], options: Augment, rng: np.random.Generator) -> NDArray[np.float32]:
    """Contrast, shift, jitter, hue and saturation, in the order of the authors' code; clipped to 0..1."""
    if rng.random() < options.colour_drop:
        return np.full_like(colours, 0.5)
    changed: NDArray[np.floating[Any]] = colours
    if options.auto_contrast and rng.random() < options.auto_contrast:
        share = np.float32(rng.random())
        changed = (1 - share) * changed + share * stretched(changed)
    changed = changed + rng.uniform(-options.colour_shift, options.colour_shift, (1, 3))
    if options.colour_jitter:
        changed = changed + rng.normal(0, options.colour_jitter, colours.shape)
    clipped: NDArray[np.float32] = np.clip(changed, 0, 1).astype(np.float32)
    if options.hue or options.saturation:
        turn, factor = rng.uniform(-options.hue, options.hue), 1 + rng.uniform(-options.saturation, options.saturation)
        return turned_hue(clipped, turn, factor)
    return clipped


def stretched(colours: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,3) colours of which each channel fills 0..1; a channel of one value stays as it is."""
    low, high = colours.min(axis=0), colours.max(axis=0)
    spread = np.where(high > low, high - low, 1)
    filled: NDArray[np.float32] = np.where(high > low, (colours - low) / spread, colours).astype(np.float32)
    return filled


def turned_hue(colours: NDArray[np.float32], turn: float, factor: float) -> NDArray[np.float32]:
    """(N,3) RGB colours in 0..1 with another hue and saturation, of the same value (HSV).

    Args:
        colours: (N,3) in 0..1.
        turn: added to the hue, in turns of the colour wheel.
        factor: multiplies the saturation, which is then clipped to 0..1.
    """
    red, green, blue = colours.T
    value = colours.max(axis=1)
    chroma = value - colours.min(axis=1)
    safe = np.where(chroma > 0, chroma, 1)
    sixths = np.select(
        [value == red, value == green], [(green - blue) / safe, (blue - red) / safe + 2], (red - green) / safe + 4
    )
    saturation = np.clip(factor * chroma / np.where(value > 0, value, 1), 0, 1)
    place = (np.array([5, 3, 1]) + (sixths + 6 * turn)[:, None]) % 6
    dip = np.clip(np.minimum(place, 4 - place), 0, 1)
    turned: NDArray[np.float32] = (value[:, None] * (1 - saturation[:, None] * dip)).astype(np.float32)
    return turned


def elastic(
    points_m: NDArray[np.float32], granularity_m: float, magnitude_m: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Points moved by a smooth random field: gaussian noise on a grid, blurred twice along each axis.

    Args:
        points_m: (N,3) metres.
        granularity_m: edge of a cell of the noise grid.
        magnitude_m: deviation of the noise before it is blurred.
        rng: where chance comes from.
    """
    low = points_m.min(axis=0)
    size = ((points_m - low).max(axis=0) // granularity_m).astype(int) + 3
    noise = rng.standard_normal((*size, 3)).astype(np.float32)
    for _ in range(2):
        for axis in range(3):
            noise = convolve1d(noise, np.full(3, 1 / 3, np.float32), axis=axis, mode="constant")
    grid = [low[a] - granularity_m + granularity_m * np.arange(size[a]) for a in range(3)]
    field = RegularGridInterpolator(grid, noise, bounds_error=False, fill_value=0.0)
    moved: NDArray[np.float32] = points_m + field(points_m).astype(np.float32) * np.float32(magnitude_m)
    return moved

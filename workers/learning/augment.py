"""Random changes of a scene before a training step: elastic distortion, flips, colours, and the shift of the grid.

Source: the authors' published code (the paper does not say). NumPy only; every draw comes from the generator given.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import convolve1d

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
    if options.rotate:
        angle = rng.uniform(0, 2 * np.pi)
        cos, sin = np.cos(angle), np.sin(angle)
        points = points @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]], np.float32)
    for axis in (0, 1):
        if rng.random() < options.flip:
            points[:, axis] *= -1
    points *= np.float32(1 + rng.uniform(-options.scale, options.scale))
    return points.astype(np.float32), _recolour(colours, options, rng)


def _recolour(colours: NDArray[np.float32], options: Augment, rng: np.random.Generator) -> NDArray[np.float32]:
    """Shifted and jittered colours, clipped to 0..1."""
    if rng.random() < options.colour_drop:
        return np.full_like(colours, 0.5)
    changed = colours + rng.uniform(-options.colour_shift, options.colour_shift, (1, 3))
    if options.colour_jitter:
        changed = changed + rng.normal(0, options.colour_jitter, colours.shape)
    return np.clip(changed, 0, 1).astype(np.float32)


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

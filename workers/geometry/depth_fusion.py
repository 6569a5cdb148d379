"""Posed depth maps to one point cloud: back-project, then the mean of each voxel.

Knows cameras and voxels; knows no file and no class. Memory grows with the cloud, not with the number of frames.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

_BITS = 21
_HALF = 1 << (_BITS - 1)
"""Voxels a side of the origin that a packed key can hold: at 2 cm, 20 km."""


@dataclass(frozen=True, slots=True, eq=False)
class DepthFrame:
    """One posed depth map with the colours seen at its pixels."""

    depth_m: NDArray[np.float32]
    """(H,W) z in the camera frame, metres; 0 or non-finite = no reading."""
    intrinsics: F64
    """(3,3) K of the depth map, pixels."""
    camera_to_world: F64
    """(4,4) metres."""
    colours: NDArray[np.uint8]
    """(H,W,3) RGB."""


@dataclass(slots=True, eq=False)
class _Voxels:
    """Sums a voxel, sorted by key."""

    keys: NDArray[np.int64]
    sums: F64
    """(V,7): readings, x, y, z, red, green, blue."""

    def merged(self, other: _Voxels) -> _Voxels:
        """The two together."""
        return _grouped(np.concatenate([self.keys, other.keys]), np.concatenate([self.sums, other.sums]))


def fuse(
    frames: Iterable[DepthFrame], voxel_m: float, max_depth_m: float
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The cloud of posed depth maps: a point a voxel, at the mean position and colour of the readings in it.

    Voxel (i, j, k) holds floor(position / voxel_m). Points are sorted by voxel, x first, so equal frames give equal
    clouds, whatever the number of frames in memory.

    Args:
        frames: read one after the other.
        voxel_m: edge of a voxel, metres.
        max_depth_m: readings beyond it are left out.

    Returns:
        (N,3) float32 points, world, metres; (N,3) uint8 RGB. Empty where no frame has a reading.

    Raises:
        ValueError: a reading lies farther from the origin than voxels can be counted.
    """
    total = _Voxels(np.zeros(0, np.int64), np.zeros((0, 7)))
    waiting: list[_Voxels] = []
    for frame in frames:
        points, colours = back_project(frame, max_depth_m)
        waiting.append(_grouped(_keys(points, voxel_m), np.hstack([np.ones((len(points), 1)), points, colours])))
        # merging costs a sort of the whole, so it waits until it pays
        if sum(len(part.keys) for part in waiting) > max(len(total.keys), 500_000):
            total, waiting = _all([total, *waiting]), []
    total = _all([total, *waiting])
    means = total.sums[:, 1:] / total.sums[:, :1]
    return means[:, :3].astype(np.float32), np.clip(np.rint(means[:, 3:]), 0, 255).astype(np.uint8)


def back_project(frame: DepthFrame, max_depth_m: float) -> tuple[F64, NDArray[np.uint8]]:
    """(P,3) world points and (P,3) RGB of a frame's readings within `max_depth_m`, row by row."""
    with np.errstate(invalid="ignore"):
        rows, columns = np.nonzero((frame.depth_m > 0) & (frame.depth_m <= max_depth_m))
    z = frame.depth_m[rows, columns].astype(np.float64)
    k, pose = frame.intrinsics, frame.camera_to_world
    camera = np.stack([(columns - k[0, 2]) * z / k[0, 0], (rows - k[1, 2]) * z / k[1, 1], z], axis=1)
    return camera @ pose[:3, :3].T + pose[:3, 3], frame.colours[rows, columns]


def _all(parts: list[_Voxels]) -> _Voxels:
    return _grouped(np.concatenate([p.keys for p in parts]), np.concatenate([p.sums for p in parts]))


def _keys(points: F64, voxel_m: float) -> NDArray[np.int64]:
    cell = np.floor(points / voxel_m)
    if len(cell) and not np.abs(cell).max() < _HALF:
        raise ValueError(
            f"got a point {np.abs(points).max():.3g} m from the origin; at {voxel_m} m a voxel, at most "
            f"{_HALF * voxel_m:.3g} m can be counted: check the poses, which must be in metres"
        )
    shifted = cell.astype(np.int64) + _HALF
    return (shifted[:, 0] << (2 * _BITS)) | (shifted[:, 1] << _BITS) | shifted[:, 2]


def _grouped(keys: NDArray[np.int64], sums: F64) -> _Voxels:
    """Rows of equal key added up, in the order in which they come."""
    if not len(keys):
        return _Voxels(keys, sums)
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return _Voxels(ordered[first], np.add.reduceat(sums[order], first, axis=0))

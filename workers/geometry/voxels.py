"""Points to voxels: which voxel a point falls in, and what a voxel takes from its points.

Knows arrays only: no scene, no network.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_AXIS_BITS = 21
_LIMIT = 1 << (_AXIS_BITS - 1)


@dataclass(frozen=True, slots=True)
class Voxels:
    """The occupied voxels of a point cloud, sorted by x, then y, then z; voxel c spans [c, c + 1) times the edge."""

    coordinates: NDArray[np.int32]
    """(V,3)."""
    point_to_voxel: NDArray[np.int64]
    """(N,) the row of each point's voxel."""
    representative: NDArray[np.int64]
    """(V,) the first point, in the order given, of each voxel."""
    points_per_voxel: NDArray[np.int64]
    """(V,) at least 1."""

    @property
    def num_voxels(self) -> int:
        """V."""
        return len(self.coordinates)

    def mean(self, values: NDArray[np.generic]) -> NDArray[np.float32]:
        """(V,C) float32 means over each voxel's points of (N,C) numbers.

        Raises:
            ValueError: not a row a point.
        """
        if values.ndim != 2 or len(values) != len(self.point_to_voxel):
            raise ValueError(
                f"got values of shape {values.shape}, expected ({len(self.point_to_voxel)}, channels), a row a point"
            )
        sums = [
            np.bincount(self.point_to_voxel, weights=column, minlength=self.num_voxels)
            for column in values.T.astype(np.float64)
        ]
        return (np.stack(sums, axis=1) / self.points_per_voxel[:, None]).astype(np.float32)


def voxelize(points_m: NDArray[np.floating], voxel_m: float) -> Voxels:
    """The voxels of a point cloud; the same points give the same voxels.

    Args:
        points_m: (N,3) metres, finite.
        voxel_m: the edge of a voxel, metres.

    Raises:
        ValueError: no points, another shape, coordinates that are not finite or too far out, or an edge of 0 or less.
    """
    if points_m.ndim != 2 or points_m.shape[1] != 3 or len(points_m) == 0:
        raise ValueError(f"got points of shape {points_m.shape}, expected (N,3) with N of 1 or more")
    if not voxel_m > 0:
        raise ValueError(f"got a voxel edge of {voxel_m} m, expected more than 0")
    cells = np.floor(points_m.astype(np.float64) / voxel_m)
    if not np.isfinite(cells).all() or np.abs(cells).max() >= _LIMIT:
        raise ValueError(
            f"got points that are not finite or lie {_LIMIT} voxels of {voxel_m} m or more from the origin; "
            "drop them, or centre the scene"
        )
    biased = cells.astype(np.int64) + _LIMIT
    keys = (biased[:, 0] << 2 * _AXIS_BITS) + (biased[:, 1] << _AXIS_BITS) + biased[:, 2]
    unique, first, inverse, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    mask = (1 << _AXIS_BITS) - 1
    columns = [(unique >> shift & mask) - _LIMIT for shift in (2 * _AXIS_BITS, _AXIS_BITS, 0)]
    return Voxels(
        coordinates=np.stack(columns, axis=1).astype(np.int32),
        point_to_voxel=inverse.reshape(-1).astype(np.int64),
        representative=first.astype(np.int64),
        points_per_voxel=counts.astype(np.int64),
    )

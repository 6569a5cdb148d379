"""Which points a frame sees, and at which pixel: projection, border cut and a depth test.

Source: 3DSS-VLG section 3.1; thresholds as in the authors' code. Conventions as in `camera`. Knows no file, no encoder.

Shape suffixes: n points of a block, c candidates in front of the camera and inside the border, hw rows and columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from storage.specs.parts import Lifting
from workers.geometry.camera import has_reading, invert_pose, project, resize_nearest

_BLOCK = 65_536
"""Points projected at once: small enough to stay in the processor's cache."""
LEAST_VISIBLE = 0.05
"""Below this share of its points that a frame sees, a scene's poses are doubted (ours; no source has a number)."""


@dataclass(frozen=True, slots=True)
class Visible:
    """The points that one frame sees, by ascending index, and the pixel that each falls on."""

    point_index: Int[NDArray[np.int64], "visible"]
    rows: Int[NDArray[np.int64], "visible"]
    """Row of the nearest pixel, in an image of the lifting's size."""
    columns: Int[NDArray[np.int64], "visible"]


def visible(
    points_m: Float[NDArray[np.floating], "points 3"],
    depth_m: Float[NDArray[np.floating], "height width"],
    intrinsics: Float[NDArray[np.float64], "3 3"],
    camera_to_world: Float[NDArray[np.float64], "4 4"],
    lifting: Lifting,
) -> Visible:
    """The points that a frame sees.

    A point is visible when it lies in front of the camera (z > 0), its nearest pixel (rounded) lies at least
    `border_px` from the image's edge, that pixel has a depth reading, and |z - depth| <= tolerance * depth.

    Args:
        points_m: world coordinates, metres.
        depth_m: z in the camera frame, metres; 0 or not finite = no reading. Resized by nearest neighbour where its
            size is not the lifting's.
        intrinsics: K of an image of `lifting.width` x `lifting.height`: see `camera.scale_intrinsics`.
        camera_to_world: pose, metres; finite.
        lifting: size, tolerance and border.
    """
    depth_hw = np.asarray(resize_nearest(depth_m, (lifting.width, lifting.height)), dtype=np.float64)
    depth_hw = np.where(has_reading(depth_hw), depth_hw, np.nan)
    world_to_camera = invert_pose(camera_to_world)
    found = [
        _visible_block(points_m[start : start + _BLOCK], start, depth_hw, intrinsics, world_to_camera, lifting)
        for start in range(0, len(points_m), _BLOCK)
    ] or [(np.zeros(0, np.int64),) * 3]
    point_index, rows, columns = (np.concatenate(part) for part in zip(*found, strict=True))
    return Visible(point_index, rows, columns)


def _visible_block(
    points_m: NDArray[np.floating],
    offset: int,
    depth_hw: NDArray[np.float64],
    intrinsics: NDArray[np.float64],
    world_to_camera: NDArray[np.float64],
    lifting: Lifting,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Index (plus `offset`), row and column of the visible points of one block."""
    uv_n2, z_n = project(points_m, intrinsics, world_to_camera)
    pixel_n2 = np.rint(uv_n2)  # NaN behind the camera: every comparison with it is false
    border = lifting.border_px
    inside_n = (pixel_n2[:, 0] >= border) & (pixel_n2[:, 0] < lifting.width - border)
    inside_n &= (pixel_n2[:, 1] >= border) & (pixel_n2[:, 1] < lifting.height - border)
    index_c = np.flatnonzero(inside_n)
    columns_c, rows_c = pixel_n2[index_c].astype(np.int64).T
    depth_c = depth_hw[rows_c, columns_c]
    seen_c = np.abs(z_n[index_c] - depth_c) <= lifting.depth_tolerance * depth_c
    return index_c[seen_c] + offset, rows_c[seen_c], columns_c[seen_c]

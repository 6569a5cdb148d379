"""Whether what a dataset says of its cameras can be so. Knows numbers; knows no file."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NON_FINITE, NOT_RIGID, OTHER_ROOM = "non-finite pose", "pose that is no rigid motion", "pose of another room"
EMPTY_DEPTH = "empty depth"
"""Reasons to leave a frame out, as they are counted."""
_RIGID = 1e-2
"""A rotation's columns may be off unit length and right angles by so much: poses of real captures carry noise."""
_ASPECT = 0.02
"""Depth and colour may differ by so much in their ratio of width to height: ScanNet's do by half a per cent."""


def is_pinhole(k: NDArray[np.float64]) -> bool:
    """Whether (3,3) or (4,4) intrinsics are finite and have positive focal lengths."""
    return bool(np.isfinite(k).all() and k[0, 0] > 0 and k[1, 1] > 0)


def is_rigid(pose: NDArray[np.float64]) -> bool:
    """Whether (4,4) is finite and a turn and a shift, within the noise of real captures: no scale, shear or mirror.

    Examples:
        >>> is_rigid(np.eye(4)), is_rigid(np.zeros((4, 4))), is_rigid(np.diag([1.0, 1, -1, 1]))
        (True, False, False)
    """
    if not np.isfinite(pose).all():
        return False
    turn = pose[:3, :3]
    with np.errstate(over="ignore", invalid="ignore"):
        square = turn.T @ turn
    off = max(np.abs(square - np.eye(3)).max(), np.abs(pose[3] - [0, 0, 0, 1]).max())
    return bool(off < _RIGID and np.linalg.det(turn) > 0)


def pose_fault(pose: NDArray[np.float64]) -> str | None:
    """Why a frame with this (4,4) camera-to-world is left out; None where the pose can be used."""
    if not np.isfinite(pose).all():
        return NON_FINITE
    return None if is_rigid(pose) else NOT_RIGID


def same_view(size: tuple[int, int], depth_size: tuple[int, int]) -> bool:
    """Whether an image and a depth map of these widths and heights, none of them zero, can show one view.

    Examples:
        >>> same_view((1296, 968), (640, 480)), same_view((640, 480), (480, 480))
        (True, False)
    """
    return abs(size[0] * depth_size[1] / (size[1] * depth_size[0]) - 1) <= _ASPECT

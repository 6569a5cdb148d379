"""Whether what a dataset says of its cameras can be so. Knows numbers; knows no file."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ASPECT = 0.02
"""Depth and colour may differ by so much in their ratio of width to height: ScanNet's do by half a per cent."""


def is_pinhole(k: NDArray[np.float64]) -> bool:
    """Whether (3,3) or (4,4) intrinsics are finite and have positive focal lengths."""
    return bool(np.isfinite(k).all() and k[0, 0] > 0 and k[1, 1] > 0)


def same_view(size: tuple[int, int], depth_size: tuple[int, int]) -> bool:
    """Whether an image and a depth map of these widths and heights, none of them zero, can show one view.

    Examples:
        >>> same_view((1296, 968), (640, 480)), same_view((640, 480), (480, 480))
        (True, False)
    """
    return abs(size[0] * depth_size[1] / (size[1] * depth_size[0]) - 1) <= _ASPECT

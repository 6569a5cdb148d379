"""What cameras cannot be."""

from __future__ import annotations

import numpy as np
import pytest

from workers.scenes.cameras import is_pinhole, same_view


@pytest.mark.parametrize("size", [3, 4])
@pytest.mark.parametrize(("row", "value"), [(0, 0.0), (1, -5.0), (0, np.nan), (1, np.inf)])
def test_a_focal_length_that_is_not_positive_and_finite_is_no_pinhole(size: int, row: int, value: float) -> None:
    k = np.eye(size) * 500.0
    assert is_pinhole(k)
    k[row, row] = value
    assert not is_pinhole(k)


@pytest.mark.parametrize(
    ("size", "depth_size", "same"),
    [
        ((1296, 968), (640, 480), True),
        ((100, 100), (102, 100), True),
        ((100, 100), (103, 100), False),
        ((640, 480), (480, 640), False),
    ],
)
def test_views_differ_where_the_ratios_of_their_sides_do(
    size: tuple[int, int], depth_size: tuple[int, int], same: bool
) -> None:
    assert same_view(size, depth_size) is same

"""What cameras cannot be."""

from __future__ import annotations

import numpy as np
import pytest

from workers.scenes.cameras import NON_FINITE, NOT_RIGID, is_pinhole, pose_fault, same_view

TURNED = np.array([[0.36, 0.48, -0.8, 30], [-0.8, 0.6, 0, -2], [0.48, 0.64, 0.6, 1.5], [0, 0, 0, 1]])


@pytest.mark.parametrize("size", [3, 4])
@pytest.mark.parametrize(("row", "value"), [(0, 0.0), (1, -5.0), (0, np.nan), (1, np.inf)])
def test_a_focal_length_that_is_not_positive_and_finite_is_no_pinhole(size: int, row: int, value: float) -> None:
    k = np.eye(size) * 500.0
    assert is_pinhole(k)
    k[row, row] = value
    assert not is_pinhole(k)


def test_a_turn_and_a_shift_with_the_noise_of_a_capture_is_a_pose() -> None:
    noise = np.random.default_rng(0).uniform(-1e-3, 1e-3, (4, 4))
    noise[3] = 0
    for pose in (np.eye(4), TURNED, TURNED.astype(np.float32).astype(np.float64), TURNED + noise):
        assert pose_fault(pose) is None


@pytest.mark.parametrize(
    "pose",
    [
        np.zeros((4, 4)),
        TURNED * np.array([[1.0], [1.0], [1.0], [0.0]]),
        np.diag([1.0, 1.0, 0.0, 1.0]),
        np.diag([1.1, 1.1, 1.1, 1.0]),
        np.diag([1.0, 1.0, -1.0, 1.0]),
        np.eye(4) + 0.2 * np.eye(4, k=1),
        TURNED.T,
        np.full((4, 4), 1e300),
    ],
    ids=["zeros", "no last row", "flat", "scaled", "mirrored", "sheared", "transposed", "huge"],
)
def test_what_is_no_turn_and_shift_is_no_pose(pose: np.ndarray) -> None:
    assert pose_fault(pose) == NOT_RIGID


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_pose_that_is_not_finite_is_told_apart(value: float) -> None:
    pose = np.eye(4)
    pose[1, 3] = value
    assert pose_fault(pose) == NON_FINITE


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

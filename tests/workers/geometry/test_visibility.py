from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings
from numpy.typing import NDArray

from storage.specs.parts import Lifting
from tests.oracles.lifting_oracle import Sight, look
from workers.geometry.visibility import Visible, visible

LIFTING = Lifting(width=64, height=48, border_px=3)
CENTRED = np.array([[55.0, 0.0, 31.5], [0.0, 61.0, 23.5], [0.0, 0.0, 1.0]])
MARGIN = 1e-6


def sights(
    points: NDArray[np.float32],
    depth: NDArray[np.float64],
    k: NDArray[np.float64],
    pose: NDArray[np.float64],
    to: Lifting,
) -> list[Sight]:
    """What the oracle sees of each point."""
    return [
        look(
            point,
            depth.tolist(),
            k.tolist(),
            pose.tolist(),
            size=(to.width, to.height),
            tolerance=to.depth_tolerance,
            border=to.border_px,
        )
        for point in points.astype(np.float64).tolist()
    ]


def assert_agrees(found: Visible, expected: list[Sight]) -> int:
    """Ours and the oracle's agree wherever the margin exceeds MARGIN; returns how many points both see."""
    pixels = dict(
        zip(found.point_index.tolist(), zip(found.rows.tolist(), found.columns.tolist(), strict=True), strict=True)
    )
    assert list(pixels) == sorted(pixels)
    for index, sight in enumerate(expected):
        if sight.margin > MARGIN:
            assert (index in pixels) == sight.seen, (index, sight)
            assert not sight.seen or pixels[index] == (sight.row, sight.column)
    return sum(sight.seen for sight in expected)


def room(
    seed: int, depth_size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """50 points about a camera, 100 before it, most inside its view; a depth map with holes; its pose."""
    generator = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(generator.standard_normal((3, 3)))
    if np.linalg.det(rotation) < 0:
        rotation[:, 0] *= -1
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, generator.uniform(-0.5, 0.5, 3)
    anywhere = generator.uniform(-3, 3, (50, 3))
    before = generator.uniform([-0.6, -0.4, 1], [0.6, 0.4, 1], (100, 3)) * generator.uniform(0.5, 4, (100, 1))
    points = np.concatenate([anywhere, before @ rotation.T + pose[:3, 3]]).astype(np.float32)
    depth = generator.uniform(0.5, 4, (depth_size[1], depth_size[0]))
    depth[generator.random(depth.shape) < 0.15] = 0
    depth[0, :5] = [np.nan, np.inf, -1, 0, 2]
    return points, depth, pose


@given(seed=st.integers(0, 2**31), size=st.sampled_from([(64, 48), (128, 96), (96, 96), (50, 31), (640, 480)]))
@settings(max_examples=25, deadline=None)
def test_agrees_with_the_oracle_on_random_scenes(seed: int, size: tuple[int, int]) -> None:
    points, depth, pose = room(seed, size)
    generator = np.random.default_rng(seed)
    k = CENTRED * generator.uniform(0.5, 1.5, (3, 3))
    k[2] = [0, 0, 1]
    assert_agrees(visible(points, depth, k, pose, LIFTING), sights(points, depth, k, pose, LIFTING))


def test_the_random_scenes_have_both_outcomes() -> None:
    seen = 0
    for seed in range(10):
        points, depth, pose = room(seed, (64, 48))
        seen += assert_agrees(
            visible(points, depth, CENTRED, pose, LIFTING), sights(points, depth, CENTRED, pose, LIFTING)
        )
    assert 100 < seen < 1000


def test_more_points_than_a_block_keep_their_indices() -> None:
    points = np.zeros((140_000, 3), np.float32)
    points[:, 2] = -1
    points[[3, 65_535, 65_536, 139_999], 2] = 2
    found = visible(points, np.full((48, 64), 2.0), CENTRED, np.eye(4), LIFTING)
    assert found.point_index.tolist() == [3, 65_535, 65_536, 139_999]


def one(x: float, y: float, z: float, depth: float, lifting: Lifting = LIFTING) -> bool:
    """Whether a point in the camera's frame is seen before a flat wall."""
    points = np.array([[x, y, z]], np.float32)
    return len(visible(points, np.full((48, 64), depth), CENTRED, np.eye(4), lifting).rows) == 1


def test_a_point_is_seen_within_a_quarter_of_the_depth_before_and_behind_the_surface() -> None:
    assert one(0, 0, 2.0, 2.0)
    assert one(0, 0, 1.5, 2.0)
    assert one(0, 0, 2.5, 2.0)
    assert not one(0, 0, 1.49, 2.0)
    assert not one(0, 0, 2.51, 2.0)


def test_a_point_without_a_reading_or_behind_the_camera_is_not_seen() -> None:
    assert not one(0, 0, 2.0, 0.0)
    assert not one(0, 0, 2.0, float("nan"))
    assert not one(0, 0, 2.0, float("inf"))
    assert not one(0, 0, -2.0, 2.0)
    assert not one(0, 0, 0.0, 2.0)


def test_the_border_cut_takes_whole_pixels_from_each_edge() -> None:
    def at(column: float, row: float) -> bool:
        return one((column - 31.5) / 55 * 2, (row - 23.5) / 61 * 2, 2.0, 2.0)

    assert [at(c, 20) for c in (2.4, 2.6, 60.4, 60.6)] == [False, True, True, False]
    assert [at(30, r) for r in (2.4, 2.6, 44.4, 44.6)] == [False, True, True, False]


def test_no_point_and_a_border_that_takes_all_see_nothing() -> None:
    empty = visible(np.zeros((0, 3), np.float32), np.full((48, 64), 2.0), CENTRED, np.eye(4), LIFTING)
    assert empty.point_index.shape == empty.rows.shape == empty.columns.shape == (0,)
    assert empty.point_index.dtype == np.int64
    assert not one(0, 0, 2.0, 2.0, Lifting(width=64, height=48, border_px=24))

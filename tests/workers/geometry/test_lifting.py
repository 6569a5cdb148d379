from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from storage.specs.parts import Lifting
from tests.oracles.lifting_oracle import look, mean_over_views
from workers.geometry.lifting import Accumulator
from workers.geometry.visibility import visible

LIFTING = Lifting(width=64, height=48, border_px=2)
K = np.array([[52.0, 0.0, 30.0], [0.0, 60.0, 25.0], [0.0, 0.0, 1.0]])
Frame = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]


def frames(seed: int, count: int, dimension: int) -> list[Frame]:
    """Poses that look about, depth maps with holes and an embedding a pixel."""
    generator = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        angle = generator.uniform(-0.5, 0.5)
        pose = np.eye(4)
        pose[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
        pose[:3, 3] = generator.uniform(-0.4, 0.4, 3)
        depth = generator.uniform(1.5, 3, (48, 64)) * (generator.random((48, 64)) > 0.1)
        made.append((pose, depth, generator.standard_normal((48, 64, dimension), dtype=np.float32)))
    return made


@given(seed=st.integers(0, 2**31), count=st.integers(1, 5), dimension=st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_streamed_means_equal_the_naive_per_point_ones(seed: int, count: int, dimension: int) -> None:
    points = np.random.default_rng(seed).uniform([-1, -1, 0.5], [1, 1, 3.5], (120, 3)).astype(np.float32)
    accumulator = Accumulator(len(points), dimension)
    seen: list[list[tuple[int, list[float]]]] = []
    for pose, depth, embeddings in frames(seed, count, dimension):
        found = visible(points, depth, K, pose, LIFTING)
        accumulator.add(found.point_index, embeddings[found.rows, found.columns])
        sights = [
            look(p, depth.tolist(), K.tolist(), pose.tolist(), size=(64, 48), tolerance=0.25, border=2)
            for p in points.astype(np.float64).tolist()
        ]
        if min(s.margin for s in sights) < 1e-6:
            return  # too close to call in some frame: visibility's own test leaves such points out one by one
        seen.append([(i, embeddings[s.row, s.column].tolist()) for i, s in enumerate(sights) if s.seen])
    expected = mean_over_views(seen, len(points), dimension)
    lifted = accumulator.mean(np.float32)
    assert lifted.point_index.tolist() == sorted(expected)
    assert lifted.views.tolist() == [expected[i][1] if i in expected else 0 for i in range(len(points))]
    means = np.array([expected[i][0] for i in sorted(expected)]).reshape(-1, dimension)
    np.testing.assert_allclose(lifted.embeddings, means, atol=1e-5, rtol=1e-5)


def test_points_far_apart_and_frames_in_any_order_meet_their_own_sums() -> None:
    generator = np.random.default_rng(7)
    num_points, dimension = 20_000, 3
    truth = np.zeros((num_points, dimension))
    views = np.zeros(num_points, int)
    accumulator = Accumulator(num_points, dimension)
    for _ in range(6):
        index = np.flatnonzero(generator.random(num_points) < 0.02)
        embeddings = generator.standard_normal((len(index), dimension), dtype=np.float32)
        accumulator.add(index, embeddings)
        for i, e in zip(index.tolist(), embeddings.astype(np.float64), strict=True):
            truth[i] += e
            views[i] += 1
    lifted = accumulator.mean(np.float32)
    assert lifted.point_index.tolist() == np.flatnonzero(views).tolist()
    assert lifted.views.tolist() == views.tolist()
    seen = views > 0
    np.testing.assert_allclose(lifted.embeddings, truth[seen] / views[seen, None], atol=1e-6)


def test_the_mean_is_rounded_once_to_float16() -> None:
    accumulator = Accumulator(2, 1)
    for value in (1.0, 1.0, 1.00146484375):
        accumulator.add(np.array([1]), np.array([[value]], np.float32))
    lifted = accumulator.mean()
    assert lifted.embeddings.dtype == np.float16
    assert lifted.views.dtype == np.uint16
    assert lifted.embeddings.tolist() == [[float(np.float16(np.float32(3.00146484375) / np.float32(3)))]]


def test_a_scene_that_nothing_sees_gives_empty_arrays() -> None:
    accumulator = Accumulator(5, 4)
    accumulator.add(np.zeros(0, np.int64), np.zeros((0, 4), np.float32))
    lifted = accumulator.mean()
    assert lifted.embeddings.shape == (0, 4)
    assert lifted.point_index.shape == (0,)
    assert lifted.views.tolist() == [0] * 5


@pytest.mark.parametrize(
    ("index", "shape", "message"),
    [
        ([0, 1], (2, 3), "expected \\(2, 4\\)"),
        ([0, 1], (1, 4), "expected \\(2, 4\\)"),
        ([1, 1], (2, 4), "strictly ascending"),
        ([2, 1], (2, 4), "strictly ascending"),
        ([3, 5], (2, 4), "5 points"),
        ([-1, 2], (2, 4), "5 points"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(
    index: list[int], shape: tuple[int, int], message: str
) -> None:
    accumulator = Accumulator(5, 4)
    with pytest.raises(ValueError, match=message):
        accumulator.add(np.array(index), np.ones(shape, np.float32))
    assert accumulator.mean().views.sum() == 0


def test_an_ended_accumulator_says_so() -> None:
    accumulator = Accumulator(5, 4)
    accumulator.mean()
    with pytest.raises(RuntimeError, match="ended by mean"):
        accumulator.add(np.array([0]), np.ones((1, 4), np.float32))
    with pytest.raises(RuntimeError, match="ended by mean"):
        accumulator.mean()


def test_more_views_than_can_be_counted_are_refused() -> None:
    accumulator = Accumulator(1, 1)
    one = np.ones((1, 1), np.float32)
    index = np.array([0])
    for _ in range(65_535):
        accumulator.add(index, one)
    with pytest.raises(ValueError, match="65535 frames"):
        accumulator.add(index, one)
    assert accumulator.mean().views.tolist() == [65_535]

from __future__ import annotations

import math
from collections import defaultdict

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from workers.geometry.voxels import voxelize

metres = st.floats(-30, 30, width=32)
clouds = st.lists(st.tuples(metres, metres, metres), min_size=1, max_size=80)


@given(clouds, st.sampled_from([0.02, 0.05, 0.3, 7.0]))
@settings(max_examples=150, deadline=None)
def test_agrees_with_a_dictionary_of_cells(points: list[tuple[float, float, float]], edge: float) -> None:
    cells: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, point in enumerate(points):
        cells[tuple(math.floor(value / edge) for value in point)].append(i)
    got = voxelize(np.array(points, dtype=np.float32), edge)
    assert [tuple(row) for row in got.coordinates.tolist()] == sorted(cells)
    assert got.num_voxels == len(cells)
    for voxel, cell in enumerate(sorted(cells)):
        assert np.flatnonzero(got.point_to_voxel == voxel).tolist() == cells[cell]
        assert got.representative[voxel] == cells[cell][0]
        assert got.points_per_voxel[voxel] == len(cells[cell])


def test_means_are_those_of_each_voxels_points() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (700, 3)).astype(np.float32)
    colours = rng.integers(0, 256, (700, 3), dtype=np.uint8)
    got = voxelize(points, 0.4)
    means = got.mean(colours)
    assert (means.shape, means.dtype) == ((got.num_voxels, 3), np.float32)
    for voxel in range(got.num_voxels):
        mine = colours[got.point_to_voxel == voxel].astype(np.float64)
        np.testing.assert_allclose(means[voxel], mine.sum(0) / len(mine), rtol=1e-6)


def test_types_and_determinism() -> None:
    points = np.random.default_rng(1).normal(size=(500, 3)).astype(np.float32)
    one, two = voxelize(points, 0.1), voxelize(points.copy(), 0.1)
    assert (one.coordinates.dtype, one.point_to_voxel.dtype) == (np.int32, np.int64)
    assert (one.coordinates.shape[1], one.point_to_voxel.shape) == (3, (500,))
    for name in ("coordinates", "point_to_voxel", "representative", "points_per_voxel"):
        assert np.array_equal(getattr(one, name), getattr(two, name))


@pytest.mark.parametrize(
    ("points", "edge", "message"),
    [
        (np.zeros((0, 3), np.float32), 0.1, "expected"),
        (np.zeros((4, 2), np.float32), 0.1, "expected"),
        (np.zeros((4, 3), np.float32), 0.0, "more than 0"),
        (np.zeros((4, 3), np.float32), math.nan, "more than 0"),
        (np.full((4, 3), np.nan, np.float32), 0.1, "not finite"),
        (np.full((4, 3), np.inf, np.float32), 0.1, "not finite"),
        (np.full((4, 3), 1e9, np.float32), 0.1, "from the origin"),
    ],
)
def test_bad_input_is_refused(points: NDArray[np.float32], edge: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        voxelize(points, edge)


def test_values_must_have_a_row_a_point() -> None:
    with pytest.raises(ValueError, match="a row a point"):
        voxelize(np.zeros((4, 3), np.float32), 0.1).mean(np.zeros((3, 3)))

"""Augmentation: what it may change, what it must keep, and where its chance comes from."""

from __future__ import annotations

import numpy as np

from storage.specs.parts import Augment
from workers.learning.augment import augment, elastic

STILL = Augment(rotate=False, flip=0, scale=0, elastic=False, colour_jitter=0, colour_shift=0)


def cloud(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return (rng.random((400, 3)) * [4, 3, 2.5]).astype(np.float32), rng.random((400, 3)).astype(np.float32)


def distances(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points[:50, None].astype(np.float64) - points[None, 50:100], axis=2)


def test_nothing_but_the_centre_changes_where_everything_is_off() -> None:
    points, colours = cloud()
    moved, recoloured = augment(points, colours, STILL, np.random.default_rng(1))
    np.testing.assert_allclose(moved, points - points.mean(axis=0), atol=1e-6)
    np.testing.assert_array_equal(recoloured, colours)


def test_rotation_and_flips_keep_distances_and_height() -> None:
    points, colours = cloud()
    options = STILL.model_copy(update={"rotate": True, "flip": 1.0})
    moved, _ = augment(points, colours, options, np.random.default_rng(1))
    assert np.abs(moved[:, :2] - (points - points.mean(axis=0))[:, :2]).max() > 0.1
    np.testing.assert_allclose(distances(moved), distances(points), atol=1e-5)
    np.testing.assert_allclose(moved[:, 2] - moved[0, 2], points[:, 2] - points[0, 2], atol=1e-5)


def test_elastic_distortion_moves_points_smoothly() -> None:
    points, _ = cloud()
    twin = points + np.float32(1e-3)
    both = elastic(np.concatenate([points, twin]), 0.2, 0.4, np.random.default_rng(3))
    shift = both[:400] - points
    assert 0.005 < np.abs(shift).mean() < 0.2
    neighbours = np.abs((both[400:] - twin) - shift)
    assert neighbours.max() < 0.02


def test_colours_stay_in_range_and_equal_chance_gives_equal_results() -> None:
    points, colours = cloud()
    options = Augment(colour_jitter=0.5, colour_shift=0.5)
    first = augment(points, colours, options, np.random.default_rng(7))
    second = augment(points, colours, options, np.random.default_rng(7))
    third = augment(points, colours, options, np.random.default_rng(8))
    assert first[1].min() >= 0 and first[1].max() <= 1
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert not np.array_equal(first[0], third[0])


def test_the_given_arrays_are_left_alone() -> None:
    points, colours = cloud()
    kept = points.copy(), colours.copy()
    augment(points, colours, Augment(), np.random.default_rng(1))
    np.testing.assert_array_equal(points, kept[0])
    np.testing.assert_array_equal(colours, kept[1])

"""Augmentation: what it may change, what it must keep, and where its chance comes from."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest

from storage.specs.parts import Augment
from storage.specs.presets import AUTHORS_AUGMENT
from workers.learning.augment import augment, elastic, stretched, turned_hue

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


def test_tilts_keep_distances_and_stay_small() -> None:
    points, colours = cloud()
    options = STILL.model_copy(update={"tilt_deg": 2.8125})
    centred = points - points.mean(axis=0)
    moved, _ = augment(points, colours, options, np.random.default_rng(1))
    np.testing.assert_allclose(distances(moved), distances(points), atol=1e-5)
    # two tilts of at most 2.8 degrees turn no point by more than the sum of both
    angle = np.arccos(np.clip((moved * centred).sum(1) / (centred**2).sum(1), -1, 1))
    assert 0.005 < angle.max() < 2 * np.deg2rad(2.8125)


@pytest.mark.parametrize(("turn", "factor"), [(0.0, 1.0), (0.3, 1.0), (-0.45, 0.8), (0.1, 1.2)])
def test_hue_and_saturation_are_those_of_the_standard_library(turn: float, factor: float) -> None:
    colours = cloud()[1][:200]
    colours[:3] = [[0, 0, 0], [0.5, 0.5, 0.5], [1, 0, 0]]
    expected = []
    for colour in colours.astype(float):
        hue, saturation, value = colorsys.rgb_to_hsv(*colour)
        expected.append(colorsys.hsv_to_rgb((hue + turn) % 1, min(1.0, saturation * factor), value))
    np.testing.assert_allclose(turned_hue(colours, turn, factor), expected, atol=1e-5)


def test_stretched_colours_fill_the_range_channel_by_channel() -> None:
    colours = cloud()[1] * 0.4 + 0.3
    colours[:, 2] = 0.6
    filled = stretched(colours)
    np.testing.assert_allclose(filled[:, :2].min(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(filled[:, :2].max(axis=0), 1, atol=1e-6)
    np.testing.assert_array_equal(filled[:, 2], colours[:, 2])
    np.testing.assert_array_equal(np.argsort(filled[:, 0]), np.argsort(colours[:, 0]))


def test_what_is_off_draws_no_chance_so_that_older_trainings_repeat() -> None:
    points, colours = cloud()
    options = Augment(elastic=False, colour_shift=0.3)
    rng = np.random.default_rng(4)
    moved, recoloured = augment(points, colours, options, rng)
    again = np.random.default_rng(4)
    flips = [again.random() < 0.5 for _ in range(2)]
    again.uniform(-0.0, 0.0)
    again.random()
    shift = again.uniform(-0.3, 0.3, (1, 3))
    jitter = again.normal(0, 0.05, colours.shape)
    signs = np.array([*(-1.0 if flip else 1.0 for flip in flips), 1.0])
    np.testing.assert_allclose(moved, (points - points.mean(axis=0)) * signs, atol=1e-6)
    np.testing.assert_allclose(recoloured, np.clip(colours + shift + jitter, 0, 1), atol=1e-6)
    assert rng.random() == again.random()


def test_the_authors_augmentation_is_a_similarity_and_new_colours() -> None:
    points, colours = cloud()
    moved, recoloured = augment(points, colours, AUTHORS_AUGMENT, np.random.default_rng(2))
    ratio = distances(moved) / distances(points)
    assert ratio.std() < 1e-4, "turns, tilts, flips and one scale; nothing elastic"
    assert 0.9 <= ratio.mean() <= 1.1
    assert np.abs(recoloured - colours).mean() > 0.05
    assert recoloured.min() >= 0
    assert recoloured.max() <= 1

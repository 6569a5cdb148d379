"""Scores against a naive per-point oracle, and degenerate cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from storage.labels import IGNORE
from workers import scoring


def oracle(truth: list[int], predicted: list[int], num_classes: int) -> tuple[list[float], list[float]]:
    """IoU and recall per class by counting points one at a time; NaN where undefined."""
    ious, recalls = [], []
    for k in range(num_classes):
        both = either = true = 0
        for t, p in zip(truth, predicted, strict=True):
            if t == IGNORE:
                continue
            both += t == k and p == k
            either += t == k or p == k
            true += t == k
        ious.append(both / either if either else math.nan)
        recalls.append(both / true if true else math.nan)
    return ious, recalls


labels = hnp.arrays(np.int16, st.integers(0, 60), elements=st.integers(-1, 4))


@given(labels, st.integers(0, 2**16))
def test_scores_agree_with_counting_points(truth: np.ndarray, seed: int) -> None:
    predicted = np.random.default_rng(seed).integers(-1, 5, len(truth)).astype(np.int16)
    got = scoring.scores(scoring.confusion(truth, predicted, 5))
    ious, recalls = oracle(truth.tolist(), predicted.tolist(), 5)
    np.testing.assert_allclose(got.iou, ious)
    np.testing.assert_allclose(got.accuracy, recalls)
    defined = [x for x in ious if not math.isnan(x)]
    if defined:
        assert got.miou == pytest.approx(sum(defined) / len(defined))
    else:
        assert math.isnan(got.miou)
    assert got.num_points == int((truth != IGNORE).sum())


def test_a_class_predicted_but_absent_counts_as_zero_and_one_in_neither_counts_not_at_all() -> None:
    got = scoring.scores(scoring.confusion(np.array([0, 0], np.int16), np.array([0, 1], np.int16), 3))
    assert got.iou[0] == 0.5
    assert got.iou[1] == 0.0
    assert math.isnan(got.iou[2])
    assert got.miou == 0.25
    assert got.macc == 0.5


def test_a_point_without_prediction_counts_against_its_class() -> None:
    got = scoring.scores(scoring.confusion(np.array([0, 0], np.int16), np.array([0, IGNORE], np.int16), 1))
    assert got.iou[0] == 0.5


def test_lengths_and_ranges_are_checked() -> None:
    with pytest.raises(ValueError, match="2 predictions for 1 points"):
        scoring.confusion(np.zeros(1, np.int16), np.zeros(2, np.int16), 3)
    with pytest.raises(ValueError, match="outside"):
        scoring.confusion(np.zeros(1, np.int16), np.full(1, 3, np.int16), 3)


def test_uncovered_points_take_the_class_of_the_nearest_covered_one() -> None:
    rng = np.random.default_rng(5)
    points = rng.random((200, 3)).astype(np.float32)
    given_labels = rng.integers(0, 7, 200).astype(np.int16)
    covered = rng.random(200) < 0.3
    filled = scoring.fill_uncovered(points, np.where(covered, given_labels, IGNORE).astype(np.int16), covered)
    for i in range(200):
        distances = np.linalg.norm(points[covered].astype(np.float64) - points[i], axis=1)
        expected = given_labels[i] if covered[i] else given_labels[covered][distances.argmin()]
        assert filled[i] == expected

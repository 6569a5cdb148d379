"""Scores: confusion matrix, IoU and accuracy per class, mIoU and mAcc; and classes for points that no view covers.

Source: section 4.1 (mean intersection over union). Points whose truth is IGNORE enter nothing; a prediction of IGNORE
counts against its true class. A class that is neither in the truth nor predicted has no IoU and enters no mean; mAcc
is over the classes in the truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from storage.labels import IGNORE


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one prediction over a set of points."""

    iou: NDArray[np.float64]
    """(K,) in 0..1; NaN where undefined."""
    accuracy: NDArray[np.float64]
    """(K,) recall of each class, in 0..1; NaN where the truth has none."""
    miou: float
    """Mean of the defined IoUs, NaN where there is none."""
    macc: float
    num_points: int


def confusion(truth: NDArray[np.int16], predicted: NDArray[np.int16], num_classes: int) -> NDArray[np.int64]:
    """(K,K+1) counts of points by true class (rows) and predicted class; the last column is IGNORE.

    Raises:
        ValueError: lengths differ, or a label is out of range.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"got {len(predicted)} predictions for {len(truth)} points")
    for name, labels in (("truth", truth), ("prediction", predicted)):
        if len(labels) and (labels.min() < IGNORE or labels.max() >= num_classes):
            raise ValueError(f"the {name} holds labels outside {IGNORE}..{num_classes - 1}")
    scored = truth != IGNORE
    column = np.where(predicted[scored] == IGNORE, num_classes, predicted[scored]).astype(np.int64)
    cells = truth[scored].astype(np.int64) * (num_classes + 1) + column
    return np.bincount(cells, minlength=num_classes * (num_classes + 1)).reshape(num_classes, num_classes + 1)


def scores(matrix: NDArray[np.int64]) -> Scores:
    """The scores of a (K,K+1) confusion matrix."""
    hits = np.diagonal(matrix).astype(np.float64)
    in_truth = matrix.sum(axis=1)
    predicted = matrix[:, :-1].sum(axis=0)
    union = in_truth + predicted - hits
    iou = np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)
    accuracy = np.divide(hits, in_truth, out=np.full(len(hits), np.nan), where=in_truth > 0)
    return Scores(iou, accuracy, _mean(iou), _mean(accuracy), int(matrix.sum()))


def _mean(values: NDArray[np.float64]) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def fill_uncovered(
    points_m: NDArray[np.float32], labels: NDArray[np.int16], covered: NDArray[np.bool_]
) -> NDArray[np.int16]:
    """Labels in which every uncovered point takes the class of the nearest covered one.

    Args:
        points_m: (N,3) metres.
        labels: (N,).
        covered: (N,) True where a view covers the point; at least one must be.
    """
    if covered.all():
        return labels
    _, nearest = cKDTree(points_m[covered]).query(points_m[~covered])
    filled = labels.copy()
    filled[~covered] = labels[covered][nearest]
    return filled

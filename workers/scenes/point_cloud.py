"""A point cloud and its ground truth, before they are a scene. Knows arrays; knows no file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.labels import IGNORE


@dataclass(frozen=True, slots=True, eq=False)
class Cloud:
    """A point cloud and, where known, its ground truth."""

    points_m: NDArray[np.float32]
    """(N,3) metres."""
    colours: NDArray[np.uint8]
    """(N,3) RGB."""
    labels: NDArray[np.int16] | None = None
    """(N,), IGNORE where a point has none."""


def fit_together(points: NDArray[Any], colours: NDArray[Any], labels: NDArray[Any] | None) -> bool:
    """Whether these are points (N,3), colours (N,3) and, where given, labels (N,)."""
    n = len(points)
    return points.shape == (n, 3) and colours.shape == (n, 3) and (labels is None or labels.shape == (n,))


def classes_present(labels: NDArray[np.int16] | None) -> tuple[int, ...]:
    """The scene-level labels that ground truth gives: every label that a point has, ascending; without any, none.

    Examples:
        >>> classes_present(np.array([3, -1, 0, 3], np.int16)), classes_present(None)
        ((0, 3), ())
    """
    return () if labels is None else tuple(int(label) for label in np.unique(labels) if label != IGNORE)

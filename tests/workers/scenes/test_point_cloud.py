"""Clouds: which arrays make one, and which classes its labels name."""

from __future__ import annotations

import numpy as np
import pytest

from workers.scenes.point_cloud import classes_present, fit_together


def test_classes_present_are_ascending_and_leave_out_what_is_ignored() -> None:
    present = classes_present(np.array([4, -1, 0, 4], np.int16))
    assert present == (0, 4) and all(type(label) is int for label in present)
    assert classes_present(np.array([-1, -1], np.int16)) == () == classes_present(None)


@pytest.mark.parametrize(
    ("points", "colours", "labels", "fit"),
    [
        ((4, 3), (4, 3), None, True),
        ((4, 3), (4, 3), (4,), True),
        ((0, 3), (0, 3), (0,), True),
        ((4, 3), (3, 3), None, False),
        ((4, 3), (4, 4), None, False),
        ((4, 2), (4, 3), None, False),
        ((4,), (4, 3), None, False),
        ((4, 3), (4, 3), (3,), False),
        ((4, 3), (4, 3), (4, 1), False),
    ],
)
def test_arrays_fit_where_they_speak_of_the_same_points(
    points: tuple[int, ...], colours: tuple[int, ...], labels: tuple[int, ...] | None, fit: bool
) -> None:
    given = np.zeros(points), np.zeros(colours), None if labels is None else np.zeros(labels)
    assert fit_together(*given) is fit

"""Charts beside a naive truth that holds every point."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from storage.records import charts, metrics
from storage.records.claims import Claim
from storage.records.database import Database

Claimed = Callable[..., Claim]
Points = dict[int, float | None]


@pytest.fixture
def run_id(db: Database, claimed: Claimed) -> str:
    return claimed().run_id


def write(db: Database, run_id: str, name: str, points: Points) -> None:
    with db.write() as session:
        metrics.append(session, run_id, [(name, step, value) for step, value in points.items()])


def naive(points: Points, begin: int, end: int, width: int) -> list[tuple[object, ...]]:
    """(first step, last step, count, first, min, max, last) of every bucket, point by point."""
    made: dict[int, list[tuple[int, float | None]]] = {}
    for step in sorted(points):
        if begin <= step <= end:
            made.setdefault(math.floor((step - begin) / width), []).append((step, points[step]))
    rows: list[tuple[object, ...]] = []
    for bucket in made.values():
        finite = [value for _, value in bucket if value is not None]
        least, most = (min(finite), max(finite)) if finite else (None, None)
        rows.append((bucket[0][0], bucket[-1][0], len(bucket), bucket[0][1], least, most, bucket[-1][1]))
    return rows


def rows_of(series: charts.Series) -> list[tuple[object, ...]]:
    columns = (series.first_step, series.last_step, series.count, series.first, series.min, series.max, series.last)
    return list(zip(*columns, strict=True))


VALUES = st.none() | st.floats(-1e6, 1e6, allow_nan=False)


@profile(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    points=st.dictionaries(st.integers(-50, 200), VALUES, max_size=60),
    buckets=st.integers(1, 40),
    first=st.none() | st.integers(-60, 210),
    last=st.none() | st.integers(-60, 210),
)
def test_buckets_are_those_of_the_naive_truth(
    db: Database, run_id: str, points: Points, buckets: int, first: int | None, last: int | None
) -> None:
    with db.write() as session:
        session.connection().exec_driver_sql("DELETE FROM metrics")
    write(db, run_id, "loss", points)
    write(db, run_id, "other", {0: 1.0})
    chart = charts.chart(db, run_id, buckets, "loss", first=first, last=last)
    kept = [s for s in points if (first is None or s >= first) and (last is None or s <= last)]
    assert sum(one.num_points for one in chart.series) == len(kept)
    for one in chart.series:
        assert one.name == "loss" and len(one.count) <= buckets
        assert rows_of(one) == naive(points, chart.first, chart.last, chart.width)
    assert (chart.last < chart.first) <= (not kept)


def test_all_metrics_share_their_buckets(db: Database, run_id: str) -> None:
    loss: Points = {step: 1 / (1 + step) for step in range(1000)}
    miou: Points = {step: step / 1000 for step in range(0, 2000, 100)}
    write(db, run_id, "loss", loss)
    write(db, run_id, "miou", miou)
    chart = charts.chart(db, run_id, 10)
    assert (chart.first, chart.last, chart.width) == (0, 1999 - 99, 191)
    assert [one.name for one in chart.series] == ["loss", "miou"]
    for one, points in zip(chart.series, (loss, miou), strict=True):
        assert rows_of(one) == naive(points, chart.first, chart.last, chart.width)


def test_a_run_without_points_has_an_empty_chart(db: Database, run_id: str) -> None:
    chart = charts.chart(db, run_id, 10, first=5)
    assert chart.series == () and chart.last < chart.first


def test_steps_far_apart_do_not_overflow(db: Database, run_id: str) -> None:
    points: Points = {-(2**53): 1.0, 0: 2.0, 2**53: 3.0}
    write(db, run_id, "x", points)
    chart = charts.chart(db, run_id, 3)
    assert rows_of(chart.series[0]) == naive(points, chart.first, chart.last, chart.width)


def test_history_is_read_within_a_range(db: Database, run_id: str) -> None:
    write(db, run_id, "x", {step: float(step) for step in range(10)})
    assert [p.step for p in metrics.history(db, run_id, "x", first=3, last=6)] == [3, 4, 5, 6]
    assert [p.step for p in metrics.history(db, run_id, first=8)] == [8, 9]

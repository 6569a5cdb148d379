"""Metrics as a chart needs them: buckets of steps, each with its first, least, greatest and last value.

A bucket is a range of steps of one width; a line through first, min, max and last of every bucket is, at a bucket a
pixel, the line through all points. Made by the database in one walk over the primary key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Select, and_, func, select
from sqlalchemy.orm import Session, aliased

from storage.records.database import Database
from storage.records.tables import MetricRow

MAX_BUCKETS = 5000
"""Most buckets that a chart has for each metric."""


@dataclass(slots=True)
class Series:
    """One metric; lists with an entry for each bucket that has points, by rising step."""

    name: str
    num_points: int = 0
    """Points behind all buckets."""
    first_step: list[int] = field(default_factory=list)
    last_step: list[int] = field(default_factory=list)
    count: list[int] = field(default_factory=list)
    first: list[float | None] = field(default_factory=list)
    """Value at the bucket's first step; None where it was not finite."""
    min: list[float | None] = field(default_factory=list)
    """Least of the finite values; None where there is none."""
    max: list[float | None] = field(default_factory=list)
    last: list[float | None] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Chart:
    """Metrics of a run over a range of steps, in buckets."""

    first: int
    """First step of the range, where the first bucket begins."""
    last: int
    """Last step of the range, included; below `first` where there is no point."""
    width: int
    """Steps a bucket."""
    series: tuple[Series, ...]
    """By name."""


def chart(
    db: Database,
    run_id: str,
    buckets: int,
    name: str | None = None,
    *,
    first: int | None = None,
    last: int | None = None,
) -> Chart:
    """A run's metrics in at most so many buckets each.

    Args:
        db: the database.
        run_id: the run.
        buckets: most buckets a metric, 1 to MAX_BUCKETS.
        name: only this metric; None takes all, in the same buckets.
        first: first step; None takes the first that there is.
        last: last step, included; None takes the last that there is.
    """
    buckets = max(1, min(buckets, MAX_BUCKETS))
    with db.read() as session:
        known = _bounds(session, run_id, name)
        if known is None:
            return Chart(first or 0, (first or 0) - 1, 1, ())
        begin = max(known[0], known[0] if first is None else first)
        end = min(known[1], known[1] if last is None else last)
        width = max(1, -(-(end - begin + 1) // buckets))
        if end < begin:
            return Chart(begin, begin - 1, 1, ())
        found: dict[str, Series] = {}
        for name_, first_step, last_step, count, *values in session.execute(_buckets(run_id, name, begin, end, width)):
            series = found.setdefault(name_, Series(name_))
            series.num_points += count
            series.first_step.append(first_step)
            series.last_step.append(last_step)
            series.count.append(count)
            for column, value in zip((series.first, series.min, series.max, series.last), values, strict=True):
                column.append(value)
    return Chart(begin, end, width, tuple(found[name_] for name_ in sorted(found)))


def _bounds(session: Session, run_id: str, name: str | None) -> tuple[int, int] | None:
    """The first and the last step of a metric, or of all of a run's; None where there is no point.

    Two statements: each reads one entry of the index where the name is known.
    """
    of = (MetricRow.run_id == run_id, *(() if name is None else (MetricRow.name == name,)))
    first = session.scalar(select(func.min(MetricRow.step)).where(*of))
    last = session.scalar(select(func.max(MetricRow.step)).where(*of))
    return None if first is None or last is None else (first, last)


def _buckets(run_id: str, name: str | None, begin: int, end: int, width: int) -> Select[Any]:
    """Name, first step, last step, count, first, min, max and last value of each bucket."""
    of = [MetricRow.run_id == run_id, MetricRow.step.between(begin, end)]
    if name is not None:
        of.append(MetricRow.name == name)
    number = (MetricRow.step - begin) // width
    grouped = (
        select(
            MetricRow.name.label("name"),
            number.label("bucket"),
            func.min(MetricRow.step).label("first_step"),
            func.max(MetricRow.step).label("last_step"),
            func.count().label("number"),
            func.min(MetricRow.value).label("least"),
            func.max(MetricRow.value).label("greatest"),
        )
        .where(*of)
        .group_by("name", "bucket")
        .subquery()
    )
    at_first, at_last, b = aliased(MetricRow), aliased(MetricRow), grouped.c
    return (
        select(b.name, b.first_step, b.last_step, b.number, at_first.value, b.least, b.greatest, at_last.value)
        .select_from(grouped)
        .join(at_first, and_(at_first.run_id == run_id, at_first.name == b.name, at_first.step == b.first_step))
        .join(at_last, and_(at_last.run_id == run_id, at_last.name == b.name, at_last.step == b.last_step))
        .order_by(b.name, b.first_step)
    )

"""Metrics of runs: named series of values by step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from storage.records import metric_summaries
from storage.records.database import Database, now
from storage.records.tables import MetricRow

T = TypeVar("T")

MAX_POINTS = 10_000
"""Most points that one reading gives."""


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """One value; None where it was not finite."""

    name: str
    step: int
    value: float | None
    at: datetime


def finite(value: T) -> T | None:
    """The value, or None for a number that is not finite: neither JSON nor every database has a word for it."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def append(session: Session, run_id: str, points: Iterable[tuple[str, int, float | None]]) -> None:
    """Writes points within a transaction that holds the run; a step that is known already is overwritten.

    Args:
        session: the transaction.
        run_id: the run.
        points: (name, step, value), the last of a step counts; None and what is not finite become NULL.
    """
    moment = now(session)
    last = {(name, step): finite(value) for name, step, value in points}
    if not last:
        return
    connection = session.connection()
    if connection.dialect.name == "sqlite":
        at = moment.strftime("%Y-%m-%d %H:%M:%S.%f")  # as SQLAlchemy writes it
        rows = [(run_id, name, step, value, at) for (name, step), value in last.items()]
        connection.exec_driver_sql(_INTO_SQLITE, rows)
    else:
        names, steps = zip(*last, strict=True)
        columns = {"names": list(names), "steps": list(steps), "values": list(last.values())}
        connection.execute(_INTO_POSTGRES, {"run_id": run_id, "at": moment, **columns})
    metric_summaries.note(session, run_id, last)


_KNOWN = "ON CONFLICT (run_id, name, step) DO UPDATE SET value = excluded.value, at = excluded.at"
_INTO_SQLITE = f"INSERT INTO metrics (run_id, name, step, value, at) VALUES (?, ?, ?, ?, ?) {_KNOWN}"
_INTO_POSTGRES = text(
    "INSERT INTO metrics (run_id, name, step, value, at) SELECT :run_id, name, step, value, :at FROM"
    " unnest(CAST(:names AS varchar[]), CAST(:steps AS bigint[]), CAST(:values AS float8[])) AS new (name, step, value)"
    f" ORDER BY name, step {_KNOWN}"
)
# Neither goes through SQLAlchemy's columns: a tenth of the time a point.


def history(
    db: Database,
    run_id: str,
    name: str | None = None,
    limit: int = 1000,
    *,
    first: int | None = None,
    last: int | None = None,
) -> list[MetricPoint]:
    """A run's metrics by rising step: the last `limit` points, of one name or of all, within a range of steps."""
    query = select(MetricRow.name, MetricRow.step, MetricRow.value, MetricRow.at).where(MetricRow.run_id == run_id)
    if name is not None:
        query = query.where(MetricRow.name == name)
    if first is not None:
        query = query.where(MetricRow.step >= first)
    if last is not None:
        query = query.where(MetricRow.step <= last)
    query = query.order_by(MetricRow.step.desc(), MetricRow.name.desc()).limit(max(1, min(limit, MAX_POINTS)))
    with db.read() as session:
        rows = session.execute(query).all()
    return [MetricPoint(*row) for row in reversed(rows)]

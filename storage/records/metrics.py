"""Metrics of runs: named series of values by step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.records import metric_summaries
from storage.records.database import Database, now
from storage.records.tables import MetricRow

T = TypeVar("T")

MAX_POINTS = 10_000
"""Most points that one reading gives."""
_AT_ONCE = 500


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


def append(session: Session, run_id: str, points: Sequence[tuple[str, int, float]]) -> None:
    """Writes points within a transaction that holds the run; a step that is known already is overwritten."""
    moment = now(session)
    last = {(name, step): finite(float(value)) for name, step, value in points}
    rows = [
        {"run_id": run_id, "name": name, "step": step, "value": value, "at": moment}
        for (name, step), value in last.items()
    ]
    # Here, for importing both takes as long as all other records together.
    from sqlalchemy.dialects import postgresql, sqlite

    dialect = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    for first in range(0, len(rows), _AT_ONCE):
        statement = dialect.insert(MetricRow).values(rows[first : first + _AT_ONCE])
        known = [MetricRow.run_id, MetricRow.name, MetricRow.step]
        new = {"value": statement.excluded.value, "at": statement.excluded.at}
        session.execute(statement.on_conflict_do_update(index_elements=known, set_=new))
    metric_summaries.note(session, run_id, last)


def history(db: Database, run_id: str, name: str | None = None, limit: int = 1000) -> list[MetricPoint]:
    """A run's metrics by rising step: the last `limit` points, of one name or of all."""
    query = select(MetricRow).where(MetricRow.run_id == run_id)
    if name is not None:
        query = query.where(MetricRow.name == name)
    query = query.order_by(MetricRow.step.desc(), MetricRow.name.desc()).limit(max(1, min(limit, MAX_POINTS)))
    with db.read() as session:
        rows = list(session.scalars(query))
    return [MetricPoint(row.name, row.step, row.value, row.at) for row in reversed(rows)]

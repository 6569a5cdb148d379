"""Events: what happened to runs, in the order in which it was committed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from storage.records.database import Database
from storage.records.pages import clamp
from storage.records.tables import EventRow, RunRow


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `kind` is "state" where it moved the run, else "note"; `state` is the run's state after it."""

    id: int
    run_id: str
    at: datetime
    kind: str
    state: str
    attempt: int
    message: str


def last(db: Database) -> int:
    """The id of the last event that is there; 0 before the first. While it stays, no run has changed its state.

    It falls where the last events are deleted with their runs. No id is given twice, so that it comes to another value
    with the next event all the same. `id_counters.last_given` only rises, and may be ahead of what is committed.
    """
    with db.read() as session:
        return session.scalar(select(func.max(EventRow.id))) or 0


def after(
    db: Database, run_id: str | None = None, cursor: int = 0, limit: int = 100, *, experiment_id: str | None = None
) -> list[Event]:
    """The events after the one with the id `cursor` (0: from the first), oldest first.

    Ids rise in commit order, so the last id of one reading is the cursor of the next and none is missed.

    Args:
        db: the database.
        run_id: only this run's.
        cursor: id of the last event that is known already.
        limit: most events, 1 to 500.
        experiment_id: only those of this experiment's runs.
    """
    query = select(EventRow).where(EventRow.id > cursor).order_by(EventRow.id).limit(clamp(limit))
    if run_id is not None:
        query = query.where(EventRow.run_id == run_id)
    if experiment_id is not None:
        runs = select(RunRow.id).where(RunRow.experiment_id == experiment_id)
        query = query.where(EventRow.run_id.in_(runs))
    with db.read() as session:
        return [_read(row) for row in session.scalars(query)]


def after_with_experiments(db: Database, cursor: int, limit: int) -> list[tuple[Event, str | None]]:
    """The events after the one with the id `cursor`, each with its run's experiment, in one reading."""
    query = select(EventRow, RunRow.experiment_id).join(RunRow, RunRow.id == EventRow.run_id)
    query = query.where(EventRow.id > cursor).order_by(EventRow.id).limit(clamp(limit))
    with db.read() as session:
        return [(_read(row), experiment_id) for row, experiment_id in session.execute(query)]


def _read(row: EventRow) -> Event:
    return Event(row.id, row.run_id, row.at, row.kind, row.state, row.attempt, row.message)

"""Fencing: a write transaction in which a token is known to hold its run. Knows nothing of what runs make."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.errors import LeaseLost
from storage.records.database import Database, now
from storage.records.runs import cancelled_by, move, printable, row_of
from storage.records.states import AttemptState
from storage.records.tables import AttemptRow, RunRow


@contextmanager
def holding(db: Database, token: str, *, ordered: bool = True) -> Iterator[tuple[Session, RunRow, AttemptRow]]:
    """A write transaction with the token's attempt and its run, both locked.

    Args:
        db: the database.
        token: a fencing token.
        ordered: as for `Database.write`.

    Raises:
        LeaseLost: the token's attempt is no longer the run's current, living one.
    """
    with db.write(ordered=ordered) as session:
        attempt = session.scalars(select(AttemptRow).where(AttemptRow.token == token).with_for_update()).one_or_none()
        if attempt is None:
            raise LeaseLost(f"got a fencing token that no attempt has ({token[:6]}...); claim the run first")
        row = row_of(session, attempt.run_id, lock=True)
        if attempt.state != "running" or row.state != "running" or row.token != token:
            raise LeaseLost(
                f"attempt {attempt.number} of the run {row.id} is {attempt.state} and the run is {row.state}:"
                " its lease is gone, and it may write nothing more"
            )
        yield session, row, attempt


def close(session: Session, attempt: AttemptRow, state: AttemptState, reason: str | None) -> None:
    """Ends an attempt within such a transaction."""
    attempt.state = state
    attempt.ended_at = now(session)
    attempt.reason = None if reason is None else printable(reason)


def end_cancelled(session: Session, row: RunRow, attempt: AttemptRow, message: str) -> None:
    """Ends an attempt and its run as cancelled within such a transaction; `message` is the event's.

    Why stands in the run's row since somebody asked for it.
    """
    close(session, attempt, "cancelled", None if message == "stopped" else message)
    move(session, row, "cancelled", message, reason_code="cancelled", reason=row.reason or cancelled_by(""))

"""Attempts whose workers are gone: their runs wait again, or fail after too many. Knows the tables; no process."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage.records.database import Database, now
from storage.records.fencing import close, end_cancelled
from storage.records.runs import move, row_of
from storage.records.tables import AttemptRow

WORKER_LOST = "worker_lost"
"""Code of a run that failed because its workers died too often."""


def expire(db: Database, max_attempts: int) -> list[str]:
    """Ends the attempts whose lease ran out and lets their runs go on; returns the ids of those runs.

    A run goes back to `queued`; after `max_attempts` lost attempts it fails as `worker_lost`; one that somebody asked
    to cancel is cancelled.
    """
    query = select(AttemptRow).where(AttemptRow.state == "running")
    with db.read() as session:
        if not session.scalars(query.where(AttemptRow.lease_until < now(session)).limit(1)).first():
            return []
    with db.write() as session:
        late = session.scalars(query.where(AttemptRow.lease_until < now(session)).with_for_update()).all()
        return [_lose(session, attempt, max_attempts, "no heartbeat before its lease ran out") for attempt in late]


def abandon(db: Database, token: str, why: str, max_attempts: int) -> bool:
    """Ends an attempt at once whose process is gone, and lets its run go on as `expire` does.

    Args:
        db: the database.
        token: the attempt's token.
        why: how its process ended, for the run's record.
        max_attempts: lost attempts after which a run fails.

    Returns:
        False where the attempt had ended already, as one does that could say how: nothing is written then.
    """
    query = select(AttemptRow).where(AttemptRow.token == token, AttemptRow.state == "running")
    with db.read() as session:
        if session.scalars(query).one_or_none() is None:
            return False
    with db.write() as session:
        attempt = session.scalars(query.with_for_update()).one_or_none()
        if attempt is None:
            return False
        _lose(session, attempt, max_attempts, why)
        return True


def _lose(session: Session, attempt: AttemptRow, max_attempts: int, why: str) -> str:
    """Ends an attempt that was lost; returns its run's id."""
    row = row_of(session, attempt.run_id, lock=True)
    if row.state != "running" or row.token != attempt.token:
        close(session, attempt, "lost", why)
        return row.id
    if row.cancel_requested:
        end_cancelled(session, row, attempt, f"attempt {row.attempt} ended: {why}")
        return row.id
    close(session, attempt, "lost", why)
    session.flush()
    lost = session.scalar(
        select(func.count())
        .select_from(AttemptRow)
        .where(AttemptRow.run_id == row.id, AttemptRow.state == "lost", AttemptRow.number > row.attempts_before_retry)
    )
    said = f"attempt {row.attempt} was lost: {why}"
    if (lost or 0) >= max_attempts:
        reason = f"{lost} attempts were lost: the worker process died or its host stopped (its log may say why)"
        move(session, row, "failed", said, reason_code=WORKER_LOST, reason=reason)
    else:
        move(session, row, "queued", said)
    return row.id

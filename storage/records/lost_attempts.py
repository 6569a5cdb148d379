"""Attempts whose workers are gone: their runs wait again, or fail after too many. Knows the tables; no process."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage.errors import TimeLimitReached
from storage.records.database import Database, now
from storage.records.fencing import close, end_cancelled
from storage.records.runs import move, row_of
from storage.records.tables import AttemptRow

WORKER_LOST = "worker_lost"
"""Code of a run that failed because its workers died too often."""
TRAINER_SILENT = "trainer_silent"
"""Code of a run that failed because the trainer outside that its owner runs was silent for its lease."""


def expire(db: Database, max_attempts: int) -> list[str]:
    """Ends the attempts whose lease ran out and lets their runs go on; returns the ids of those runs.

    A run goes back to `queued`; after `max_attempts` lost attempts it fails as `worker_lost`; one that somebody asked
    to cancel is cancelled. A run of its owner's fails at once, for nobody here could start it again.
    """
    query = select(AttemptRow).where(AttemptRow.state == "running")
    with db.read() as session:
        if not session.scalars(query.where(AttemptRow.lease_until < now(session)).limit(1)).first():
            return []
    with db.write() as session:
        query = query.where(AttemptRow.lease_until < now(session))
        silent = session.scalars(query.where(AttemptRow.host_id.is_(None)).with_only_columns(AttemptRow.run_id)).all()
        late = session.scalars(query.where(AttemptRow.host_id.is_not(None)).with_for_update()).all()
        lost = [_lose(session, attempt, max_attempts, "no heartbeat before its lease ran out") for attempt in late]
        return lost + [run_id for run_id in silent if _give_up(session, run_id)]


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


def _give_up(session: Session, run_id: str) -> bool:
    """Fails a run whose owner's trainer was silent; False where it has called in the meantime.

    The run is locked before its attempt, as by whatever its owner does with it.
    """
    row = row_of(session, run_id, lock=True)
    query = select(AttemptRow).where(AttemptRow.token == row.token, AttemptRow.lease_until < now(session))
    attempt = session.scalars(query.with_for_update()).one_or_none()
    if row.state != "running" or attempt is None:
        return False
    held_s = (attempt.lease_until - attempt.claimed_at).total_seconds()
    if row.time_limit_s is not None and held_s >= row.time_limit_s:
        code, why = TimeLimitReached.code, f"it took longer than its time limit of {row.time_limit_s:g} s"
    else:
        code, why = TRAINER_SILENT, f"its trainer was silent for its lease of {attempt.lease_s:g} s; retry it to go on"
    close(session, attempt, "lost", why)
    move(session, row, "failed", f"attempt {row.attempt} was lost: {why}", reason_code=code, reason=why)
    return True

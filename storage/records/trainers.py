"""What owners do with runs that no worker takes: start one, show that it lives, log its metrics, end it.

An attempt is fenced by its number: once the run has gone on without it, each call that names it is refused and writes
nothing. Every call that is taken renews the lease; a trainer that is silent for longer is given up by the planner's
tick (`lost_attempts`). Time is the database's own. Knows the tables; no request and no client.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.orm import Session

from storage import keys
from storage.errors import IllegalMove, LeaseLost, NotFound, RunCancelled
from storage.records import metrics
from storage.records.database import Database, now
from storage.records.fencing import close
from storage.records.runs import Run, move, read_row, row_of
from storage.records.states import OwnersEnd
from storage.records.submissions import owners_attempt
from storage.records.tables import AttemptRow, RunRow
from storage.specs.stages import BY_OWNER


@dataclass(frozen=True, slots=True)
class Held:
    """An attempt that its owner holds."""

    run_id: str
    attempt: int
    lease_until: datetime
    """When it is given up, unless the trainer calls before; the database's time."""


def start(db: Database, run_id: str, lease_s: float) -> Run:
    """Starts a run whose inputs exist: it is `running`, as its next attempt.

    Args:
        db: the database.
        run_id: the run.
        lease_s: seconds of silence after which it is given up.

    Raises:
        NotFound: there is none of that id.
        IllegalMove: a worker's, one that runs or has ended, or one whose inputs do not exist yet.
    """
    with db.write() as session:
        row = row_of(session, run_id, lock=True)
        _check_owners(row)
        if row.state == "queued":
            if waits := [entry.port for entry in row.inputs if entry.artifact_key is None]:
                raise IllegalMove(f"the run {run_id} waits for its input {', '.join(waits)}; start it when it is ready")
            move(session, row, "ready", "its inputs exist" if row.inputs else "it needs no input")
        move(session, row, "running", f"attempt {row.attempt + 1} started by its owner")
        row.attempt += 1
        row.token = keys.new_token()
        moment = now(session)
        session.add(AttemptRow(**owners_attempt(row.id, row.token, row.attempt, lease_s, row.time_limit_s, moment)))
        session.flush()
        return read_row(row)


def beat(db: Database, run_id: str, attempt: int | None, progress: dict[str, Any] | None = None) -> Held:
    """Renews an attempt's lease and records how far it is.

    Args:
        db: the database.
        run_id: the run.
        attempt: the attempt's number; None takes the current one.
        progress: {"unit", "done", "total", "loss"?, "eta_s"?, "message"?}; None keeps what was known.

    Raises:
        NotFound, LeaseLost, RunCancelled, IllegalMove: as `log`.
    """
    with db.write(ordered=False) as session:
        held = _renewed(session, run_id, attempt)
        if progress is not None:
            said = {name: metrics.finite(value) for name, value in progress.items()}
            session.execute(update(RunRow).where(RunRow.id == run_id).values(progress=said))
        return held


def log(db: Database, run_id: str, attempt: int | None, points: Iterable[tuple[str, int, float | None]]) -> Held:
    """Records (name, step, value) of metrics and renews the lease; a step that is known already is overwritten.

    The same call may come twice: the second leaves everything as it is.

    Raises:
        NotFound: there is no run of that id.
        RunCancelled: somebody cancelled it.
        LeaseLost: the attempt has ended, or another has begun.
        IllegalMove: a worker runs it.
    """
    with db.write(ordered=False) as session:
        held = _renewed(session, run_id, attempt)
        metrics.append(session, run_id, points)
        return held


def finish(db: Database, run_id: str, attempt: int | None, state: OwnersEnd, reason: str | None = None) -> Run:
    """Ends a run. The same call may come twice: the second finds it ended.

    Args:
        db: the database.
        run_id: the run.
        attempt: the attempt's number; None takes the current one.
        state: how it ended.
        reason: why, where it did not succeed.

    Raises:
        NotFound: there is no run of that id.
        RunCancelled: somebody cancelled it.
        LeaseLost: the attempt ended otherwise, or another has begun.
        IllegalMove: a worker runs it.
    """
    with db.write() as session:
        row = row_of(session, run_id, lock=True)
        _check_owners(row)
        if row.state == state and attempt in (None, row.attempt):
            return read_row(row)
        _check_held(row, attempt)
        held = session.scalars(select(AttemptRow).where(AttemptRow.token == row.token).with_for_update()).one()
        code = {"succeeded": None, "failed": "trainer_failed", "cancelled": "cancelled"}[state]
        why = reason or {"succeeded": None, "failed": "its trainer says so", "cancelled": "its trainer stopped"}[state]
        close(session, held, state, why)
        said = f"ended by its owner{f': {why}' if why else ''}"[:2000]
        move(session, row, state, said, reason_code=code, reason=why)
        session.flush()
        return read_row(row)


_OF_RUN = RunRow.__table__.c
_RUN = select(_OF_RUN.id, _OF_RUN.stage, _OF_RUN.state, _OF_RUN.attempt, _OF_RUN.token, _OF_RUN.reason)
_OF_ATTEMPT = AttemptRow.__table__.c
_ATTEMPT = select(_OF_ATTEMPT.lease_s, _OF_ATTEMPT.claimed_at, _OF_RUN.time_limit_s).join_from(
    AttemptRow.__table__, RunRow.__table__, _OF_ATTEMPT.run_id == _OF_RUN.id
)
"""Read column by column: trainers call often, and a row of the ORM takes several times as long."""


def _renewed(session: Session, run_id: str, attempt: int | None) -> Held:
    """Locks a run, whose living attempt must be the one named, and renews its lease.

    No lease lasts beyond the run's time limit.
    """
    write = session.connection().execute
    run = write(_RUN.where(_OF_RUN.id == run_id).with_for_update()).one_or_none()
    if run is None:
        raise NotFound(f"there is no run {run_id!r}; `vlglab runs list` shows those there are")
    _check_held(run, attempt)
    lease_s, claimed_at, time_limit_s = write(_ATTEMPT.where(_OF_ATTEMPT.token == run.token)).one()
    until = now(session) + timedelta(seconds=lease_s)
    if time_limit_s is not None:
        until = min(until, claimed_at + timedelta(seconds=time_limit_s))
    write(update(AttemptRow.__table__).where(_OF_ATTEMPT.token == run.token).values(lease_until=until))  # type: ignore[arg-type]
    return Held(run_id, run.attempt, until)


def _check_owners(row: RunRow | Row[*tuple[Any, ...]]) -> None:
    """Refuses what only owners of such runs may do to a run that workers run."""
    if row.stage not in BY_OWNER:
        raise IllegalMove(
            f"the run {row.id} is of the stage {row.stage!r}, which worker hosts run and report on;"
            f" only runs of {', '.join(sorted(BY_OWNER))} are started, logged to and ended over HTTP"
        )


def _check_held(row: RunRow | Row[*tuple[Any, ...]], attempt: int | None) -> None:
    """Refuses an attempt that is not the living one of a run that its owner runs."""
    _check_owners(row)
    attempt = row.attempt if attempt is None else attempt
    if row.state == "cancelled" and row.attempt == attempt:
        raise RunCancelled(f"the run {row.id} was cancelled; stop its trainer")
    if row.state != "running" or row.attempt != attempt:
        raise LeaseLost(
            f"got attempt {attempt} of the run {row.id}, which is {row.state} after attempt {row.attempt}"
            f"{f' ({row.reason})' if row.reason else ''}; start it, or retry it and start it, to go on"
        )

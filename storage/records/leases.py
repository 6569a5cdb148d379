"""What worker hosts and worker processes do with runs: claim one, hold it by a lease, end it.

Every write of a worker names its fencing token; once the run has gone on without it, each raises `LeaseLost` and
writes nothing. Time is the database's own. Knows the tables; not what a stage does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage import keys
from storage.errors import NotFound
from storage.records import artifacts, evaluations, hosts, metrics, runs
from storage.records.artifacts import ArtifactRow
from storage.records.database import Database, now
from storage.records.evaluations import EvaluationRow
from storage.records.fencing import close, holding
from storage.records.runs import move, row_of
from storage.records.states import LIVE, RunState
from storage.records.tables import AttemptRow, RunOutputRow, RunRow
from storage.specs.stages import STAGES

WORKER_LOST = "worker_lost"
"""Code of a run that failed because its workers died too often."""
_GPU_STAGES = frozenset(name for name, spec in STAGES.items() if spec.uses_gpu)


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that a host has taken."""

    run_id: str
    token: str
    attempt: int
    stage: str
    gpu: int | None
    """The GPU that the run may use; None where it uses none."""


def claim(db: Database, host_id: str, lease_s: float, started: Collection[str] = ()) -> Claim | None:
    """Takes the ready run of the highest priority, the oldest first, and opens an attempt under a new token.

    What is free on the host's machine is read in the same transaction (`hosts.room`). Where the host has GPUs, a
    stage that uses one waits for a free one.

    Args:
        db: the database.
        host_id: the host, as `hosts.register` named it.
        lease_s: seconds until the claim lapses without a heartbeat.
        started: tokens of attempts whose processes this host still sees.

    Returns:
        The claim, or None where nothing fits.

    Raises:
        NotFound: there is no such host.
    """
    with db.read() as session:
        if _fitting(session, host_id, started) is None:
            return None
    with db.write() as session:
        found = _fitting(session, host_id, started, lock=True)
        return None if found is None else _open_attempt(session, *found, host_id, lease_s)


def start(
    db: Database,
    token: str,
    *,
    pid: int,
    host: str,
    device: str,
    code: dict[str, Any],
    environment: dict[str, Any],
) -> None:
    """Records what runs the attempt: process, host's name, device, code version and environment.

    Raises:
        LeaseLost: the token no longer holds the run.
    """
    with holding(db, token) as (session, row, attempt):
        attempt.pid = pid
        row.host, row.device, row.code, row.environment = host, device, code, environment
        runs.note(session, row, f"started on {host} ({device}), process {pid}")


def beat(
    db: Database, token: str, *, lease_s: float, progress: dict[str, Any] | None = None, rss_bytes: int = 0
) -> bool:
    """Renews the lease and records progress and memory; returns whether somebody asked to cancel.

    Args:
        db: the database.
        token: the attempt's token.
        lease_s: seconds from now until the lease lapses.
        progress: {"unit", "done", "total", "loss"?, "eta_s"?, "message"?}; None keeps what was known.
        rss_bytes: the process's resident memory now; the run keeps the peak.

    Raises:
        LeaseLost: the token no longer holds the run.
    """
    with holding(db, token, ordered=False) as (session, row, attempt):
        attempt.lease_until = now(session) + timedelta(seconds=lease_s)
        if progress is not None:
            row.progress = {name: metrics.finite(value) for name, value in progress.items()}
        row.peak_rss_bytes = max(row.peak_rss_bytes, rss_bytes)
        return row.cancel_requested


def set_key(db: Database, token: str, key: str) -> str | None:
    """Records the run's key, once a worker could compute it.

    Returns:
        The id of another run of the same key that is ready or running: release this one then. Else None.

    Raises:
        LeaseLost: the token no longer holds the run.
    """
    with holding(db, token) as (session, row, _):
        row.key = key
        query = select(RunRow.id).where(RunRow.key == key, RunRow.state.in_(LIVE), RunRow.id != row.id)
        return session.scalars(query.order_by(RunRow.id)).first()


def release(db: Database, token: str, reason: str) -> None:
    """Gives the run back unharmed: it waits again, as `queued`.

    Raises:
        LeaseLost: the token no longer holds the run.
    """
    with holding(db, token) as (session, row, attempt):
        close(session, attempt, "released", reason)
        move(session, row, "queued", f"released: {reason}")


def succeed(db: Database, token: str, outputs: Mapping[str, str], cached: bool) -> None:
    """Ends the run with its outputs.

    Args:
        db: the database.
        token: the attempt's token.
        outputs: output name -> key of an artifact that has its row.
        cached: True where the worker found every output published already.

    Raises:
        LeaseLost: the token no longer holds the run.
        NotFound: an output's artifact is not recorded.
    """
    to: RunState = "cached" if cached else "succeeded"
    with holding(db, token) as (session, row, attempt):
        if missing := set(outputs.values()) - artifacts.existing(session, outputs.values()):
            raise NotFound(f"the run {row.id} gives artifacts that are not recorded: {', '.join(sorted(missing))}")
        close(session, attempt, "cached" if cached else "succeeded", None)
        row.outputs = [RunOutputRow(output=name, artifact_key=key) for name, key in sorted(outputs.items())]
        move(session, row, to, "found every output published" if cached else "wrote its outputs")


def fail(db: Database, token: str, code: str, message: str, scene: str | None = None) -> None:
    """Ends the run as failed.

    Args:
        db: the database.
        token: the attempt's token.
        code: stable code of the error.
        message: the error in words.
        scene: the scene that it is about.

    Raises:
        LeaseLost: the token no longer holds the run.
    """
    with holding(db, token) as (session, row, attempt):
        close(session, attempt, "failed", message)
        row.scene = None if scene is None else runs.printable(scene)
        where = f" (scene {scene})" if scene else ""
        move(session, row, "failed", f"{code}: {message}{where}"[:2000], reason_code=code, reason=message)


def cancelled(db: Database, token: str) -> None:
    """Ends the run as cancelled: its worker has stopped.

    Raises:
        LeaseLost: the token no longer holds the run.
    """
    with holding(db, token) as (session, row, attempt):
        close(session, attempt, "cancelled", None)
        move(session, row, "cancelled", "stopped", reason_code="cancelled", reason="somebody cancelled it")


def note(db: Database, token: str, message: str) -> None:
    """Writes an event that changes no state.

    Raises:
        LeaseLost: the token no longer holds the run.
    """
    with holding(db, token) as (session, row, _):
        runs.note(session, row, message)


def append_metrics(db: Database, token: str, points: Sequence[tuple[str, int, float]]) -> None:
    """Records (name, step, value) of metrics; a step that is known already is overwritten.

    Raises:
        LeaseLost: the token no longer holds the run.
    """
    with holding(db, token, ordered=False) as (session, row, _):
        metrics.append(session, row.id, points)


def record_artifact(db: Database, token: str, artifact: ArtifactRow) -> None:
    """Makes an artifact visible; a key that is known already is left as it is.

    Raises:
        LeaseLost: the token no longer holds the run.
    """
    with holding(db, token) as (session, row, _):
        artifacts.insert(session, row.id, artifact)


def record_evaluations(db: Database, token: str, artifact_key: str, rows: Sequence[EvaluationRow]) -> None:
    """Records the scores that an evaluation artifact (recorded before) holds; a known artifact's are left as they are.

    Raises:
        LeaseLost: the token no longer holds the run.
        NotFound: no artifact of that key is recorded.
    """
    with holding(db, token) as (session, _, _):
        evaluations.insert(session, artifact_key, rows)


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
        return [_lose(session, attempt, max_attempts) for attempt in late]


def living_tokens(db: Database) -> frozenset[str]:
    """Tokens of the attempts that hold a run: whatever else is staged in the store may be swept."""
    with db.read() as session:
        return frozenset(session.scalars(select(AttemptRow.token).where(AttemptRow.state == "running")))


def _fitting(
    session: Session, host_id: str, started: Collection[str], *, lock: bool = False
) -> tuple[RunRow, int | None] | None:
    """The ready run that a host may take next, and the GPU for it; None where nothing fits."""
    room = hosts.room(session, host_id, started)
    if not room.slots:
        return None
    query = select(RunRow).where(RunRow.state == "ready").order_by(RunRow.priority.desc(), RunRow.id).limit(1)
    if room.has_gpus and not room.gpus:
        query = query.where(RunRow.stage.not_in(_GPU_STAGES))
    row = session.scalars(query.with_for_update() if lock else query).first()
    if row is None:
        return None
    return row, room.gpus[0] if room.has_gpus and row.stage in _GPU_STAGES else None


def _open_attempt(session: Session, row: RunRow, gpu: int | None, host_id: str, lease_s: float) -> Claim:
    """Makes the next attempt of a ready run."""
    moment = now(session)
    row.attempt += 1
    token = keys.new_token()
    session.add(
        AttemptRow(
            token=token,
            run_id=row.id,
            number=row.attempt,
            state="running",
            host_id=host_id,
            gpu=gpu,
            lease_until=moment + timedelta(seconds=lease_s),
            claimed_at=moment,
        )
    )
    move(session, row, "running", f"attempt {row.attempt} claimed" + (f", GPU {gpu}" if gpu is not None else ""))
    row.token = token
    return Claim(row.id, token, row.attempt, row.stage, gpu)


def _lose(session: Session, attempt: AttemptRow, max_attempts: int) -> str:
    """Ends an attempt whose lease ran out; returns its run's id."""
    row = row_of(session, attempt.run_id, lock=True)
    close(session, attempt, "lost", "its lease ran out")
    if row.state != "running" or row.token != attempt.token:
        return row.id
    session.flush()
    lost = session.scalar(
        select(func.count()).select_from(AttemptRow).where(AttemptRow.run_id == row.id, AttemptRow.state == "lost")
    )
    said = f"attempt {row.attempt} was lost: no heartbeat before its lease ran out"
    if row.cancel_requested:
        move(session, row, "cancelled", said, reason_code="cancelled", reason="somebody cancelled it")
    elif (lost or 0) >= max_attempts:
        reason = f"{lost} attempts were lost: the worker process died or its host stopped (its log may say why)"
        move(session, row, "failed", said, reason_code=WORKER_LOST, reason=reason)
    else:
        move(session, row, "queued", said)
    return row.id

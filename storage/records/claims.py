"""How worker hosts take runs: the next that fits, under a new fencing token. Knows the tables; no stage's work."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage import keys
from storage.records import hosts
from storage.records.database import Database, now
from storage.records.runs import move
from storage.records.tables import AttemptRow, RunRow
from storage.specs.stages import STAGES

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

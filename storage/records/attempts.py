"""The attempts at a run, as they are shown: without their fencing tokens, which would let a reader write."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from storage.records.database import Database
from storage.records.pages import MAX_LIMIT
from storage.records.tables import AttemptRow, HostRow


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a run."""

    number: int
    state: str
    """running, succeeded, cached, failed, cancelled, released or lost."""
    host_id: str | None
    host: str | None
    """The host's name; None of both where the run's owner made the attempt."""
    gpus: tuple[int, ...]
    """Numbers of the GPUs that it was given."""
    pid: int | None
    claimed_at: datetime
    ended_at: datetime | None
    reason: str | None


def of_run(db: Database, run_id: str) -> list[Attempt]:
    """The attempts at a run, first to last; of very many the last ones."""
    table = AttemptRow
    query = (
        select(
            table.number, table.state, table.host_id, HostRow.name, table.gpus, table.pid, table.claimed_at,
            table.ended_at, table.reason,
        )
        .outerjoin(HostRow, HostRow.id == table.host_id)
        .where(table.run_id == run_id)
        .order_by(table.number.desc())
        .limit(MAX_LIMIT)
    )  # fmt: skip
    with db.read() as session:
        rows = session.execute(query).all()
    return [
        Attempt(number, state, host_id, host, tuple(gpus), *rest)
        for number, state, host_id, host, gpus, *rest in reversed(rows)
    ]

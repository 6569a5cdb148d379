"""Retrying: runs that failed or were cancelled wait again, as new attempts. Knows the tables; no worker."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.errors import IllegalMove
from storage.records.database import Database
from storage.records.planning import INPUT_FAILED
from storage.records.runs import Run, move, read_row, row_of
from storage.records.states import RETRIABLE
from storage.records.tables import RunInputRow, RunRow


def retry(db: Database, run_id: str) -> Run:
    """Queues a run again, and with it the runs that were given up because of it.

    Its next attempt goes on from the last checkpoint, where the stage keeps any.

    Raises:
        NotFound: there is none of that id.
        IllegalMove: it has not failed and was not cancelled, or it was given up because of another run.
    """
    with db.write() as session:
        row = row_of(session, run_id, lock=True)
        if (source := _failed_source(session, row)) is not None:
            raise IllegalMove(
                f"the run {run_id} waits for the run {source.id}, which is {source.state}; retry that one, which takes "
                "this one along"
            )
        queue_again(session, [row, *_given_up_with(session, row)])
        return read_row(row)


def queue_again(session: Session, rows: Sequence[RunRow]) -> None:
    """Queues runs again within an ordered write transaction.

    Raises:
        IllegalMove: one has not failed and was not cancelled.
    """
    for row in rows:
        move(session, row, "queued", f"retried after attempt {row.attempt}" if row.attempt else "retried", again=True)
    session.flush()


def _failed_source(session: Session, row: RunRow) -> RunRow | None:
    """A run that this one reads and that will give nothing as things stand."""
    query = (
        select(RunRow)
        .join(RunInputRow, RunInputRow.source_run_id == RunRow.id)
        .where(RunInputRow.run_id == row.id, RunInputRow.artifact_key.is_(None), RunRow.state.in_(RETRIABLE))
    )
    return session.scalars(query.order_by(RunRow.id).limit(1)).first()


def _given_up_with(session: Session, row: RunRow) -> list[RunRow]:
    """Runs that read this one, directly or through others, and were given up for want of an input."""
    found: dict[str, RunRow] = {}
    todo = [row.id]
    while todo:
        query = (
            select(RunRow)
            .join(RunInputRow, RunInputRow.run_id == RunRow.id)
            .where(
                RunInputRow.source_run_id.in_(todo),
                RunRow.state == "cancelled",
                RunRow.reason_code == INPUT_FAILED,
                RunRow.id.not_in(list(found)),
            )
            .distinct()
        )
        new = {one.id: one for one in session.scalars(query).unique()}
        found |= new
        todo = list(new)
    return [found[run_id] for run_id in sorted(found)]

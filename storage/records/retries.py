"""Retrying: runs that failed or were cancelled wait again, as new attempts. Knows the tables; no worker."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.errors import IllegalMove
from storage.records.database import Database
from storage.records.planning import INPUT_FAILED
from storage.records.runs import Run, move, read_row, row_of
from storage.records.states import RETRIABLE, check_retry
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
        queue_again(session, [row])
        return read_row(row)


def queue_again(session: Session, rows: Sequence[RunRow]) -> None:
    """Queues runs again within an ordered write transaction, and the runs that were given up because of them.

    Raises:
        IllegalMove: one has not failed and was not cancelled, or reads another that has, and that is not among them.
    """
    asked = {row.id for row in rows}
    for row in rows:
        check_retry(row.id, row.state)  # type: ignore[arg-type]
        source = _failed_source(session, row, asked)
        if source is not None:
            along = ", which takes this one along" if row.reason_code == INPUT_FAILED else ", then this one"
            raise IllegalMove(
                f"the run {row.id} reads the run {source.id}, which is {source.state}; retry that one{along}"
            )
    every = {row.id: row for row in (*rows, *_given_up_with(session, asked))}
    for run_id in sorted(every):
        row = every[run_id]
        move(session, row, "queued", f"retried after attempt {row.attempt}" if row.attempt else "retried", again=True)
    session.flush()


def _failed_source(session: Session, row: RunRow, asked: Collection[str]) -> RunRow | None:
    """A run that this one reads and that will give nothing as things stand; those that are `asked` for will."""
    query = (
        select(RunRow)
        .join(RunInputRow, RunInputRow.source_run_id == RunRow.id)
        .where(RunInputRow.run_id == row.id, RunInputRow.artifact_key.is_(None), RunRow.state.in_(RETRIABLE))
        .where(RunRow.id.not_in(asked))
    )
    return session.scalars(query.order_by(RunRow.id).limit(1)).first()


def _given_up_with(session: Session, run_ids: Collection[str]) -> list[RunRow]:
    """Runs that read one of these, directly or through others, and were given up for want of an input."""
    found: dict[str, RunRow] = {}
    todo = run_ids
    while todo:
        readers = select(RunInputRow.run_id).where(RunInputRow.source_run_id.in_(todo))
        query = select(RunRow).where(
            RunRow.id.in_(readers), RunRow.state == "cancelled", RunRow.reason_code == INPUT_FAILED
        )
        new = {one.id: one for one in session.scalars(query) if one.id not in found}
        found |= new
        todo = new.keys()
    return list(found.values())

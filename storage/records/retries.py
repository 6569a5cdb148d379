"""Retrying: runs that failed or were cancelled wait again, as new attempts. Knows the tables; no worker."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.errors import IllegalMove
from storage.records import artifacts
from storage.records.database import Database
from storage.records.planning import INPUT_FAILED
from storage.records.runs import Run, move, read_row, row_of
from storage.records.states import RETRIABLE, check_retry
from storage.records.tables import RemovalRow, RunInputRow, RunRow


def retry(db: Database, run_id: str, *, anew: bool = False, by: str = "") -> Run:
    """Queues a run again, and with it the runs that were given up because of it.

    Its next attempt goes on from the last checkpoint, where the stage keeps any; with `anew`, from nothing. `by` is
    who retries it, empty where nobody was asked.

    Raises:
        NotFound: there is none of that id.
        IllegalMove: it has not failed and was not cancelled, or it was given up because of another run.
    """
    with db.write() as session:
        row = row_of(session, run_id, lock=True)
        queue_again(session, [row], anew=anew, by=by)
        return read_row(row)


def queue_again(session: Session, rows: Sequence[RunRow], *, anew: bool = False, by: str = "") -> None:
    """Queues runs again within an ordered write transaction, and the runs that were given up because of them.

    Raises:
        IllegalMove: one has not failed and was not cancelled, or reads another that has, and that is not among them.
    """
    asked = {row.id for row in rows}
    for row in rows:
        check_retry(row.id, row.state)  # type: ignore[arg-type]
        _check_can_begin(session, row)
        source = _failed_source(session, row, asked)
        if source is not None:
            along = ", which takes this one along" if row.reason_code == INPUT_FAILED else ", then this one"
            raise IllegalMove(
                f"the run {row.id} reads the run {source.id}, which is {source.state}; retry that one{along}"
            )
    taken_along = [row for row in _given_up_with(session, asked) if session.get(RemovalRow, ("run", row.id)) is None]
    every = {row.id: row for row in (*rows, *taken_along)}
    for run_id in sorted(every):
        row = every[run_id]
        if anew and run_id in asked:
            row.anew_after = row.attempt
        said = f"retried by {by}" if by else "retried"
        move(session, row, "queued", f"{said} after attempt {row.attempt}" if row.attempt else said, again=True)
    session.flush()


def _check_can_begin(session: Session, row: RunRow) -> None:
    """Checks that neither the run nor what it reads was deleted.

    Raises:
        IllegalMove: it was, or is being.
    """
    if session.get(RemovalRow, ("run", row.id)) is not None:
        raise IllegalMove(f"the run {row.id} is being deleted")
    read = {i.artifact_key: i.port for i in row.inputs if i.artifact_key is not None}
    for key in sorted(read.keys() - artifacts.existing(session, read)):
        raise IllegalMove(
            f"the artifact {key}, the input {read[key]!r} of the run {row.id}, is no more in the store: it was"
            " collected; run the stage that makes it again, and submit this one with what that gives"
        )
    lost = next((i.port for i in row.inputs if i.source_run_id is None and i.artifact_key is None), None)
    if lost is not None:
        raise IllegalMove(
            f"the run {row.id} has no input {lost!r} any more: the run that would have given it was deleted; submit it"
            " again with another one"
        )


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

"""Deleting runs and experiments, with what only they used. Knows the tables and the store; not who may do it.

What is deleted is first marked, in the transaction that checks that it may be (`RemovalRow`); a process that dies after
that leaves marks, and whoever deletes it again, or the next start of the service (`finish_all`), goes on from them.

An artifact goes with its last run: it is marked for the collector (`marks`), which takes it when its grace period is
over, so that whoever reads it without a lease has that long. Where it is to go at once, its row goes first, so that
nobody finds it any more, then its files, by renames, under the writer's lock. So a worker that counts on a part of it
records nothing (`leases.record_artifact` looks under the same lock whether all is there) and begins again, and an
artifact that has its row has its parts.

An artifact that somebody has pinned, or reads under a lease, stays when its last run goes, with its row; the run goes.
When pin and lease are gone too, the collector takes it (`collecting`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Table, delete, select, tuple_, update
from sqlalchemy.orm import Session

from storage.artifacts.run_files import RunFiles
from storage.artifacts.store import ArtifactStore
from storage.errors import IllegalMove, NotFound
from storage.records import marks, withdrawals
from storage.records.database import Database, now
from storage.records.pages import pieces
from storage.records.runs import row_of
from storage.records.states import FINAL
from storage.records.tables import (
    Base,
    ExperimentRow,
    RemovalRow,
    RunInputRow,
    RunOutputRow,
    RunRow,
)
from storage.records.withdrawals import Fate, Kept, Removed

AT_ONCE = 5_000
"""Most rows that one transaction deletes: others want to write too."""


@dataclass(frozen=True, slots=True)
class Removal:
    """What was deleted, or would be."""

    runs: tuple[str, ...]
    experiment: str | None
    removed: tuple[Removed, ...]
    kept: tuple[Kept, ...]
    due_at: datetime | None
    """When the artifacts go, unless somebody uses them before; None: at once, or there are none."""


@dataclass(frozen=True, slots=True)
class Remover:
    """Deletes from one database and one store."""

    db: Database
    store: ArtifactStore
    files: RunFiles
    """Where logs and checkpoints lie."""

    def run(self, run_id: str, *, at_once: bool = False, dry_run: bool = False) -> Removal:
        """Deletes a run that has ended.

        Args:
            run_id: the run; one that somebody began to delete is deleted to the end.
            at_once: take the artifacts that go with it out of the store now; else the collector does, after the grace
                period.
            dry_run: only tell what would be done.

        Raises:
            NotFound: there is none of that id.
            IllegalMove: it has not ended, or a run that has not ended waits for it.
            StoreUnwritable: the store cannot be changed; the same request goes on.
        """
        begun = is_begun(self.db, "run", run_id)
        if not begun:
            with self.db.read() as session:
                row_of(session, run_id)
        done = self._remove([run_id], None, at_once, dry_run)
        if begun and not dry_run:
            self.finish_all()
        return done

    def experiment(self, experiment_id: str, *, at_once: bool = False, dry_run: bool = False) -> Removal:
        """Deletes an experiment with all its runs; arguments and errors as `run`."""
        begun = is_begun(self.db, "experiment", experiment_id)
        with self.db.read() as session:
            if not begun and session.get(ExperimentRow, experiment_id) is None:
                raise NotFound(
                    f"there is no experiment {experiment_id!r}; `vlglab experiments list` shows those there are"
                )
            query = select(RunRow.id).where(RunRow.experiment_id == experiment_id).order_by(RunRow.id)
            ids = list(session.scalars(query))
        done = self._remove(ids, experiment_id, at_once, dry_run)
        if begun and not dry_run:
            self.finish_all()
        return done

    def finish_all(self) -> int:
        """Deletes to the end what processes that died had begun; returns how many runs and experiments that were."""
        with self.db.read() as session:
            begun = [(row.what, row.id) for row in session.scalars(select(RemovalRow))]
        if begun:
            withdrawals.withdraw_all(self.db, self.store)
            self._forget_runs([id_ for what, id_ in begun if what == "run"])
            for id_ in (id_ for what, id_ in begun if what == "experiment"):
                self._forget_experiment(id_)
        return sum(what != "artifact" for what, _ in begun)

    def _remove(self, ids: Sequence[str], experiment_id: str | None, at_once: bool, dry_run: bool) -> Removal:
        """Marks runs and lets their artifacts go, then deletes."""
        if dry_run:
            with self.db.read() as session:
                _check(session, ids)
                fate, due = withdrawals.fate(session, ids), None if at_once else marks.due(session)
            foreseen, kept = withdrawals.foreseen(self.db, self.store, fate)
            return Removal(tuple(ids), experiment_id, foreseen, kept, due if foreseen else None)
        with self.db.write() as session:
            _check(session, ids)
            _begin(session, [("run", id_) for id_ in ids] + ([("experiment", experiment_id)] if experiment_id else []))
            fate = withdrawals.fate(session, ids)
            due = _let_go(session, ids, fate, at_once)
        if at_once:
            removed = tuple(one for one in withdrawals.withdraw_all(self.db, self.store) if one.key in fate.removed)
        else:
            removed = withdrawals.foreseen(self.db, self.store, fate)[0]
        self._forget_runs(ids)
        if experiment_id is not None:
            self._forget_experiment(experiment_id)
        return Removal(tuple(ids), experiment_id, removed, fate.kept, due)

    def _forget_runs(self, ids: Sequence[str]) -> None:
        """Deletes what is left of runs: their rows in pieces, their logs and checkpoints, and their marks."""
        for table in _owned():
            while self._delete_some(table, ids):
                pass
        with self.db.write() as session:
            for table, column in _pointing():
                session.execute(update(table).where(table.c[column].in_(ids)).values({column: None}))
            session.execute(delete(RunRow).where(RunRow.id.in_(ids)))
        for run_id in ids:
            self.files.forget(run_id)
        with self.db.write() as session:
            session.execute(delete(RemovalRow).where(RemovalRow.what == "run", RemovalRow.id.in_(ids)))

    def _delete_some(self, table: Table, ids: Sequence[str]) -> int:
        """Deletes at most AT_ONCE of the rows of a table that belong to runs; returns how many."""
        key = list(table.primary_key.columns)
        some = select(*key).where(table.c.run_id.in_(ids)).limit(AT_ONCE)
        with self.db.write() as session:
            chosen = [tuple(row) for row in session.execute(some)]
            for keys in pieces(chosen):
                session.execute(delete(table).where(tuple_(*key).in_(keys)))
            return len(chosen)

    def _forget_experiment(self, experiment_id: str) -> None:
        with self.db.write() as session:
            session.execute(delete(ExperimentRow).where(ExperimentRow.id == experiment_id))
            marked = RemovalRow.what == "experiment", RemovalRow.id == experiment_id
            session.execute(delete(RemovalRow).where(*marked))


def is_begun(db: Database, what: str, id_: str) -> bool:
    """Whether somebody has begun to delete a "run" or an "experiment"."""
    with db.read() as session:
        return session.get(RemovalRow, (what, id_)) is not None


def _check(session: Session, ids: Sequence[str]) -> None:
    """Checks that runs may be deleted: they have ended, and nobody else waits for what they would give.

    Raises:
        IllegalMove: one may not.
    """
    query = select(RunRow).where(RunRow.id.in_(ids), RunRow.state.not_in(FINAL)).order_by(RunRow.id).limit(1)
    living = session.scalars(query).first()
    if living is not None:
        raise IllegalMove(
            f"the run {living.id} is {living.state}; only what has ended can be deleted: cancel it first"
            f" (`vlglab runs cancel {living.id}`)"
        )
    waits = (
        select(RunInputRow)
        .join(RunRow, RunRow.id == RunInputRow.run_id)
        .where(RunInputRow.source_run_id.in_(ids), RunInputRow.artifact_key.is_(None), RunInputRow.run_id.not_in(ids))
        .where(RunRow.state.not_in(FINAL))
    )
    waiting = session.scalars(waits.order_by(RunInputRow.run_id).limit(1)).first()
    if waiting is not None:
        raise IllegalMove(
            f"the run {waiting.run_id} has not begun and reads {waiting.output!r} of the run {waiting.source_run_id};"
            " wait until it has begun, or cancel it"
        )


def _begin(session: Session, what: Sequence[tuple[str, str]]) -> None:
    """Marks runs and experiments as being deleted."""
    moment = now(session)
    for kind, id_ in what:
        if session.get(RemovalRow, (kind, id_)) is None:
            session.add(RemovalRow(what=kind, id=id_, at=moment))


def _let_go(session: Session, ids: Collection[str], fate: Fate, at_once: bool) -> datetime | None:
    """Takes outputs from runs, and what goes with them out of sight, or marks it; when that goes, where not at once."""
    session.execute(delete(RunOutputRow).where(RunOutputRow.run_id.in_(ids)))
    if at_once:
        withdrawals.hide(session, fate.removed, now(session))
        return None
    if not fate.removed:
        return None
    return marks.set_deleted(session, fate.removed, "the last run that gave it was deleted")


def _owned() -> Iterator[Table]:
    """Tables whose rows are a run's own: they name it in `run_id` and cannot be without it."""
    for table in reversed(Base.metadata.sorted_tables):
        column = table.c.get("run_id")
        if (
            column is not None
            and not column.nullable
            and any(k.column.table.name == "runs" for k in column.foreign_keys)
        ):
            yield table


def _pointing() -> Iterator[tuple[Table, str]]:
    """Tables and columns of rows that only point at a run and stay without it."""
    for table in Base.metadata.sorted_tables:
        for column in table.columns:
            if column.nullable and any(key.column.table.name == "runs" for key in column.foreign_keys):
                yield table, column.name

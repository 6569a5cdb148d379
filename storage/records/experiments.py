"""Experiments: runs that were submitted together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage import keys
from storage.errors import IllegalMove, NotFound
from storage.records.database import Database, now
from storage.records.pages import Page, clamp, page_of
from storage.records.retries import queue_again
from storage.records.runs import cancel_row
from storage.records.states import FINAL, RETRIABLE
from storage.records.submissions import Submission, insert
from storage.records.tables import ExperimentRow, RunInputRow, RunRow
from storage.specs.plans import PlannedRun


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment, and how many of its runs are in each state."""

    id: str
    name: str
    recipe: str | None
    preset: str | None
    request: dict[str, Any]
    """What was submitted."""
    created_at: datetime
    states: dict[str, int]
    owner: str = ""
    """Who submitted it; empty where nobody was asked."""
    is_new: bool = True
    """False where a request that was sent again found it."""

    @property
    def state(self) -> str:
        """Its runs in one word: running until all have ended, then the worst of failed, cancelled, succeeded."""
        if any(state not in FINAL for state in self.states):
            return "running" if set(self.states) - {"queued"} else "queued"
        return next((state for state in ("failed", "cancelled") if state in self.states), "succeeded")


def create(
    db: Database,
    name: str,
    recipe: str | None,
    preset: str | None,
    request: dict[str, Any],
    planned: Sequence[PlannedRun],
    submission: Submission | None = None,
) -> Experiment:
    """Writes an experiment and its runs, all or nothing; or finds the one that the same request made before.

    Raises:
        SpecInvalid, UnknownName, NotFound, IllegalMove: as `runs.create`.
        KeyReused: the submission's key was used for another request.
    """
    submission = submission or Submission()
    once = submission.once
    with db.write() as session:
        if once is not None and (made := once.made_before(session)) is not None:
            return _read(_row(session, made), _states(session, [made]).get(made, {}), is_new=False)
        row = ExperimentRow(
            id=keys.new_id("e"), name=name, recipe=recipe, preset=preset, request=request, created_at=now(session),
            owner=submission.owner,
        )  # fmt: skip
        session.add(row)
        session.flush()
        insert(session, planned, row.id, submission)
        if once is not None:
            once.remember(session, row.id)
        return _read(row, {"queued": len(planned)})


def get(db: Database, experiment_id: str) -> Experiment:
    """One experiment.

    Raises:
        NotFound: there is none of that id.
    """
    with db.read() as session:
        row = _row(session, experiment_id)
        return _read(row, _states(session, [row.id]).get(row.id, {}))


def list_experiments(db: Database, cursor: str | None = None, limit: int = 100) -> Page[Experiment]:
    """A page of experiments, newest first."""
    limit = clamp(limit)
    query = select(ExperimentRow).order_by(ExperimentRow.id.desc()).limit(limit + 1)
    if cursor is not None:
        query = query.where(ExperimentRow.id < cursor)
    with db.read() as session:
        rows = session.scalars(query).all()
        states = _states(session, [row.id for row in rows])
        return page_of(rows, limit, lambda row: row.id, lambda row: _read(row, states.get(row.id, {})))


def request_cancel(db: Database, experiment_id: str) -> Experiment:
    """Cancels its runs that have not ended, but for those that another experiment's living runs need.

    Raises:
        NotFound: there is none of that id.
        IllegalMove: all its runs have ended.
    """
    with db.write() as session:
        row = _row(session, experiment_id)
        runs = session.scalars(
            select(RunRow).where(RunRow.experiment_id == experiment_id).order_by(RunRow.id).with_for_update()
        ).all()
        living = [run for run in runs if run.state not in FINAL]
        if not living:
            raise IllegalMove(f"the experiment {experiment_id} cannot be cancelled: all its runs have ended")
        needed = _needed_elsewhere(session, experiment_id)
        for run in living:
            if run.id not in needed:
                cancel_row(session, run)
        session.flush()
        return _read(row, dict(Counter(run.state for run in runs)))


def retry(db: Database, experiment_id: str, *, anew: bool = False) -> Experiment:
    """Queues its runs again that failed or were cancelled, each as a new attempt of the same run.

    With `anew`, these begin from nothing and not from their last checkpoints.

    Raises:
        NotFound: there is none of that id.
        IllegalMove: none of its runs failed or was cancelled.
    """
    with db.write() as session:
        row = _row(session, experiment_id)
        query = select(RunRow).where(RunRow.experiment_id == experiment_id).order_by(RunRow.id).with_for_update()
        runs = session.scalars(query).all()
        ended = [run for run in runs if run.state in RETRIABLE]
        if not ended:
            raise IllegalMove(f"the experiment {experiment_id} has no run that failed or was cancelled")
        queue_again(session, ended, anew=anew)
        return _read(row, dict(Counter(run.state for run in runs)))


def _needed_elsewhere(session: Session, experiment_id: str) -> frozenset[str]:
    """Ids of the runs that living runs outside the experiment read, directly or through others."""
    needs: dict[str, set[str]] = {}
    outside: list[str] = []
    query = (
        select(RunRow.id, RunRow.experiment_id, RunInputRow.source_run_id)
        .join(RunInputRow, RunInputRow.run_id == RunRow.id)
        .where(RunRow.state.not_in(FINAL), RunInputRow.source_run_id.is_not(None))
    )
    for run_id, experiment, source in session.execute(query):
        if source is not None:
            needs.setdefault(run_id, set()).add(source)
        if experiment != experiment_id:
            outside.append(run_id)
    found: set[str] = set()
    while outside:
        for source in needs.get(outside.pop(), set()) - found:
            found.add(source)
            outside.append(source)
    return frozenset(found)


def _states(session: Session, ids: Sequence[str]) -> dict[str, dict[str, int]]:
    """Experiment id -> state -> number of its runs."""
    query = (
        select(RunRow.experiment_id, RunRow.state, func.count())
        .where(RunRow.experiment_id.in_(ids))
        .group_by(RunRow.experiment_id, RunRow.state)
    )
    found: dict[str, dict[str, int]] = {}
    for experiment_id, state, number in session.execute(query):
        if experiment_id is not None:
            found.setdefault(experiment_id, {})[state] = number
    return found


def _row(session: Session, experiment_id: str) -> ExperimentRow:
    """An experiment's row."""
    row = session.get(ExperimentRow, experiment_id)
    if row is None:
        raise NotFound(f"there is no experiment {experiment_id!r}; `vlglab experiments list` shows those there are")
    return row


def _read(row: ExperimentRow, states: dict[str, int], *, is_new: bool = True) -> Experiment:
    """The experiment of a row."""
    return Experiment(row.id, row.name, row.recipe, row.preset, row.request, row.created_at, states, row.owner, is_new)

"""Experiments: runs that were submitted together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from storage import keys
from storage.errors import IllegalMove, NotFound
from storage.records import walks
from storage.records.database import Database, now
from storage.records.idempotency import remember
from storage.records.pages import Page, clamp
from storage.records.retries import queue_again
from storage.records.runs import cancel_row
from storage.records.states import FINAL, RETRIABLE
from storage.records.submissions import Submission, insert
from storage.records.tables import ExperimentRow, RunInputRow, RunRow
from storage.records.walks import Walk
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
        moment = now(session)
        row = ExperimentRow(
            id=keys.new_id("e", moment), name=name, recipe=recipe, preset=preset, request=request, created_at=moment,
            owner=submission.owner,
        )  # fmt: skip
        session.add(row)
        session.flush()
        insert(session, planned, row.id, submission)
        if once is not None:
            remember(session, [(once, row.id)])
        return _read(row, {"queued": len(planned)})


def get(db: Database, experiment_id: str) -> Experiment:
    """One experiment.

    Raises:
        NotFound: there is none of that id.
    """
    with db.read() as session:
        row = _row(session, experiment_id)
        return _read(row, _states(session, [row.id]).get(row.id, {}))


@dataclass(frozen=True, slots=True)
class ExperimentFilter:
    """Which experiments a list holds; None does not filter."""

    owner: str | None = None
    recipe: str | None = None
    text: str | None = None
    """Stands in the id or the name, A to Z in either case."""
    created_after: datetime | None = None
    created_before: datetime | None = None
    oldest_first: bool = False


def list_experiments(
    db: Database, cursor: str | None = None, limit: int = 100, only: ExperimentFilter | None = None
) -> Page[Experiment]:
    """A page of experiments, newest first unless told otherwise; it may hold fewer where few fit, as a page of runs.

    Raises:
        InvalidInput: a cursor that no page of this order gave.
    """
    only, limit = only or ExperimentFilter(), clamp(limit)
    order = "oldest" if only.oldest_first else "newest"
    after = None if cursor is None else walks.key_of(cursor, order, (str,))
    walk, fits = _search(only)
    with db.read() as session:
        found, following = walks.keys_of_page(session, walk, fits, after, limit)
        ids = [str(key[-1]) for key in found]
        rows = session.scalars(select(ExperimentRow).where(ExperimentRow.id.in_(ids))) if ids else ()
        of_id = {row.id: row for row in rows}
        states = _states(session, ids) if ids else {}
        items = tuple(_read(of_id[one], states.get(one, {})) for one in ids)
        return Page(items, walks.cursor_of(order, following))


def _search(only: ExperimentFilter) -> tuple[Walk, ColumnElement[bool] | None]:
    """The walk for a filter, and what each row is put to."""
    table = ExperimentRow
    low = () if only.created_after is None else (walks.id_before("e", only.created_after),)
    high = () if only.created_before is None else (walks.id_behind("e", only.created_before),)
    served = table.recipe if only.recipe is not None else table.owner if only.owner is not None else None
    order = (table.id,) if served is None else (served, table.id)
    fixed = () if served is None else (only.owner if only.recipe is None else only.recipe,)
    conditions: list[ColumnElement[bool]] = []
    if only.recipe is not None and only.owner is not None:
        conditions.append(table.owner == only.owner)
    if only.created_after is not None:
        conditions.append(table.created_at >= only.created_after)
    if only.created_before is not None:
        conditions.append(table.created_at < only.created_before)
    if only.text is not None:
        conditions.append(or_(*(place.icontains(only.text, autoescape=True) for place in (table.id, table.name))))
    return Walk(order, fixed, low, high, not only.oldest_first), walks.all_of(conditions)


def request_cancel(db: Database, experiment_id: str, by: str = "") -> Experiment:
    """Cancels its runs that have not ended, but for those that another experiment's living runs need.

    `by` is who does, empty where nobody was asked.

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
                cancel_row(session, run, by)
        session.flush()
        return _read(row, dict(Counter(run.state for run in runs)))


def retry(db: Database, experiment_id: str, *, anew: bool = False, by: str = "") -> Experiment:
    """Queues its runs again that failed or were cancelled, each as a new attempt of the same run.

    With `anew`, these begin from nothing and not from their last checkpoints. `by` is who retries it, empty where
    nobody was asked.

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
        queue_again(session, ended, anew=anew, by=by)
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

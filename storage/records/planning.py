"""What a planner sees and what it may do: a snapshot of the waiting runs, and moves that are applied to it.

Knows the tables; the plan itself is a pure function of the service's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.records import artifacts, run_fields
from storage.records.database import Database
from storage.records.pages import pieces
from storage.records.runs import give_outputs, move
from storage.records.states import LIVE, RunState
from storage.records.tables import RunRow

AT_ONCE = 50
"""Most moves that one transaction applies."""
INPUT_FAILED = "input_failed"
"""Code of a run that was given up because a run that it needs failed or was cancelled."""


@dataclass(frozen=True, slots=True)
class InputView:
    """One input of a waiting run: the artifact's key, or the run that will give it."""

    artifact_key: str | None = None
    source: str | None = None
    output: str | None = None


@dataclass(frozen=True, slots=True)
class WaitingRun:
    """A run in the state `queued`."""

    id: str
    spec: Mapping[str, Any]
    inputs: Mapping[str, InputView]
    key: str | None = None
    priority: int = 0


@dataclass(frozen=True, slots=True)
class SourceRun:
    """A run that a waiting one needs."""

    state: RunState
    outputs: Mapping[str, str]
    """Output name -> artifact key."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What there is to plan."""

    waiting: Sequence[WaitingRun]
    sources: Mapping[str, SourceRun]
    live_keys: Mapping[str, str]
    """Key -> id of the ready or running run that stands for it."""


@dataclass(frozen=True, slots=True)
class FillInput:
    """An input's artifact exists now."""

    run_id: str
    port: str
    artifact_key: str


@dataclass(frozen=True, slots=True)
class MakeReady:
    """All inputs exist: a host may take the run."""

    run_id: str
    key: str | None


@dataclass(frozen=True, slots=True)
class MakeCached:
    """All outputs exist: nothing is to be computed."""

    run_id: str
    key: str
    outputs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class GiveUp:
    """A run that this one needs will never give its output."""

    run_id: str
    code: str
    reason: str


Move = FillInput | MakeReady | MakeCached | GiveUp
Exists = Callable[[Collection[str]], frozenset[str]]
"""Those of some artifact keys that are published."""
Plan = Callable[[Snapshot, Exists], Sequence[Move]]


def advance(db: Database, plan: Plan) -> list[Move]:
    """Plans once and applies it; returns the moves.

    The plan is first tried on a read, so that nothing is locked while there is nothing to do; where it finds moves it
    is made anew within the write transaction that applies them, so that two planners never act on an old snapshot. Of
    many moves only the first `AT_ONCE` are applied: other writers come in between.
    """
    with db.read() as session:
        if not _plan(session, plan):
            return []
    with db.write() as session:
        moves = _plan(session, plan)[:AT_ONCE]
        query = select(RunRow).where(RunRow.id.in_({step.run_id for step in moves}))
        rows = {row.id: row for row in session.scalars(query.with_for_update())}
        for step in moves:
            _apply(session, rows[step.run_id], step)
        return moves


def _plan(session: Session, plan: Plan) -> list[Move]:
    """The plan's moves for what the session sees."""
    seen = _snapshot(session)
    return list(plan(seen, lambda keys: artifacts.existing(session, keys))) if seen.waiting else []


def _snapshot(session: Session) -> Snapshot:
    """The waiting runs with what they need; by priority, then age."""
    query = select(RunRow).where(RunRow.state == "queued").order_by(RunRow.priority.desc(), RunRow.id)
    waiting = [
        WaitingRun(
            id=row.id,
            spec=row.spec,
            inputs={i.port: InputView(i.artifact_key, i.source_run_id, i.output) for i in row.inputs},
            key=row.key,
            priority=row.priority,
        )
        for row in session.scalars(query)
    ]
    wanted = {
        view.source for run in waiting for view in run.inputs.values() if view.source and view.artifact_key is None
    }
    sources = {
        one["id"]: SourceRun(one["state"], one["outputs"])
        for some in pieces(sorted(wanted))
        for one in run_fields.read(session, some, ("state", "outputs"))
    }
    live = session.execute(
        select(RunRow.key, RunRow.id).where(RunRow.state.in_(LIVE), RunRow.key.is_not(None)).order_by(RunRow.id.desc())
    )
    return Snapshot(waiting, sources, {key: run_id for key, run_id in live if key is not None})


def _apply(session: Session, row: RunRow, step: Move) -> None:
    """Applies one move to its run's row."""
    match step:
        case FillInput():
            next(i for i in row.inputs if i.port == step.port).artifact_key = step.artifact_key
        case MakeReady():
            row.key = step.key
            move(session, row, "ready", "its inputs exist" if row.inputs else "it needs no input")
        case MakeCached():
            row.key = step.key
            give_outputs(session, row, step.outputs)
            move(session, row, "cached", "every output is published already")
        case GiveUp():
            move(session, row, "cancelled", step.reason, reason_code=step.code, reason=step.reason)

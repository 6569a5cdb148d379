"""What a planner sees and what it may do: a snapshot of the waiting runs, and moves that are applied to it.

Knows the tables; the plan itself is a pure function of the service's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy import insert as insert_rows
from sqlalchemy.orm import Session

from storage.errors import IllegalMove
from storage.records import artifacts, run_fields
from storage.records.agenda import MAY_MOVE, Agenda
from storage.records.database import Database, now
from storage.records.pages import pieces
from storage.records.runs import give_outputs, living_keys, move, row_of
from storage.records.states import RunState
from storage.records.tables import EventRow, RunInputRow, RunRow

AT_ONCE = 500
"""Most moves that one transaction applies, and most runs that one statement asks for."""
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
    attempt: int = 0


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


@dataclass(frozen=True, slots=True)
class Decision:
    """What a plan comes to."""

    moves: Sequence[Move]
    """In the order in which they are to be applied."""
    held: Mapping[str, str]
    """Run that could go but for another of the same key -> that key."""


Known = Callable[[Collection[str]], frozenset[str]]
"""Those of some keys of which something is so."""
Plan = Callable[[Snapshot, Known, Known], Decision]
"""Given what there is, which artifact keys are published, and which runs' keys a ready or running run stands for."""


def advance(db: Database, plan: Plan, agenda: Agenda | None = None) -> list[Move]:
    """Plans once what is on the agenda (default: all that waits) and applies it; returns the moves.

    The plan is first tried on a read, so that nothing is locked while there is nothing to do; where it finds moves it
    is made anew within the write transaction that applies them, so that two planners never act on an old snapshot. Of
    many moves only the first `AT_ONCE` are applied: other writers come in between.
    """
    agenda = agenda or Agenda()
    with db.read() as session:
        if not _plan(session, plan, agenda)[1]:
            return []
    with db.write() as session:
        seen, moves = _plan(session, plan, agenda)
        moves = list(moves[:AT_ONCE])
        _apply(session, seen, moves)
        return moves


def _plan(session: Session, plan: Plan, agenda: Agenda) -> tuple[Snapshot, Sequence[Move]]:
    """What the session sees of the agenda's runs, and the plan's moves for it."""
    seen = _snapshot(session, agenda.look(session))
    decision = Decision((), {})
    if seen.waiting:
        decision = plan(seen, partial(artifacts.existing, session), partial(living_keys, session))
    agenda.note(decision.held, moved=bool(decision.moves))
    return seen, decision.moves


def _snapshot(session: Session, among: Collection[str] | None) -> Snapshot:
    """The waiting runs that may move, with what they need; by priority, then age.

    Read column by column: there may be thousands. Specs and inputs are read of no other runs than these.

    Args:
        session: a transaction.
        among: the runs in question, at most `AT_ONCE`; None: all.
    """
    if among is None:
        waiting = session.execute(_WAITING).all()
    else:
        waiting = session.execute(_WAITING_AMONG, {"ids": sorted(among)}).all() if among else []
    inputs: dict[str, dict[str, InputView]] = {run.id: {} for run in waiting}
    wanted: set[str] = set()
    for some in pieces(inputs):
        for run_id, port, key, source, output in session.execute(_INPUTS, {"ids": some}):
            inputs[run_id][port] = InputView(key, source, output)
            if key is None and source is not None:
                wanted.add(source)
    sources = {
        one["id"]: SourceRun(one["state"], one["outputs"])
        for some in pieces(sorted(wanted))
        for one in run_fields.read(session, some, ("state", "outputs"))
    }
    seen = [WaitingRun(run.id, run.spec, inputs[run.id], run.key, run.priority, run.attempt) for run in waiting]
    return Snapshot(seen, sources)


_IDS: Any = bindparam("ids", expanding=True)
_WAITING = (
    select(RunRow.id, RunRow.spec, RunRow.key, RunRow.priority, RunRow.attempt)
    .where(MAY_MOVE)
    .order_by(RunRow.priority.desc(), RunRow.id)
)
_WAITING_AMONG = _WAITING.where(RunRow.id.in_(_IDS))
_INPUTS = (
    select(
        RunInputRow.run_id, RunInputRow.port, RunInputRow.artifact_key, RunInputRow.source_run_id, RunInputRow.output
    )
    .where(RunInputRow.run_id.in_(_IDS))
    .order_by(RunInputRow.run_id, RunInputRow.port)
)


def _apply(session: Session, seen: Snapshot, moves: Sequence[Move]) -> None:
    """Applies moves: runs that become ready all at once, for there may be thousands, the rest one by one."""
    waiting = {run.id: run for run in seen.waiting}
    ready: list[_Readied] = []
    filled: list[dict[str, str]] = []
    for step in moves:
        match step:
            case FillInput():
                filled.append({"of_run": step.run_id, "at_port": step.port, "artifact_key": step.artifact_key})
            case MakeReady():
                run = waiting[step.run_id]
                said = "its inputs exist" if run.inputs else "it needs no input"
                ready.append(_Readied(run.id, step.key, run.attempt, said))
            case _:
                _end(session, step)
    if filled:
        inputs = RunInputRow.__table__
        where = (inputs.c.run_id == bindparam("of_run"), inputs.c.port == bindparam("at_port"))
        session.connection().execute(update(inputs).where(*where), filled)  # type: ignore[arg-type]
    _make_ready(session, ready)
    session.flush()


def _end(session: Session, step: MakeCached | GiveUp) -> None:
    """Ends a run that need not or cannot run."""
    row = row_of(session, step.run_id, lock=True)
    if isinstance(step, MakeCached):
        row.key = step.key
        give_outputs(session, row, step.outputs)
        move(session, row, "cached", "every output is published already")
    else:
        move(session, row, "cancelled", step.reason, reason_code=step.code, reason=step.reason)


@dataclass(frozen=True, slots=True)
class _Readied:
    """A queued run that may be claimed."""

    run_id: str
    key: str | None
    """The run's key, where it is known."""
    attempt: int
    """Attempts that it has had."""
    message: str
    """The event's text."""


def _make_ready(session: Session, queued: Sequence[_Readied]) -> None:
    """Moves queued runs to `ready`, as `runs.move` does one: all at once, a statement a table.

    Args:
        session: an open, ordered write transaction.
        queued: the runs, read in that transaction.

    Raises:
        IllegalMove: one is not queued.
    """
    if not queued:
        return
    rows, events, moment = RunRow.__table__.c, EventRow.__table__, now(session)
    change = update(RunRow.__table__).where(rows.id == bindparam("run"), rows.state == "queued")  # type: ignore[arg-type]
    changed = session.connection().execute(
        change.values(state="ready", reason_code=None, reason=None),
        [{"run": run.run_id, "key": run.key} for run in queued],
    )
    if changed.rowcount != len(queued):
        raise IllegalMove(f"got {len(queued)} runs to make ready, of which {changed.rowcount} are queued")
    said = {"at": moment, "kind": "state", "state": "ready"}
    happened = [{"run_id": run.run_id, "attempt": run.attempt, "message": run.message, **said} for run in queued]
    session.connection().execute(insert_rows(events), happened)  # type: ignore[arg-type]

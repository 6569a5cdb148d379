"""The planner: a snapshot of the waiting runs in, a list of moves out. Pure; knows specs and keys, no database.

A queued run becomes `ready` when all its inputs exist, `cached` when all its outputs do already, and is given up when a
run that it needs failed or was cancelled. Of several runs of one key, one is made ready; the others wait and take over
if it does not succeed. A run whose key only a worker can compute (`StageSpec.external`) is made ready without one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from storage import keys
from storage.errors import InvalidInput
from storage.records.planning import (
    INPUT_FAILED,
    Decision,
    FillInput,
    GiveUp,
    Known,
    MakeCached,
    MakeReady,
    Move,
    Snapshot,
    SourceRun,
    WaitingRun,
)
from storage.records.states import DONE, FINAL
from storage.specs import stages


@dataclass(frozen=True, slots=True)
class _Startable:
    """A waiting run whose inputs all exist."""

    run: WaitingRun
    key: str | None
    outputs: Mapping[str, str]
    """Output name -> the key that it will have; empty where only a worker knows."""


def plan(snapshot: Snapshot, exists: Known, live: Known) -> Decision:
    """The moves that the snapshot allows, in the order in which they are to be applied, and whom a key holds back.

    Args:
        snapshot: the waiting runs, by priority and then age, with the runs that they need.
        exists: tells which of some artifact keys are published.
        live: tells which of some runs' keys a ready or running run stands for.
    """
    moves: list[Move] = []
    startable: list[_Startable] = []
    for run in snapshot.waiting:
        steps, inputs = _look_at_inputs(run, snapshot.sources)
        moves.extend(steps)
        if inputs is None:
            continue
        try:
            startable.append(_startable(run, inputs))
        except InvalidInput as error:
            moves.append(GiveUp(run.id, error.code, f"its stored spec cannot be read any more: {error.message}"))
    published = exists([key for item in startable for key in item.outputs.values()])
    taken = set(live({item.key for item in startable if item.key is not None}))
    held: dict[str, str] = {}
    for item in startable:
        if item.key is not None and item.outputs and published.issuperset(item.outputs.values()):
            moves.append(MakeCached(item.run.id, item.key, item.outputs))
        elif item.key is None:
            moves.append(MakeReady(item.run.id, None))
        elif item.key in taken:
            held[item.run.id] = item.key
        else:
            moves.append(MakeReady(item.run.id, item.key))
            taken.add(item.key)
    return Decision(moves, held)


def _look_at_inputs(run: WaitingRun, sources: Mapping[str, SourceRun]) -> tuple[list[Move], Mapping[str, str] | None]:
    """What the state of its inputs asks for; and all their keys by port, or None where one is still missing."""
    fills: list[Move] = []
    known: dict[str, str] = {}
    for port, view in run.inputs.items():
        if view.artifact_key is not None:
            known[port] = view.artifact_key
            continue
        if view.source is None or view.output is None:
            reason = f"its input {port!r} will never come: the run that would have given it was deleted"
            return [GiveUp(run.id, INPUT_FAILED, reason)], None
        source = sources[view.source]
        if source.state not in FINAL:
            continue
        made = source.outputs.get(view.output)
        if source.state not in DONE or made is None:
            how = source.state if source.state not in DONE else f"{source.state} without giving {view.output!r}"
            reason = f"its input {port!r} will never come: the run {view.source} {_verb(how)}"
            return [GiveUp(run.id, INPUT_FAILED, reason)], None
        fills.append(FillInput(run.id, port, made))
        known[port] = made
    return fills, known if len(known) == len(run.inputs) else None


def _verb(how: str) -> str:
    """The end of a run as part of a sentence."""
    return how if how.startswith(("failed", "succeeded")) else f"was {how}"


def _startable(run: WaitingRun, inputs: Mapping[str, str]) -> _Startable:
    """The run with the keys that can be known before it runs."""
    spec = stages.parse(run.spec)
    if spec.external:
        return _Startable(run, run.key, {})
    outputs = {name: keys.artifact_key(spec, name, inputs) for name in spec.outputs}
    return _Startable(run, run.key or keys.artifact_key(spec, "", inputs), outputs)

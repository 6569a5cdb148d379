"""What a plan would compute, and what it would take: nothing is written. Knows the tables, the keys, and past runs.

The plan goes through the same checks as a submission, in a transaction that is rolled back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage import keys
from storage.records import artifacts, estimates
from storage.records.database import Database
from storage.records.estimates import Estimate
from storage.records.runs import living_of_key
from storage.records.states import DONE
from storage.records.submissions import Submission, insert
from storage.records.tables import RunRow
from storage.specs.plans import PlannedRun

Outlook = Literal["compute", "cached", "likely_cached", "shared"]
"""compute: to be computed; cached: every output is published; likely_cached: so it was when this was last asked for,
and only a worker can tell whether what lies outside the store (raw scenes, weights) is still the same; shared: another
run computes the same."""


@dataclass(frozen=True, slots=True)
class Foreseen:
    """One run of a plan, as it would go."""

    name: str
    stage: str
    dataset: str | None
    outlook: Outlook
    why: str
    outputs: Mapping[str, str]
    """Output -> key of its artifact, where that can be told beforehand."""
    estimate: Estimate | None
    """What it would take, from past runs; None where there was none, or nothing is to be computed."""


@dataclass(slots=True)
class _Waiting:
    """One run of the plan with its inputs."""

    planned: PlannedRun
    spec_digest: str
    inputs: Mapping[str, tuple[str | None, str | None, str | None]]
    """Port -> name or id of the run that gives it, that run's output, its artifact's key; None where not known."""


@dataclass(slots=True)
class _Known:
    """What is known so far of the plan's outputs."""

    given: dict[tuple[str, str], str] = field(default_factory=dict)
    """(Run, output) -> key."""
    assumed: set[str] = field(default_factory=set)
    """Keys that hold only if what lies outside the store has not changed."""
    makers: dict[str, str] = field(default_factory=dict)
    """A run's own key -> name of the first run of the plan with it."""


class _NothingIsWritten(Exception):
    """Ends the transaction in which the plan was checked."""


def look(db: Database, planned: Sequence[PlannedRun], submission: Submission | None = None) -> list[Foreseen]:
    """Each run of a plan as it would go, in the plan's order.

    Raises:
        SpecInvalid, UnknownName, NotFound, IllegalMove: as `runs.create`.
    """
    waiting: list[_Waiting] = []
    try:
        with db.write() as session:
            rows = insert(session, planned, None, submission or Submission())
            names = {row.id: run.name for run, row in zip(planned, rows, strict=True)}
            for run, row in zip(planned, rows, strict=True):
                inputs = {str(entry["port"]): _input(entry, names) for entry in row.inputs}
                waiting.append(_Waiting(run, row.columns["spec_digest"], inputs))
            raise _NothingIsWritten
    except _NothingIsWritten:
        pass
    known = _Known()
    with db.read() as session:
        return [_foreseen(session, one, known) for one in waiting]


def _input(entry: Mapping[str, str | None], names: Mapping[str, str]) -> tuple[str | None, str | None, str | None]:
    """Where an input comes from: the run's name within the plan, else its id."""
    source = entry["source_run_id"]
    return None if source is None else names.get(source, source), entry["output"], entry["artifact_key"]


def _foreseen(session: Session, one: _Waiting, known: _Known) -> Foreseen:
    """One run, after those that it reads."""
    spec = one.planned.spec
    inputs = {
        port: key or known.given.get((source or "", output or "")) for port, (source, output, key) in one.inputs.items()
    }
    complete = {port: key for port, key in inputs.items() if key is not None}
    outputs: Mapping[str, str] = {}
    assumed = not known.assumed.isdisjoint(complete.values())
    if len(complete) < len(inputs):
        outlook, why = "compute", "an input that only a worker can name is to be computed first"
    elif spec.external:
        outputs = _last_time(session, one, complete)
        assumed, outlook, why = True, "compute", "no run of this spec has read these inputs"
    else:
        outputs = {name: keys.artifact_key(spec, name, complete) for name in spec.outputs}
        outlook, why = "compute", "not published yet"
    if outputs and artifacts.existing(session, outputs.values()) == set(outputs.values()):
        outlook = "likely_cached" if assumed else "cached"
        why = "published; if what it reads outside the store is the same" if assumed else "published"
    elif outputs and (holder := _holder(session, keys.artifact_key(spec, "", complete), one.planned.name, known)):
        outlook, why = "shared", f"{holder} computes the same"
    known.given |= {(one.planned.name, name): key for name, key in outputs.items()}
    if assumed:
        known.assumed |= set(outputs.values())
    estimate = estimates.of(session, spec.stage, one.spec_digest) if outlook == "compute" else None
    return Foreseen(one.planned.name, spec.stage, one.planned.dataset, outlook, why, outputs, estimate)  # type: ignore[arg-type]


def _holder(session: Session, key: str, name: str, known: _Known) -> str | None:
    """Another run of the same key that will compute it, in words: a living one, else one of the plan."""
    first = known.makers.setdefault(key, name)
    living = living_of_key(session, key)
    if living is not None:
        return f"the run {living}"
    return None if first == name else f"the run {first!r} of this plan"


def _last_time(session: Session, one: _Waiting, inputs: Mapping[str, str]) -> Mapping[str, str]:
    """What the last run gave that had the same spec, dataset and inputs; empty where there was none."""
    query = (
        select(RunRow)
        .where(RunRow.spec_digest == one.spec_digest, RunRow.state.in_(DONE), RunRow.stage == one.planned.spec.stage)
        .order_by(RunRow.id.desc())
    )
    for row in session.scalars(query.limit(20)):
        read = {entry.port: entry.artifact_key for entry in row.inputs}
        if row.dataset == one.planned.dataset and read == dict(inputs):
            return {entry.output: entry.artifact_key for entry in row.outputs}
    return {}

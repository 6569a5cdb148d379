"""New runs: a plan's references resolved to rows, which are written table by table, however many runs there are.

Knows the tables and the specs' ports; no states but those that a run may begin in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import insert as inserting
from sqlalchemy import select
from sqlalchemy.orm import Session

from storage import keys
from storage.errors import IllegalMove, NotFound, SpecInvalid, UnknownName
from storage.records.database import now
from storage.records.idempotency import Once
from storage.records.tables import (
    ArtifactTableRow,
    AttemptRow,
    DatasetRow,
    EventRow,
    RemovalRow,
    RunInputRow,
    RunRow,
    RunTagRow,
)
from storage.specs import stages
from storage.specs.label_sets import OF_CLASSES, check_plan_label_sets
from storage.specs.plans import ArtifactRef, InputRef, OutputRef, PlannedRun, check_plan
from storage.specs.spec import ArtifactKind


@dataclass(frozen=True, slots=True)
class Wishes:
    """What whoever submits a run wants of it, beyond what it computes. Enters no key."""

    priority: int = 0
    """Higher runs first."""
    tags: tuple[str, ...] = ()
    notes: str = ""
    time_limit_s: float | None = None
    """Seconds that an attempt may take; None sets no limit."""
    gpus: int | None = None
    """GPUs that it gets, on a machine that has as many; None: as its stage uses them, where there are any."""
    memory_gb: float | None = None
    """GB of memory that are kept free for it; None keeps none."""
    lease_s: float | None = None
    """Of a run that its owner runs: start it at once, under a lease of so many seconds; None lets it wait."""


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run that was just written."""

    columns: Mapping[str, Any]
    """Column -> value, as in its row."""
    inputs: Sequence[Mapping[str, str | None]]
    """The rows of its inputs: "port", "source_run_id", "output", "artifact_key"."""
    tags: tuple[str, ...]
    lease_s: float | None = None
    """Seconds of the lease of its first attempt, where its owner has started it."""

    @property
    def id(self) -> str:
        """Its id."""
        return str(self.columns["id"])


@dataclass(frozen=True, slots=True)
class Submission:
    """Who submits a plan, and what they want of its runs."""

    owner: str = ""
    wishes: Mapping[str, Wishes] = field(default_factory=dict)
    """By the run's name; a run that is not here has none."""
    once: Once | None = None
    """Set where the request may be sent twice."""


def insert(
    session: Session, planned: Sequence[PlannedRun], experiment_id: str | None, submission: Submission
) -> list[NewRun]:
    """Writes the runs of a plan, `queued` (or started, where their owner runs them and wishes it); in the plan's order.

    Raises:
        SpecInvalid, UnknownName, NotFound, IllegalMove: as `runs.create`.
    """
    made = prepare(session, planned, experiment_id, submission)
    write(session, made)
    return made


def prepare(
    session: Session, planned: Sequence[PlannedRun], experiment_id: str | None, submission: Submission
) -> list[NewRun]:
    """The runs of a plan as `write` writes them, within the transaction that does; raises as `insert`."""
    check_plan(planned)
    _check_datasets(session, planned)
    check_plan_label_sets(planned, partial(_label_set_of, session))
    moment = now(session)
    ids = dict(zip((run.name for run in planned), _new_ids(len(planned), moment), strict=True))
    made: list[NewRun] = []
    earlier: dict[str, Mapping[str, ArtifactKind]] = {}
    for run in planned:
        _check_order(run, ids, earlier)
        resolved = {port: _resolve(session, run, port, ref, ids, earlier) for port, ref in run.inputs.items()}
        earlier[run.name] = run.spec.outputs
        stages.check_inputs(run.spec, {port: kind for port, (_, kind) in resolved.items()})
        wishes = submission.wishes.get(run.name, Wishes())
        columns = _columns(run, ids[run.name], experiment_id, submission.owner, wishes, moment)
        inputs = [row for row, _ in resolved.values()]
        made.append(NewRun(columns, inputs, tuple(sorted(set(wishes.tags))), wishes.lease_s))
    return made


def write(session: Session, made: Sequence[NewRun]) -> None:
    """Writes the rows of new runs, of one plan or of several, a statement a table."""
    if not made:
        return
    execute = session.connection().execute
    execute(_INTO_RUNS, [run.columns for run in made])
    inputs = [{"run_id": run.columns["id"], **row} for run in made for row in run.inputs]
    tags = [{"run_id": run.columns["id"], "tag": tag} for run in made for tag in run.tags]
    attempts = [_first_attempt(run, run.lease_s) for run in made if run.lease_s is not None]
    for into, rows in ((_INTO_INPUTS, inputs), (_INTO_TAGS, tags), (_INTO_ATTEMPTS, attempts)):
        if rows:
            execute(into, rows)
    events = [
        {
            "run_id": run.columns["id"],
            "at": run.columns["created_at"],
            "kind": "state",
            "state": run.columns["state"],
            "attempt": run.columns["attempt"],
            "message": "submitted" if run.columns["token"] is None else "submitted and started by its owner",
        }
        for run in made
    ]
    execute(_INTO_EVENTS, events)


def _first_attempt(run: NewRun, lease_s: float) -> dict[str, Any]:
    """The columns of the first attempt at a run that is started already."""
    columns = run.columns
    return owners_attempt(run.id, columns["token"], 1, lease_s, columns["time_limit_s"], columns["created_at"])


_INTO_RUNS, _INTO_INPUTS, _INTO_TAGS, _INTO_EVENTS, _INTO_ATTEMPTS = (
    inserting(table.__table__)  # type: ignore[arg-type]
    for table in (RunRow, RunInputRow, RunTagRow, EventRow, AttemptRow)
)
"""Kept, for SQLAlchemy takes as long to make a statement as to run it."""


def owners_attempt(
    run_id: str, token: str, number: int, lease_s: float, time_limit_s: float | None, moment: datetime
) -> dict[str, Any]:
    """The columns of an attempt that a run's owner makes: no host, a lease of its own length."""
    return {
        "token": token,
        "run_id": run_id,
        "number": number,
        "state": "running",
        "host_id": None,
        "gpus": [],
        "lease_s": lease_s,
        "lease_until": moment + timedelta(seconds=min(lease_s, time_limit_s or lease_s)),
        "claimed_at": moment,
    }


def _new_ids(number: int, moment: datetime) -> list[str]:
    """Ids that sort in the plan's order, though they are made within one millisecond."""
    return sorted(keys.new_id("r", moment) for _ in range(number))


def _columns(
    run: PlannedRun, run_id: str, experiment_id: str | None, owner: str, wishes: Wishes, moment: datetime
) -> dict[str, Any]:
    """The columns of one run of the plan."""
    started = wishes.lease_s is not None
    if started:
        _check_start(run)
    return {
        "id": run_id,
        "experiment_id": experiment_id,
        "name": run.name,
        "stage": run.spec.stage,
        "dataset": run.dataset,
        "spec": run.spec.model_dump(mode="json"),
        "spec_digest": run.spec.digest(),
        "key": None,
        "state": "running" if started else "queued",
        "priority": wishes.priority,
        "reason_code": None,
        "reason": None,
        "scene": None,
        "progress": None,
        "seed": getattr(run.spec, "seed", None),
        "attempt": int(started),
        "token": keys.new_token() if started else None,
        "created_at": moment,
        "started_at": moment if started else None,
        "ended_at": None,
        "host": None,
        "device": None,
        "code": {},
        "environment": {},
        "cancel_requested": False,
        "peak_rss_bytes": 0,
        "owner": owner,
        "notes": wishes.notes,
        "time_limit_s": wishes.time_limit_s,
        "attempts_before_retry": 0,
        "gpus": wishes.gpus,
        "memory_gb": wishes.memory_gb,
        "rerun_of": None,
        "anew_after": 0,
    }


def _check_start(run: PlannedRun) -> None:
    """Refuses to start a run at once that workers run, or whose inputs another run has yet to give."""
    if run.spec.stage not in stages.BY_OWNER:
        stages_of_owners = ", ".join(sorted(stages.BY_OWNER))
        raise SpecInvalid(
            f"run {run.name!r}: got lease_s, with which its owner starts a run; a run of {run.spec.stage!r} is started"
            f" by a worker host (stages of owners: {stages_of_owners})"
        )
    if waits := [port for port, ref in run.inputs.items() if isinstance(ref, OutputRef)]:
        raise SpecInvalid(
            f"run {run.name!r}: got lease_s, but its input {', '.join(waits)} is another run's output; leave lease_s"
            " out, and start it when it is ready"
        )


def _check_datasets(session: Session, planned: Sequence[PlannedRun]) -> None:
    """Refuses datasets that are not registered."""
    named = {run.dataset for run in planned if run.dataset is not None}
    if not named:
        return
    known = set(session.scalars(select(DatasetRow.name)))
    for name in sorted(named - known):
        raise UnknownName.among("dataset", name, known)


def _check_order(run: PlannedRun, ids: Mapping[str, str], earlier: Mapping[str, object]) -> None:
    """Refuses a reference to the run itself or to a later one, and with them every cycle."""
    for port, ref in run.inputs.items():
        if isinstance(ref, OutputRef) and ref.run in ids and ref.run not in earlier:
            raise SpecInvalid(
                f"run {run.name!r}, input {port!r}: {ref.run!r} does not come before it in the request;"
                " list a run after those whose outputs it reads (a cycle has no such order)"
            )


def _resolve(
    session: Session,
    run: PlannedRun,
    port: str,
    ref: InputRef,
    ids: Mapping[str, str],
    outputs: Mapping[str, Mapping[str, ArtifactKind]],
) -> tuple[dict[str, str | None], ArtifactKind]:
    """The row of one input, without its run, and the kind of the artifact behind it."""
    if isinstance(ref, ArtifactRef):
        artifact = session.get(ArtifactTableRow, ref.artifact)
        if artifact is None:
            raise NotFound(f"run {run.name!r}, input {port!r}: there is no published artifact {ref.artifact!r}")
        kind: ArtifactKind = artifact.kind  # type: ignore[assignment]
        return _input(port, artifact_key=artifact.key), kind
    if ref.run in ids:
        return _input(port, ids[ref.run], ref.output), outputs[ref.run][ref.output]
    return _from_existing(session, run, port, ref, ids)


def _from_existing(
    session: Session, run: PlannedRun, port: str, ref: OutputRef, ids: Mapping[str, str]
) -> tuple[dict[str, str | None], ArtifactKind]:
    """The row of an input that a run outside the plan gives."""
    where = f"run {run.name!r}, input {port!r}"
    source = session.get(RunRow, ref.run)
    if source is None:
        names = ", ".join(ids)
        raise NotFound(f"{where}: {ref.run!r} is neither a run of this request ({names}) nor the id of an existing one")
    if session.get(RemovalRow, ("run", ref.run)) is not None:
        raise IllegalMove(f"{where}: the run {ref.run} is being deleted")
    kinds = stages.STAGES[source.stage].outputs if source.stage in stages.STAGES else {}
    if ref.output not in kinds:
        raise SpecInvalid(f"{where}: {ref.run!r} has no output {ref.output!r}; it has: {', '.join(kinds)}")
    if source.state in ("failed", "cancelled"):
        raise IllegalMove(f"{where}: the run {ref.run} is {source.state} and will never give its {ref.output!r}")
    made = next((o.artifact_key for o in source.outputs if o.output == ref.output), None)
    return _input(port, source.id, ref.output, made), kinds[ref.output]


def _input(
    port: str, source_run_id: str | None = None, output: str | None = None, artifact_key: str | None = None
) -> dict[str, str | None]:
    """The columns of an input, without its run."""
    return {"port": port, "source_run_id": source_run_id, "output": output, "artifact_key": artifact_key}


def _label_set_of(session: Session, ref: InputRef) -> str | None:
    """The label set of what is named from outside a plan: as it was published, else as its run will have it."""
    if isinstance(ref, ArtifactRef):
        artifact = session.get(ArtifactTableRow, ref.artifact)
        return None if artifact is None else artifact.attributes.get("label_set")
    source = session.get(RunRow, ref.run)
    if source is None or source.stage not in stages.STAGES:
        return None
    if stages.STAGES[source.stage].outputs.get(ref.output) not in OF_CLASSES:
        return None
    return _label_set_of_run(session, source)


def _label_set_of_run(session: Session, run: RunRow) -> str | None:
    """The label set of what a run makes of classes: its spec's, else that of its inputs."""
    of_spec: str | None = run.spec.get("label_set")
    if of_spec is not None:
        return of_spec
    for entry in run.inputs:
        ref: InputRef | None = None
        if entry.artifact_key is not None:
            ref = ArtifactRef(entry.artifact_key)
        elif entry.source_run_id is not None and entry.output is not None:
            ref = OutputRef(entry.source_run_id, entry.output)
        if ref is not None and (found := _label_set_of(session, ref)) is not None:
            return found
    return None

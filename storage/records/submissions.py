"""New runs: a plan's references resolved to rows. Knows the tables and the specs' ports; no state but `queued`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage import keys
from storage.errors import IllegalMove, NotFound, SpecInvalid, UnknownName
from storage.records.database import now
from storage.records.idempotency import Once
from storage.records.tables import ArtifactTableRow, DatasetRow, EventRow, RemovalRow, RunInputRow, RunRow, RunTagRow
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
) -> list[RunRow]:
    """Adds the runs of a plan, `queued`, within a write transaction; in the plan's order.

    Raises:
        SpecInvalid, UnknownName, NotFound, IllegalMove: as `runs.create`.
    """
    check_plan(planned)
    _check_datasets(session, planned)
    check_plan_label_sets(planned, partial(_label_set_of, session))
    moment = now(session)
    ids = dict(zip((run.name for run in planned), _new_ids(len(planned), moment), strict=True))
    rows = [_row(run, ids[run.name], experiment_id, submission, moment) for run in planned]
    session.add_all(rows)
    session.flush()
    earlier: dict[str, Mapping[str, ArtifactKind]] = {}
    for run, row in zip(planned, rows, strict=True):
        _check_order(run, ids, earlier)
        resolved = {port: _resolve(session, run, port, ref, ids, earlier) for port, ref in run.inputs.items()}
        earlier[run.name] = run.spec.outputs
        stages.check_inputs(run.spec, {port: kind for port, (_, kind) in resolved.items()})
        row.inputs = [entry for entry, _ in resolved.values()]
        session.add(EventRow(run_id=row.id, at=moment, kind="state", state="queued", attempt=0, message="submitted"))
    session.flush()
    return rows


def _new_ids(number: int, moment: datetime) -> list[str]:
    """Ids that sort in the plan's order, though they are made within one millisecond."""
    return sorted(keys.new_id("r", moment) for _ in range(number))


def _row(run: PlannedRun, run_id: str, experiment_id: str | None, submission: Submission, moment: datetime) -> RunRow:
    """The row of one run of the plan, without its inputs."""
    wishes = submission.wishes.get(run.name, Wishes())
    return RunRow(
        id=run_id,
        experiment_id=experiment_id,
        name=run.name,
        stage=run.spec.stage,
        dataset=run.dataset,
        spec=run.spec.model_dump(mode="json"),
        spec_digest=run.spec.digest(),
        state="queued",
        priority=wishes.priority,
        owner=submission.owner,
        notes=wishes.notes,
        time_limit_s=wishes.time_limit_s,
        gpus=wishes.gpus,
        memory_gb=wishes.memory_gb,
        tags=[RunTagRow(tag=tag) for tag in sorted(set(wishes.tags))],
        seed=getattr(run.spec, "seed", None),
        attempt=0,
        created_at=moment,
        code={},
        environment={},
        cancel_requested=False,
        peak_rss_bytes=0,
        outputs=[],
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
) -> tuple[RunInputRow, ArtifactKind]:
    """The row of one input, and the kind of the artifact behind it."""
    if isinstance(ref, ArtifactRef):
        artifact = session.get(ArtifactTableRow, ref.artifact)
        if artifact is None:
            raise NotFound(f"run {run.name!r}, input {port!r}: there is no published artifact {ref.artifact!r}")
        kind: ArtifactKind = artifact.kind  # type: ignore[assignment]
        return RunInputRow(port=port, artifact_key=artifact.key), kind
    if ref.run in ids:
        return RunInputRow(port=port, source_run_id=ids[ref.run], output=ref.output), outputs[ref.run][ref.output]
    return _from_existing(session, run, port, ref, ids)


def _from_existing(
    session: Session, run: PlannedRun, port: str, ref: OutputRef, ids: Mapping[str, str]
) -> tuple[RunInputRow, ArtifactKind]:
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
    return RunInputRow(port=port, source_run_id=source.id, output=ref.output, artifact_key=made), kinds[ref.output]


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

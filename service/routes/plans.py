"""Requests as plans: specs validated, recipes built, class names checked, foreseen. Knows no route, writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from service.access import Caller
from service.schemas import (
    DryRun,
    ExperimentRequest,
    InputRequest,
    PlannedWork,
    RunListRequest,
    RunRequest,
    Wished,
)
from storage import words
from storage.errors import SpecInvalid
from storage.labels import label_set
from storage.records import dry_runs
from storage.records.database import Database
from storage.records.datasets import Dataset
from storage.records.idempotency import Once
from storage.records.submissions import Submission, Wishes
from storage.settings import Settings
from storage.specs import presets, recipes, stages
from storage.specs.outside import Pull, Repair
from storage.specs.plans import ArtifactRef, InputRef, OutputRef, PlannedRun, check_plan
from storage.targets import source_target


def planned_runs(requests: Sequence[RunRequest], settings: Settings) -> list[PlannedRun]:
    """The plan of runs that were given one by one.

    Raises:
        SpecInvalid: a field, input or reference that is wrong.
        UnknownName: no such stage.
        UnknownClass: a class name that the text table does not know.
        InvalidInput: a source that the settings do not allow.
    """
    planned = []
    for request in requests:
        spec = stages.parse(request.spec)
        inputs = {port: _reference(source) for port, source in request.inputs.items()}
        planned.append(PlannedRun(request.name or spec.stage, spec, inputs, request.dataset))
    check_plan(planned)
    check(planned, settings)
    return planned


def recipe_runs(request: ExperimentRequest, dataset: Dataset) -> list[PlannedRun]:
    """The plan of a recipe on a registered dataset.

    Raises:
        UnknownName: no such recipe, preset, or run in an override.
        SpecInvalid: an override names a field that does not exist, or a value out of range.
        UnknownClass: a class name that the text table does not know.
    """
    wanted = presets.Request(
        dataset=dataset.name,
        label_set=dataset.label_set,
        splits=dataset.splits,
        preset=request.preset,
        seed=request.seed,
        pictures=dataset.kind != "clouds",
    )
    planned = list(recipes.build(request.recipe, wanted, request.overrides))
    check_class_names(planned)
    return planned


def once(caller: Caller, body: BaseModel, idempotency_key: str | None, of: str | None = None) -> Once | None:
    """The request under its key; a field that is sent with its default is one that is not sent.

    Args:
        caller: who sends it.
        body: what is asked for.
        idempotency_key: the key; None where it was sent without one.
        of: id of what the request's address names, where it does.
    """
    if idempotency_key is None:
        return None
    request = body.model_dump(mode="json", exclude_defaults=True)
    return Once(caller.name, idempotency_key, [type(body).__name__, request, *([of] if of else [])])


def foreseen(db: Database, caller: Caller, planned: Sequence[PlannedRun]) -> DryRun:
    """What a plan would compute and take; errors as when it is submitted."""
    found = [PlannedWork.model_validate(one) for one in dry_runs.look(db, planned, Submission(caller.name))]
    estimates = [one.estimate for one in found if one.estimate is not None]
    to_compute = sum(one.outlook == "compute" for one in found)
    return DryRun(
        runs=found,
        num_to_compute=to_compute,
        seconds=sum(one.seconds for one in estimates),
        num_bytes=sum(one.num_bytes for one in estimates),
        num_without_estimate=to_compute - len(estimates),
    )


def wishes(
    body: ExperimentRequest | RunListRequest | RunRequest, planned: Sequence[PlannedRun]
) -> Mapping[str, Wishes]:
    """What is wanted of each run of the plan, by its name."""
    own: Sequence[RunRequest | None] = body.runs if isinstance(body, RunListRequest) else [None] * len(planned)
    alone = isinstance(body, RunRequest)
    return {
        run.name: _wishes(body, one, takes_gpus=alone or run.spec.uses_gpu)
        for run, one in zip(planned, own, strict=True)
    }


def _wishes(all_of_them: Wished, one: Wished | None, *, takes_gpus: bool) -> Wishes:
    """What is wanted of one run: what it says itself, else what is said of all; GPUs only where its stage uses any."""
    said = {name: getattr(all_of_them, name) for name in ("priority", "notes", "time_limit_s", "gpus", "memory_gb")}
    if not takes_gpus:
        said["gpus"] = None
    if one is not None:
        said |= {name: getattr(one, name) for name in said if name in one.model_fields_set}
    tags = (*all_of_them.tags, *(one.tags if one else ()))
    asked = one or all_of_them
    return Wishes(tags=tags, lease_s=asked.lease_s if isinstance(asked, RunRequest) else None, **said)


def check(planned: Sequence[PlannedRun], settings: Settings) -> None:
    """Checks what is known before anything runs: words, and where artifacts are pulled from.

    Raises:
        UnknownClass, SpecInvalid: as `check_class_names`.
        InvalidInput: a source that the settings do not allow.
    """
    check_class_names(planned)
    for run in planned:
        if isinstance(run.spec, Pull | Repair) and run.spec.source is not None:
            source_target(run.spec.source, settings.pull_hosts)


def check_class_names(planned: Sequence[PlannedRun]) -> None:
    """Checks the words of every `embed_labels` run, so that a typing error is found before anything is computed.

    Raises:
        UnknownClass: the text table does not know one; lists the nearest that it does.
        SpecInvalid: there are not as many as the label set has classes.
    """
    for run in planned:
        if not isinstance(run.spec, stages.EmbedLabels) or run.spec.class_names is None:
            continue
        classes = label_set(run.spec.label_set).classes
        if len(run.spec.class_names) != len(classes):
            raise SpecInvalid(
                f"run {run.name!r}: got {len(run.spec.class_names)} class_names, but the label set"
                f" {run.spec.label_set} has {len(classes)} classes; give one for each, in label order:"
                f" {', '.join(classes)}"
            )
        if run.spec.encoder.name == "mini":
            words.check_words(run.spec.class_names)


def _reference(source: InputRequest) -> InputRef:
    """A request's input as a plan's reference."""
    if source.artifact is not None:
        return ArtifactRef(source.artifact)
    assert source.run is not None, "InputRequest checks it"
    assert source.output is not None, "InputRequest checks it"
    return OutputRef(source.run, source.output)

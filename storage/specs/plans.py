"""Runs before they exist: a spec, and where its inputs come from. What recipes build and requests describe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from storage.errors import SpecInvalid
from storage.specs import stages
from storage.specs.spec import ArtifactKind, StageSpec


@dataclass(frozen=True, slots=True)
class OutputRef:
    """An output of another run: by that run's name inside its experiment, or by its id."""

    run: str
    output: str


@dataclass(frozen=True, slots=True)
class ArtifactRef:
    """A published artifact, by key."""

    artifact: str


InputRef = OutputRef | ArtifactRef


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of an experiment to come."""

    name: str
    spec: StageSpec
    inputs: Mapping[str, InputRef] = field(default_factory=dict)
    dataset: str | None = None
    """Name of the registered dataset, where the stage reads the raw one."""


def check_plan(runs: Sequence[PlannedRun]) -> None:
    """Checks an experiment's runs against each other: unique names, existing outputs, fitting kinds, no cycles.

    References to runs outside the plan (by id) and to artifacts are left to whoever knows them.

    Raises:
        SpecInvalid: what is wrong, and in which run.
    """
    earlier: dict[str, StageSpec] = {}
    for run in runs:
        if run.name in earlier:
            raise SpecInvalid(f"two runs are named {run.name!r}; names are unique within an experiment")
        kinds: dict[str, ArtifactKind | None] = {}
        for port, ref in run.inputs.items():
            kinds[port] = None
            if isinstance(ref, OutputRef) and (source := earlier.get(ref.run)) is not None:
                if ref.output not in source.outputs:
                    raise SpecInvalid(
                        f"run {run.name!r}: {ref.run!r} has no output {ref.output!r}; "
                        f"it has: {', '.join(source.outputs)}"
                    )
                kinds[port] = source.outputs[ref.output]
        try:
            stages.check_inputs(run.spec, kinds)
        except SpecInvalid as error:
            raise SpecInvalid(f"run {run.name!r}: {error.message}") from error
        if run.spec.needs_dataset and run.dataset is None:
            raise SpecInvalid(
                f"run {run.name!r}: the stage {run.spec.stage!r} reads a raw dataset; name one in 'dataset'"
            )
        earlier[run.name] = run.spec

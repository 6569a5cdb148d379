"""What the API is asked for. Every request refuses fields that it does not know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from service import examples
from storage.labels import LabelSetName
from storage.specs.parts import DatasetKind

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
"""A name that may stand in a URL and a path."""


LeaseSeconds = Annotated[float, Field(ge=1, le=7 * 86400)]
"""Seconds of silence after which a run that its owner runs is given up."""


def takes(example: Mapping[str, Any]) -> ConfigDict:
    """Configuration of a request, which is what the documentation says: no number in quotes, no true for a 1."""
    return ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [dict(example)]})


def _given(*names: str) -> dict[str, Any]:
    """The JSON schema of an input request that gives these fields and no others."""
    types = {name: {"type": "string" if name in names else "null"} for name in ("run", "output", "artifact")}
    return {"required": list(names), "properties": types}


class DatasetRequest(BaseModel):
    """A dataset to register."""

    model_config = takes(examples.DATASET_REQUEST)

    name: Name
    kind: DatasetKind
    path: str | None = Field(None, description="Absolute folder under an allowed root; synthrooms makes its own.")
    label_set: LabelSetName | None = Field(
        None, description="Default: the one its kind is labelled with; scannet20 for rgbd and clouds."
    )
    options: dict[str, Any] = Field(default_factory=dict, description="How it is made or read; see its kind.")


class Wished(BaseModel):
    """What can be wanted of runs beyond what they compute: it changes no result, and no artifact's key."""

    priority: int = Field(0, ge=-1000, le=1000, description="Higher runs first.")
    tags: list[Name] = Field(default_factory=list, max_length=20, description="Words to find runs by.")
    notes: str = Field("", max_length=10_000)
    time_limit_s: float | None = Field(None, gt=0, le=1e8, description="Seconds that an attempt may take.")
    gpus: int | None = Field(
        None,
        ge=0,
        le=64,
        description="GPUs that a run gets; null: one where its stage uses one and the machine has any. Of a whole "
        "experiment: of its runs whose stages use one.",
    )
    memory_gb: float | None = Field(
        None, gt=0, le=1e6, description="GB of memory (10^9 bytes) that are kept free for a run; null keeps none."
    )


class ExperimentRequest(Wished):
    """An experiment of a recipe. What is wanted is wanted of every run."""

    model_config = takes(examples.EXPERIMENT_REQUEST)

    recipe: str
    dataset: str
    preset: str = Field("paper", description="paper, authors_code, demo or demo-capture.")
    overrides: dict[str, Any] = Field(default_factory=dict, description="<run>.<field> -> value.")
    seed: int = Field(0, ge=0, lt=2**32)
    name: str | None = Field(None, min_length=1, max_length=200)


class InputRequest(BaseModel):
    """Where an input comes from: an output of a run (by its name in the request, or by id), or an artifact's key."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": list(examples.RUN_REQUEST["inputs"].values()),
            "oneOf": [_given("run", "output"), _given("artifact")],
        },
    )

    run: str | None = None
    output: str | None = None
    artifact: str | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        """Refuses anything but a run with its output, or an artifact."""
        if (self.run is None) != (self.output is None) or (self.run is None) == (self.artifact is None):
            raise ValueError('expected either {"run": ..., "output": ...} or {"artifact": ...}')
        return self


class RunRequest(Wished):
    """One run, given by hand."""

    model_config = takes(examples.RUN_REQUEST)

    name: Name | None = Field(None, description="Default: the stage's name.")
    spec: dict[str, Any] = Field(description="The stage's spec; /specs has their schemas.")
    inputs: dict[str, InputRequest] = Field(default_factory=dict)
    dataset: str | None = None
    lease_s: LeaseSeconds | None = Field(
        None, description="Only of stage `external`: start it at once; it fails when its trainer is silent for so long."
    )


class RunListRequest(Wished):
    """An experiment whose runs are given one by one, each after those that it reads.

    Tags are added to each run's own; what else is wanted is wanted of the runs that do not say otherwise.
    """

    model_config = takes(examples.RUN_LIST_REQUEST)

    name: str = Field(min_length=1, max_length=200)
    runs: list[RunRequest] = Field(min_length=1, max_length=1000)


RECIPE_TAG, RUNS_TAG = "<a recipe>", "<runs>"
"""Names of the two kinds of experiments in the location of a validation error."""


def _which(document: object) -> str:
    """An experiment of runs has the field `runs`."""
    has_runs = isinstance(document, RunListRequest) or (isinstance(document, Mapping) and "runs" in document)
    return RUNS_TAG if has_runs else RECIPE_TAG


AnyExperimentRequest = Annotated[
    Annotated[ExperimentRequest, Tag(RECIPE_TAG)] | Annotated[RunListRequest, Tag(RUNS_TAG)], Discriminator(_which)
]

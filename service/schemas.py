"""What the HTTP API takes and gives, as pydantic models. Knows no database and no route.

Requests refuse unknown fields; answers are read from the records' dataclasses.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from service import examples
from storage.labels import LabelSetName
from storage.records.datasets import DatasetKind
from storage.records.evaluations import Subset
from storage.records.states import RunState
from storage.specs.parts import Split
from storage.specs.spec import ArtifactKind

T = TypeVar("T")

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
"""A name that may stand in a URL and a path."""


def _takes(example: Mapping[str, Any]) -> ConfigDict:
    """Configuration of a request."""
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [dict(example)]})


def _gives(example: Mapping[str, Any]) -> ConfigDict:
    """Configuration of an answer."""
    return ConfigDict(from_attributes=True, json_schema_extra={"examples": [dict(example)]})


# ---- what is asked for


class DatasetRequest(BaseModel):
    """A dataset to register."""

    model_config = _takes(examples.DATASET_REQUEST)

    name: Name
    kind: DatasetKind
    path: str | None = Field(None, description="Absolute folder under an allowed root; synthrooms makes its own.")
    label_set: LabelSetName | None = Field(None, description="Default: s3dis13 for synthrooms, scannet20 for rgbd.")
    options: dict[str, Any] = Field(default_factory=dict, description="How it is made or read; see its kind.")


class ExperimentRequest(BaseModel):
    """An experiment of a recipe."""

    model_config = _takes(examples.EXPERIMENT_REQUEST)

    recipe: str
    dataset: str
    preset: str = Field("paper", description="paper, demo or demo-capture.")
    overrides: dict[str, Any] = Field(default_factory=dict, description="<run>.<field> -> value.")
    seed: int = Field(0, ge=0, lt=2**32)
    name: str | None = Field(None, min_length=1, max_length=200)


class InputRequest(BaseModel):
    """Where an input comes from: an output of a run (by its name in the request, or by id), or an artifact's key."""

    model_config = ConfigDict(extra="forbid")

    run: str | None = None
    output: str | None = None
    artifact: str | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        """Refuses anything but a run with its output, or an artifact."""
        if (self.run is None) != (self.output is None) or (self.run is None) == (self.artifact is None):
            raise ValueError('expected either {"run": ..., "output": ...} or {"artifact": ...}')
        return self


class RunRequest(BaseModel):
    """One run, given by hand."""

    model_config = _takes(examples.RUN_REQUEST)

    name: Name | None = Field(None, description="Default: the stage's name.")
    spec: dict[str, Any] = Field(description="The stage's spec; /specs has their schemas.")
    inputs: dict[str, InputRequest] = Field(default_factory=dict)
    dataset: str | None = None
    priority: int = Field(0, ge=-1000, le=1000, description="Higher runs first.")


class RunListRequest(BaseModel):
    """An experiment whose runs are given one by one, each after those that it reads."""

    model_config = _takes(examples.RUN_LIST_REQUEST)

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


# ---- what is answered


class Page(BaseModel, Generic[T]):
    """Some of a list, and the cursor of the next page."""

    items: list[T]
    next: str | None = Field(None, description="Pass it as `cursor` for the next page; null on the last.")


class Health(BaseModel):
    """The service answers."""

    model_config = _gives(examples.HEALTH)

    status: Literal["ok"] = "ok"
    version: str = ""


class Ready(BaseModel):
    """The service can work: its database answers and has this version's tables."""

    model_config = _gives(examples.READY)

    status: Literal["ok"] = "ok"
    schema_revision: str


class Version(BaseModel):
    """What runs here."""

    model_config = _gives(examples.VERSION)

    version: str
    commit: str | None = None
    dirty: bool | None = None
    api: str = "v1"
    store: str = Field("", description="Where artifacts lie; parts are Zarr v3 groups.")


class Dataset(BaseModel):
    """A registered dataset."""

    model_config = _gives(examples.DATASET)

    name: str
    kind: DatasetKind
    path: str
    label_set: LabelSetName
    splits: list[Split]
    options: dict[str, Any]
    created_at: datetime


class Progress(BaseModel):
    """How far a run is."""

    unit: str = ""
    done: float | None = None
    total: float | None = None
    loss: float | None = None
    eta_s: float | None = Field(None, description="Seconds left, at the pace so far.")
    message: str | None = None


class RunInput(BaseModel):
    """Where an input comes from, and its artifact once it exists."""

    run_id: str | None
    output: str | None
    artifact_key: str | None


class Run(BaseModel):
    """One run of a stage."""

    model_config = _gives(examples.RUN)

    id: str
    experiment_id: str | None
    name: str
    stage: str
    dataset: str | None
    spec: dict[str, Any]
    spec_digest: str
    key: str | None = Field(description="Runs of one key compute the same.")
    state: RunState
    reason_code: str | None
    reason: str | None
    scene: str | None = Field(description="The scene that a failure was about.")
    progress: Progress | None
    seed: int | None
    attempt: int
    priority: int
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    host: str | None
    device: str | None
    code: dict[str, Any]
    environment: dict[str, Any]
    inputs: dict[str, RunInput]
    outputs: dict[str, str] = Field(description="Output name -> artifact key.")
    cancel_requested: bool
    peak_rss_bytes: int


class Experiment(BaseModel):
    """Runs that were submitted together."""

    model_config = _gives(examples.EXPERIMENT)

    id: str
    name: str
    recipe: str = Field("", description="Empty where the runs were given one by one.")
    preset: str = ""
    dataset: str = ""
    request: dict[str, Any]
    state: str = Field(description="queued, running, succeeded, failed or cancelled.")
    states: dict[str, int] = Field(description="State -> number of runs.")
    created_at: datetime


class ExperimentDetail(Experiment):
    """An experiment with its runs, in the order of its plan."""

    model_config = _gives({**examples.EXPERIMENT, "runs": [examples.RUN]})

    runs: list[Run]


class Metric(BaseModel):
    """One value of a metric; null where it was not finite."""

    model_config = _gives(examples.METRIC)

    name: str
    step: int
    value: float | None
    at: datetime


class MetricHistory(BaseModel):
    """A run's metrics by rising step."""

    items: list[Metric]


class Event(BaseModel):
    """Something that happened to a run."""

    model_config = _gives(examples.EVENT)

    id: int
    run_id: str
    at: datetime
    kind: Literal["state", "note"]
    state: RunState
    attempt: int
    message: str


class EventPage(BaseModel):
    """Events, oldest first."""

    items: list[Event]
    next: str = Field(description="Pass it as `cursor` to read what comes after; never null, for there may be more.")


class ClassScore(BaseModel):
    """How one class scored; null where it is undefined."""

    name: str
    iou: float | None
    accuracy: float | None
    num_points: int


class Evaluation(BaseModel):
    """The score of one prediction on one set of points; shares in 0..1."""

    model_config = _gives(examples.EVALUATION)

    run_id: str
    run_name: str
    artifact_key: str
    prediction: str
    subset: Subset
    miou: float | None
    macc: float | None
    num_points: int
    classes: list[ClassScore]
    confusion: list[list[int]] | None = Field(description="Points by truth (rows) and prediction (columns).")
    note: str | None


class File(BaseModel):
    """A plain file of an artifact."""

    model_config = _gives(examples.FILE)

    artifact_key: str
    output: str
    scene: str = Field("", description="Empty where the artifact is not scene-wise.")
    name: str
    num_bytes: int
    url: str
    path: str = Field(description="Where it lies on the service's machine.")


class Artifact(BaseModel):
    """A published artifact."""

    model_config = _gives(examples.ARTIFACT)

    key: str
    kind: ArtifactKind
    stage: str
    output: str
    run_id: str = Field(description="The run that computed it.")
    manifest_digest: str
    num_bytes: int
    num_scenes: int
    num_points: int
    attributes: dict[str, Any]
    created_at: datetime


class Feature(Artifact):
    """Published embeddings, and how they were made."""

    model_config = _gives(examples.FEATURE)

    dataset: str | None = None
    encoder_title: str | None = None
    weights_digest: str | None = None
    lifting: dict[str, Any] | None = None
    dimension: int | None = None


class Part(BaseModel):
    """One part of an artifact: a scene, or the whole."""

    model_config = _gives(examples.PART)

    scene: str
    key: str
    digest: str
    num_points: int
    num_bytes: int


class ArtifactDetail(Artifact):
    """An artifact with what it was made from and what it is made of."""

    model_config = _gives(examples.ARTIFACT_DETAIL)

    inputs: dict[str, str]
    parts: list[Part]
    files: list[File]


class Host(BaseModel):
    """A worker host."""

    model_config = _gives(examples.HOST)

    id: str
    name: str
    pid: int
    slots: int
    gpus: list[int]
    alive: bool
    registered_at: datetime
    heartbeat_at: datetime
    retired_at: datetime | None
    rss_bytes: int = Field(description="Resident memory of all its worker processes now.")
    peak_rss_bytes: int = Field(description="Most that they held at one moment.")


class Recipe(BaseModel):
    """A whole experiment as a named function."""

    model_config = _gives(examples.RECIPE)

    name: str
    presets: list[str]
    doc: str


class StagePort(BaseModel):
    """One input of a stage."""

    model_config = ConfigDict(from_attributes=True)

    kind: ArtifactKind
    required: bool
    many: bool = Field(description="Takes several, each under a name: <port>.<name>.")


class Stage(BaseModel):
    """What a stage reads and writes, and the schema of its spec."""

    model_config = _gives(examples.STAGE)

    stage: str
    doc: str
    inputs: dict[str, StagePort]
    outputs: dict[str, ArtifactKind]
    needs_dataset: bool
    uses_gpu: bool
    spec_schema: dict[str, Any]


class DatasetPage(Page[Dataset]):
    """A page of datasets, by name."""


class RunPage(Page[Run]):
    """A page of runs, newest first."""


class ExperimentPage(Page[Experiment]):
    """A page of experiments, newest first."""


class ArtifactPage(Page[Artifact]):
    """A page of artifacts, newest first."""


class FeaturePage(Page[Feature]):
    """A page of published embeddings, newest first."""


class EvaluationPage(Page[Evaluation]):
    """Evaluations, in the order of the runs."""


class FilePage(Page[File]):
    """Plain files of a run's outputs."""


class HostPage(Page[Host]):
    """Worker hosts, newest first."""


class RecipePage(Page[Recipe]):
    """Recipes."""


class StagePage(Page[Stage]):
    """Stages, in the order of a scene's path."""

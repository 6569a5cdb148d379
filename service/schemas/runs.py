"""Runs and experiments as they are answered, with what happened in them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from service import examples
from service.schemas.pages import Page, gives
from storage.records.evaluations import Subset
from storage.records.states import RunState


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

    model_config = gives(examples.RUN)

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
    owner: str = Field("", description="Who submitted it; empty where no token was asked for.")
    tags: list[str] = Field(default_factory=list)
    notes: str = ""
    time_limit_s: float | None = Field(None, description="Seconds that an attempt may take.")
    gpus: int | None = Field(None, description="GPUs that it was submitted with; null: as its stage uses them.")
    memory_gb: float | None = Field(None, description="GB of memory that are kept free for it.")
    rerun_of: str | None = Field(None, description="The run that it was made from with changes; it may be deleted.")
    waiting_for: str | None = Field(
        None, description="Why it waits, in words; said where one run is read, not in lists."
    )


class Experiment(BaseModel):
    """Runs that were submitted together."""

    model_config = gives(examples.EXPERIMENT)

    id: str
    name: str
    recipe: str = Field("", description="Empty where the runs were given one by one.")
    preset: str = ""
    dataset: str = ""
    request: dict[str, Any]
    state: str = Field(description="queued, running, succeeded, failed or cancelled.")
    states: dict[str, int] = Field(description="State -> number of runs.")
    created_at: datetime
    owner: str = Field("", description="Who submitted it; empty where no token was asked for.")


class ExperimentDetail(Experiment):
    """An experiment with its runs, in the order of its plan."""

    model_config = gives({**examples.EXPERIMENT, "runs": [examples.RUN]})

    runs: list[Run]


class Metric(BaseModel):
    """One value of a metric; null where it was not finite."""

    model_config = gives(examples.METRIC)

    name: str
    step: int
    value: float | None
    at: datetime


class MetricHistory(BaseModel):
    """A run's metrics by rising step."""

    items: list[Metric]


class Event(BaseModel):
    """Something that happened to a run."""

    model_config = gives(examples.EVENT)

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

    model_config = gives(examples.EVALUATION)

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


class RunPage(Page[Run]):
    """A page of runs, newest first."""


class ExperimentPage(Page[Experiment]):
    """A page of experiments, newest first."""


class EvaluationPage(Page[Evaluation]):
    """Evaluations, in the order of the runs."""

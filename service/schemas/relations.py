"""How runs hang together, as it is answered: attempts, lineage, and runs side by side."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from service import examples
from service.schemas.pages import gives
from storage.records.evaluations import Subset
from storage.records.states import AttemptState, RunState
from storage.specs.spec import ArtifactKind


class Attempt(BaseModel):
    """One attempt at a run."""

    model_config = gives(examples.ATTEMPT)

    number: int
    state: AttemptState
    host_id: str | None = Field(description="null where the run's owner made the attempt, of stage `external`.")
    host: str | None = Field(description="The host's name.")
    gpus: list[int] = Field(description="Numbers of the GPUs that it was given.")
    pid: int | None
    claimed_at: datetime
    ended_at: datetime | None
    reason: str | None


class AttemptList(BaseModel):
    """Every attempt at a run, first to last."""

    items: list[Attempt]


class LineageRun(BaseModel):
    """A run of a lineage."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    stage: str
    state: RunState
    experiment_id: str | None
    distance: int = Field(description="Steps away; negative: the run was made from it, positive: it from the run.")


class LineageArtifact(BaseModel):
    """An artifact of a lineage."""

    model_config = ConfigDict(from_attributes=True)

    key: str
    kind: ArtifactKind
    output: str
    run_id: str = Field(description="The run that computed it.")
    num_bytes: int


class LineageLink(BaseModel):
    """One input: the run `run_id` reads `output` of the run `source_id` at `port`."""

    model_config = ConfigDict(from_attributes=True)

    source_id: str
    output: str
    artifact_key: str | None = Field(description="Null until it exists.")
    run_id: str
    port: str


class Lineage(BaseModel):
    """What a run was made from, and what was made from it."""

    model_config = gives(examples.LINEAGE)

    run_id: str
    runs: list[LineageRun] = Field(description="By distance; the run itself among them.")
    artifacts: list[LineageArtifact]
    links: list[LineageLink]
    whole: bool = Field(description="False where there is more than `depth` and `limit` let through.")


class ComparedRun(BaseModel):
    """What is shown of each run beside what differs."""

    id: str
    name: str
    stage: str
    state: RunState
    experiment_id: str | None
    dataset: str | None
    owner: str
    tags: list[str]
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class ComparedEvaluation(BaseModel):
    """The score of a prediction that a run made, or that was made from what it made; shares of 1."""

    model_config = ConfigDict(from_attributes=True)

    run_id: str = Field(description="The run that is compared.")
    evaluated_by: str = Field(description="The run that evaluated; of several the newest.")
    prediction: str
    subset: Subset
    miou: float | None
    macc: float | None
    iou: dict[str, float | None] = Field(description="Class -> IoU.")


class Comparison(BaseModel):
    """Runs side by side, in the order in which they were named."""

    model_config = gives(examples.COMPARISON)

    runs: list[ComparedRun]
    spec: dict[str, dict[str, Any]] = Field(
        description="Dotted path of a field that differs -> run id -> value; runs without the field are left out."
    )
    metrics: dict[str, dict[str, float | None]] = Field(
        description="Metric -> run id -> its value at the last step, null where that was not finite."
    )
    evaluations: list[ComparedEvaluation]

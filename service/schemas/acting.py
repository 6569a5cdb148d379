"""What is asked for and answered when somebody acts on runs: plans beforehand, re-runs, deletions."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service import examples, keeping_examples
from service.schemas.pages import gives
from service.schemas.requests import Name, takes
from storage.records.dry_runs import Outlook
from storage.specs.spec import ArtifactKind


class Estimate(BaseModel):
    """What a run may take, from past runs: medians."""

    model_config = ConfigDict(from_attributes=True)

    seconds: float
    num_bytes: int = Field(description="What it would publish.")
    past_runs: int = Field(description="How many runs this rests on.")
    alike: Literal["spec", "stage"] = Field(description="What these have in common with it.")


class PlannedWork(BaseModel):
    """One run of a plan, as it would go."""

    model_config = gives(examples.PLANNED_WORK)

    name: str
    stage: str
    dataset: str | None
    outlook: Outlook = Field(
        description="compute; cached: every output is published; likely_cached: it was when this was last asked for, "
        "and a worker must look whether the raw data is the same; shared: another run computes the same."
    )
    why: str
    outputs: dict[str, str] = Field(description="Output name -> artifact key, where it can be told beforehand.")
    estimate: Estimate | None = Field(description="null where no run of its stage has ended, or nothing is computed.")


class DryRun(BaseModel):
    """A plan beforehand. Nothing was written."""

    model_config = gives(examples.DRY_RUN)

    runs: list[PlannedWork]
    num_to_compute: int
    seconds: float = Field(description="Sum of the estimates: one after another; fewer where runs go side by side.")
    num_bytes: int
    num_without_estimate: int = Field(description="Runs to compute of whose stage none has ended yet: not in the sums.")


class RerunRequest(BaseModel):
    """A new run like an old one. What is not given is as it was; null unsets what was wanted (a name stays)."""

    model_config = takes(examples.RERUN_REQUEST)

    changes: dict[str, Any] = Field(
        default_factory=dict, max_length=200, description="Dotted path of a field of the spec -> its new value."
    )
    name: Name | None = None
    priority: int | None = Field(None, ge=-1000, le=1000)
    tags: list[Name] | None = Field(None, max_length=20)
    notes: str | None = Field(None, max_length=10_000)
    time_limit_s: float | None = Field(None, gt=0, le=1e8)
    gpus: int | None = Field(None, ge=0, le=64)
    memory_gb: float | None = Field(None, gt=0, le=1e6)


class RemovedArtifact(BaseModel):
    """An artifact that was deleted: itself, or with its last run."""

    model_config = ConfigDict(from_attributes=True)

    key: str
    kind: ArtifactKind
    num_parts: int = Field(description="Parts that go with it.")
    num_bytes: int = Field(description="What these held.")
    shared_parts: int = Field(description="Parts that stay, for other artifacts hold them too.")


class KeptArtifact(BaseModel):
    """An artifact that stays."""

    model_config = ConfigDict(from_attributes=True)

    key: str
    kind: ArtifactKind
    num_bytes: int
    why: str = Field(description="The runs that use it, or who keeps it.")


class Removal(BaseModel):
    """What was deleted; of a dry run, what would be. Without a run: an artifact."""

    model_config = gives(keeping_examples.REMOVAL)

    dry_run: bool
    experiment: str | None
    runs: list[str]
    removed: list[RemovedArtifact]
    kept: list[KeptArtifact]
    due_at: datetime | None = Field(
        description="When the collector takes the artifacts, unless somebody uses them before; null: they go at once, "
        "or there are none."
    )
    num_bytes: int = Field(description="What is freed in the store then.")

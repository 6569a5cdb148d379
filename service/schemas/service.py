"""The service itself, datasets, artifacts and what can be asked for, as they are answered."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service import examples
from service.schemas.pages import Page, gives
from storage.labels import LabelSetName
from storage.records.hosts import Mode
from storage.specs.parts import DatasetKind, Split
from storage.specs.spec import ArtifactKind


class Health(BaseModel):
    """The service answers."""

    model_config = gives(examples.HEALTH)

    status: Literal["ok"] = "ok"
    version: str = ""


class Ready(BaseModel):
    """The service can work: its database answers and has this version's tables."""

    model_config = gives(examples.READY)

    status: Literal["ok"] = "ok"
    schema_revision: str


class Version(BaseModel):
    """What runs here."""

    model_config = gives(examples.VERSION)

    version: str
    commit: str | None = None
    dirty: bool | None = None
    api: str = "v1"
    store: str = Field("", description="Where artifacts lie; parts are Zarr v3 groups.")


class Dataset(BaseModel):
    """A registered dataset."""

    model_config = gives(examples.DATASET)

    name: str
    kind: DatasetKind
    path: str
    label_set: LabelSetName
    splits: list[Split]
    options: dict[str, Any]
    created_at: datetime


class File(BaseModel):
    """A plain file of an artifact."""

    model_config = gives(examples.FILE)

    artifact_key: str
    output: str
    scene: str = Field("", description="Empty where the artifact is not scene-wise.")
    name: str
    num_bytes: int
    url: str
    path: str = Field(description="Where it lies on the service's machine.")


class Artifact(BaseModel):
    """A published artifact."""

    model_config = gives(examples.ARTIFACT)

    key: str
    kind: ArtifactKind
    stage: str
    output: str
    run_id: str = Field(description="The run that computed it; it may be deleted.")
    manifest_digest: str
    num_bytes: int
    num_scenes: int
    num_points: int
    attributes: dict[str, Any]
    created_at: datetime


class Part(BaseModel):
    """One part of an artifact: a scene, or the whole."""

    model_config = gives(examples.PART)

    scene: str
    key: str
    digest: str
    num_points: int
    num_bytes: int


class ArtifactDetail(Artifact):
    """An artifact with what it was made from and what it is made of."""

    model_config = gives(examples.ARTIFACT_DETAIL)

    inputs: dict[str, str]
    parts: list[Part]
    files: list[File]


class Host(BaseModel):
    """A worker host."""

    model_config = gives(examples.HOST)

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
    memory_gb: float | None = Field(None, description="GB of memory that its runs may ask for together.")
    stages: list[str] = Field([], description="Stages of which it takes runs; empty: all.")
    mode: Mode = Field("active", description="paused: claims nothing; draining: the same, and ends with its runs.")


class Recipe(BaseModel):
    """A whole experiment as a named function."""

    model_config = gives(examples.RECIPE)

    name: str
    presets: list[str]
    doc: str


class StagePort(BaseModel):
    """One input of a stage."""

    model_config = ConfigDict(from_attributes=True)

    kind: ArtifactKind | None = Field(description="The kind of artifact that it takes; null: any.")
    required: bool
    many: bool = Field(description="Takes several, each under a name: <port>.<name>.")


class Stage(BaseModel):
    """What a stage reads and writes, and the schema of its spec."""

    model_config = gives(examples.STAGE)

    stage: str
    doc: str
    inputs: dict[str, StagePort]
    outputs: dict[str, ArtifactKind]
    needs_dataset: bool
    uses_gpu: bool
    spec_schema: dict[str, Any]


class DatasetPage(Page[Dataset]):
    """A page of datasets, by name."""


class ArtifactPage(Page[Artifact]):
    """A page of artifacts, newest first."""


class FilePage(Page[File]):
    """Plain files of a run's outputs."""


class HostPage(Page[Host]):
    """Worker hosts, newest first."""


class RecipePage(Page[Recipe]):
    """Recipes."""


class StagePage(Page[Stage]):
    """Stages, in the order of a scene's path."""

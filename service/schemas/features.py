"""Feature stores as they are asked for and answered: lists, their story, and two side by side."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, TypedDict

from pydantic import BaseModel, ConfigDict, Field

from service import examples
from service.schemas.pages import Page, gives
from storage.records.states import RunState
from storage.specs.spec import ArtifactKind


class FeatureQuery(BaseModel):
    """Which feature stores a list holds."""

    model_config = ConfigDict(extra="ignore")

    dataset: str | None = Field(None, description="Name of the dataset whose scenes they are of.")
    encoder: str | None = Field(None, description="The encoder's name, such as openseg.")
    owner: str | None = Field(None, description="Who submitted the run that computed them.")
    dimension: int | None = Field(None, ge=1, lt=1 << 31, description="Values of an embedding.")
    text: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Stands in the key, the dataset, the encoder or the digest of its weights; A to Z in either case.",
    )
    cursor: str | None = Field(None, description="`next` of the page before.")
    limit: int = Field(100, ge=1, le=500, description="Most items of a page.")


class FeatureWanted(TypedDict, total=False):
    """What a client narrows a list of feature stores by: as in `FeatureQuery`."""

    dataset: str | None
    encoder: str | None
    owner: str | None
    dimension: int | None
    text: str | None


class Feature(BaseModel):
    """A feature store: published embeddings, and how they were made."""

    model_config = gives(examples.FEATURE)

    key: str
    kind: ArtifactKind = "embeddings"
    stage: str
    output: str
    run_id: str = Field(description="The run that computed it; it may be deleted.")
    owner: str = Field(description="Who submitted that run.")
    manifest_digest: str
    dataset: str | None
    splits: dict[str, int] = Field(description="Split -> how many scenes.")
    encoder: str | None
    encoder_title: str | None
    weights_digest: str | None = Field(description="Digest of the encoder's weights.")
    lifting: dict[str, Any] | None
    dimension: int | None
    dtype: str = Field(description="Type of the embeddings as they are stored.")
    num_scenes: int
    num_points: int
    num_covered: int | None = Field(description="Points that have an embedding; null where nobody counted them.")
    coverage: float | None = Field(None, description="Their share of all points.")
    num_bytes: int
    created_at: datetime
    verified_at: datetime | None = Field(description="When it was verified last; null: never.")
    verified_by: str | None = Field(description="The run that did.")
    num_faults: int | None = Field(description="How many faults that found; 0: it verifies.")
    fault: str | None = Field(description="The first of them.")


class FeatureUser(BaseModel):
    """A run that names a feature store as an input."""

    model_config = ConfigDict(from_attributes=True)

    run_id: str
    name: str
    stage: str
    state: RunState
    owner: str
    port: str


class PulledFrom(BaseModel):
    """Where a feature store was pulled from."""

    source: str = Field(description="URL of a service, or of a folder that is a store.")
    artifact: str = Field(description="Its key there.")


class FeatureDetail(Feature):
    """A feature store with how it was made and the runs that read it."""

    model_config = gives(examples.FEATURE_DETAIL)

    spec: dict[str, Any] | None = Field(
        description="Spec that it was computed with, here or where it was pulled from, as its manifest says. Where "
        "that cannot be read: of the run that computed it here, null where there is none."
    )
    inputs: dict[str, str] = Field(
        description="What it was computed from: port -> artifact, or digest of what lay outside the store."
    )
    pulled_from: PulledFrom | None = Field(None, description="Where it was pulled from; null where it was made here.")
    users: list[FeatureUser] = Field(description="The newest runs that name it as an input, 100 at most.")
    num_users: int = Field(description="How many runs do.")


class FeaturePage(Page[Feature]):
    """A page of feature stores, newest first."""


class FeatureDifference(BaseModel):
    """A parameter in which two feature stores differ."""

    model_config = ConfigDict(from_attributes=True)

    name: str = Field(description="Dotted path, such as spec.lifting.width.")
    left: Any = Field(description="null where the left one does not have it.")
    right: Any


class SceneCosines(BaseModel):
    """One scene whose embeddings were compared."""

    model_config = ConfigDict(from_attributes=True)

    scene: str
    num_common: int = Field(description="Points that have an embedding in both.")
    num_left: int
    num_right: int
    num_rows: int = Field(description="Of these, how many were compared.")
    least: float | None
    mean: float | None
    steps: float = Field(description="Largest difference of two values, in steps of float16 at their row's largest.")
    steps_allowed: float = Field(description="How many of these rounding alone makes: 1, or 17 where one side is int8.")


class Cosines(BaseModel):
    """The distribution of the cosine of two embeddings of one point."""

    model_config = ConfigDict(from_attributes=True)

    num_rows: int
    least: float
    mean: float
    percentiles: Mapping[int, float]


class CompareLimits(BaseModel):
    """How much was read at most; null: all."""

    model_config = ConfigDict(from_attributes=True)

    scenes: int | None
    rows: int | None = Field(description="Of a scene.")
    num_bytes: int | None = Field(description="Of the parts of both sides together.")


class FeatureDiff(BaseModel):
    """Two feature stores side by side. Each common scene is in `same`, `compared`, `other_order` or `not_read`."""

    model_config = gives(examples.FEATURE_DIFF)

    left: str
    right: str
    verdict: Literal["same", "rounding", "different", "not compared"] = Field(
        description="same: common scenes are equal to the byte; rounding: what was compared differs by a step of "
        "float16 at most; different: by more, or in which points are covered; not compared: nothing could be."
    )
    differences: list[FeatureDifference]
    num_common: int = Field(description="Scenes that both have.")
    only_left: list[str]
    only_right: list[str]
    same: list[str] = Field(description="Scenes that are equal to the byte, by their digests.")
    other_order: list[str] = Field(description="Scenes of other points, or dimensions: they cannot be compared.")
    not_read: list[str] = Field(description="Scenes that the limits left out.")
    compared: list[SceneCosines]
    cosines: Cosines | None
    limits: CompareLimits

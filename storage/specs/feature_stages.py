"""Specs of the stages that take feature stores in and check them; `stages` lists them with all others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from storage.specs.parts import EmbeddingType, Splits, WeightsName
from storage.specs.spec import ArtifactKind, Port, StageSpec


class ImportFeatures(StageSpec):
    """Publishes somebody else's fused features (a dataset of kind `features`) as embeddings of these scenes."""

    needs_dataset: ClassVar[bool] = True
    external: ClassVar[bool] = True
    inputs: ClassVar[Mapping[str, Port]] = {"scenes": Port("scenes")}
    outputs: ClassVar[Mapping[str, ArtifactKind]] = {"embeddings": "embeddings"}
    scene_choosing: ClassVar[frozenset[str]] = frozenset({"splits", "missing"})
    added: ClassVar[Mapping[str, Any]] = {"dtype": "float16"}

    stage: Literal["import_features"] = "import_features"
    encoder: WeightsName = Field(
        "openseg", description="What embedded the pictures, as whoever shared the files says; no file tells."
    )
    splits: Splits = ("train", "test")
    missing: Literal["refuse", "leave_out"] = Field(
        "refuse",
        description="A scene without a file: 'refuse' fails the run, 'leave_out' names it in the run's events.",
    )
    dtype: EmbeddingType = Field(
        "float16", description="Type that the embeddings are stored in: 'int8' is half as large, as of `extract`."
    )


class Verify(StageSpec):
    """Checks a published artifact to the last byte; embeddings also against the points of the scenes they are of."""

    inputs: ClassVar[Mapping[str, Port]] = {
        "artifact": Port(None),
        "scenes": Port("scenes", required=False),
    }

    stage: Literal["verify"] = "verify"
    recompute: int = Field(
        1,
        ge=0,
        le=1000,
        description="Scenes of embeddings, drawn by chance, that are made again from their images and compared, where "
        "the run names the dataset and scenes and weights are at hand.",
    )

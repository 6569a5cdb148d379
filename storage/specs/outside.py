"""Specs of stages that reach beyond this lab: artifacts that come from another store, runs that their owners run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from storage.specs.spec import ArtifactKind, Port, StageSpec

SourceUrl = Annotated[str, Field(pattern=r"^https?://[^\s@#?]+$", max_length=2000)]
ArtifactKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{1,127}$")]
ManifestDigest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Connections = Annotated[int, Field(ge=1, le=32)]

_NAMED_BY_KIND: Mapping[str, ArtifactKind] = {
    "scenes": "scenes",
    "text_embeddings": "text_embeddings",
    "embeddings": "embeddings",
    "labels": "labels",
    "checkpoint": "checkpoint",
}
"""Outputs of which a run gives one at most: that of the artifact's kind."""


class Pull(StageSpec):
    """Copies an artifact from another vlglab service, or from a store that a web server serves, under its own key."""

    external: ClassVar[bool] = True
    outputs: ClassVar[Mapping[str, ArtifactKind]] = _NAMED_BY_KIND
    added: ClassVar[Mapping[str, Any]] = {"manifest_digest": None}

    stage: Literal["pull"] = "pull"
    source: SourceUrl = Field(
        description="A service, such as http://lab.example.org:8765, or a folder that is a store."
    )
    artifact: ArtifactKey = Field(description="Its key there. The run gives one output, named as the artifact's kind.")
    scenes: tuple[str, ...] | None = Field(
        None, min_length=1, max_length=100_000, description="Only these scenes, as an artifact of another key."
    )
    connections: Connections = Field(4, description="Files that are fetched at once.")
    manifest_digest: ManifestDigest | None = Field(
        None,
        description="BLAKE3 of the artifact's manifest, as whoever published it says (`vlglab features show`): a pull "
        "of another one fails.",
    )


class Repair(StageSpec):
    """Mends files of a published artifact that are damaged or gone: fetched from a store that has them, or made again.

    What is made again takes the place of what was published only where it is the same to the byte. Else the artifact
    stays as it is, and one of another key is published, the run's output, which has the new parts and the sound ones.
    """

    external: ClassVar[bool] = True
    outputs: ClassVar[Mapping[str, ArtifactKind]] = _NAMED_BY_KIND

    stage: Literal["repair"] = "repair"
    source: SourceUrl | None = Field(
        None, description="As of `pull`; without one the damaged parts are made again by the stage that made them."
    )
    artifact: ArtifactKey = Field(description="Its key, here and at the source.")
    connections: Connections = Field(4, description="Files that are fetched at once.")


ParameterName = Annotated[str, Field(pattern=r"^[^\x00]*$", min_length=1, max_length=250)]
ParameterText = Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=10_000)]
Parameter = bool | int | float | ParameterText | None


class External(StageSpec):
    """Anything that is trained outside: its owner starts it, logs its metrics and ends it over HTTP."""

    external: ClassVar[bool] = True
    by_owner: ClassVar[bool] = True
    inputs: ClassVar[Mapping[str, Port]] = {
        "scenes": Port("scenes", required=False),
        "text_embeddings": Port("text_embeddings", required=False),
        "embeddings": Port("embeddings", required=False),
        "labels": Port("labels", required=False),
        "checkpoint": Port("checkpoint", required=False),
    }

    stage: Literal["external"] = "external"
    parameters: Mapping[ParameterName, Parameter | tuple[Parameter, ...]] = Field(
        {}, max_length=1000, description="Whatever the trainer was told, such as a learning rate; shown and compared."
    )

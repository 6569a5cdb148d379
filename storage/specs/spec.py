"""What every spec is: a frozen pydantic model that refuses unknown fields and has one canonical JSON text.

A spec holds only what changes results. Paths, GPUs, priorities and tags belong to the run or the deployment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from storage import keys

ArtifactKind = Literal[
    "scenes",
    "ground_truth",
    "text_embeddings",
    "embeddings",
    "labels",
    "checkpoint",
    "evaluation",
    "figures",
    "inspection",
]
"""What an artifact is; `storage.artifacts.kinds` says which arrays each holds."""


class Spec(BaseModel):
    """A frozen model that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def canonical(self) -> str:
        """The spec as canonical JSON: equal specs, equal text."""
        return keys.canonical_json(self.model_dump(mode="json"))

    def digest(self) -> str:
        """The digest of the canonical text."""
        return keys.digest(self.model_dump(mode="json"))


@dataclass(frozen=True, slots=True)
class Port:
    """One input of a stage: the kind of artifact it takes, and how many."""

    kind: ArtifactKind | None
    """None: any."""
    required: bool = True
    many: bool = False
    """True where the stage takes several, each under a name of the user's: `<port>.<name>`."""


class StageSpec(Spec):
    """The spec of one stage. Subclasses fix `stage`, the ports and the algorithm's version."""

    algorithm: ClassVar[int] = 1
    """Raised whenever the same spec and inputs would give other results."""
    inputs: ClassVar[Mapping[str, Port]] = {}
    outputs: ClassVar[Mapping[str, ArtifactKind]] = {}
    scene_choosing: ClassVar[frozenset[str]] = frozenset()
    """Fields that only choose which scenes are worked on; they do not enter the key of one scene."""
    added: ClassVar[Mapping[str, Any]] = {}
    """Fields that came after specs were first keyed, such as `dtype` or `training.coarse_epochs` -> the value that
    stands for how it was before: with that value they enter no key and no digest, so that what was computed before
    keeps its key."""
    needs_dataset: ClassVar[bool] = False
    """True where the stage reads the raw dataset, so that its run must name one."""
    external: ClassVar[bool] = False
    """True where an input lies outside the store (raw scenes, encoder weights): only a worker can compute the key."""
    uses_gpu: ClassVar[bool] = False
    by_owner: ClassVar[bool] = False
    """True where no worker runs it: whoever owns the run does, and reports over HTTP."""

    stage: str

    def keyed(self) -> dict[str, Any]:
        """The fields that make keys and digests, as JSON-like values."""
        fields: dict[str, Any] = self.model_dump(mode="json")
        for path, before in self.added.items():
            *outer, name = path.split(".")
            holder = reduce(lambda held, part: held[part], outer, fields)
            if holder[name] == before:
                del holder[name]
        return fields

    def digest(self) -> str:
        """The digest of the fields that make keys."""
        return keys.digest(self.keyed())

    def port_of(self, name: str) -> Port | None:
        """The port that an input of this name belongs to, or None: `predictions.ours` belongs to `predictions`."""
        head, dot, tail = name.partition(".")
        port = self.inputs.get(head)
        if port is None or port.many != bool(dot and tail):
            return None
        return port

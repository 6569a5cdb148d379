"""The store's contract: what a store does, whatever it lies on.

A store holds **parts** and **artifacts**. A part is one directory that is a Zarr group (arrays and attributes) plus,
where a kind has them, plain files: one scene of a scene-wise artifact, or the whole of any other. An artifact is a
manifest that lists its parts by key; scenes are so reused by reference. Both are named by key, staged under a token,
verified, and published by a rename; a published one never changes.

This module knows neither SQL nor any stage. An artifact that lies here counts as visible only once
`storage.records.artifacts` has its row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from storage.specs.spec import ArtifactKind

FORMAT_VERSION = 2
"""Newest version of the layout on disk that is read; a newer one is refused (`FormatTooNew`)."""

PLAIN_VERSION = 1
"""The version of what older readers read too: everything but scaled arrays (docs/format.md)."""

WHOLE = ""
"""The scene id of the single part of an artifact that is not scene-wise."""

Array = NDArray[Any]
Rows = slice | NDArray[np.integer]
Attributes = Mapping[str, Any]
"""JSON-like values; they lie in the group's Zarr attributes."""


@dataclass(frozen=True, slots=True)
class PartEntry:
    """One line of an artifact's manifest."""

    scene: str
    """Scene id, or WHOLE."""
    key: str
    digest: str
    """BLAKE3 of the part's own manifest, which holds a BLAKE3 a file."""
    num_points: int = 0
    num_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ArtifactManifest:
    """What an artifact is and what it is made of."""

    key: str
    kind: ArtifactKind
    stage: str
    output: str
    spec: Mapping[str, Any]
    inputs: Mapping[str, str]
    """Input name -> artifact key or content digest."""
    parts: tuple[PartEntry, ...]
    attributes: Attributes = field(default_factory=dict)
    format_version: int = PLAIN_VERSION

    @property
    def scenes(self) -> tuple[str, ...]:
        """Ids of the scenes, in the manifest's order; empty where the artifact is not scene-wise."""
        return tuple(part.scene for part in self.parts if part.scene != WHOLE)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the store, as it lies on a local disk."""

    path: Path
    num_bytes: int
    digest: str
    """BLAKE3 of what was published, 64 hexadecimal digits."""


class PartReader(Protocol):
    """One published part, open for reading."""

    @property
    def key(self) -> str:
        """The part's key."""

    @property
    def scene(self) -> str:
        """The scene it belongs to, or WHOLE."""

    @property
    def attributes(self) -> Attributes:
        """Its attributes."""

    def names(self) -> tuple[str, ...]:
        """Names of its arrays, sorted."""

    def array(self, name: str) -> Array:
        """One array, read whole; one that is stored as int8 is decoded by its scales, to float16.

        Raises:
            NotFound: the part has no such array.
            StoreCorrupt: a chunk's checksum is wrong.
        """

    def rows(self, name: str, rows: Rows) -> Array:
        """Some rows of an array, in the order asked for; errors as `array`."""

    def file(self, name: str) -> Path:
        """A local path of one of its plain files (read only).

        Raises:
            NotFound: the part has no such file.
        """

    def files(self) -> tuple[str, ...]:
        """Names of its plain files, sorted."""


class PartWriter(Protocol):
    """One part being written. Nobody else sees it before it is published."""

    def write(self, name: str, values: Array) -> None:
        """Writes one array; dims, dtype and unit must be those of `kinds` for this kind of artifact.

        Raises:
            SpecInvalid: not an array of this kind, or another dtype or rank than it has.
        """

    def set(self, **attributes: Any) -> None:
        """Adds attributes (JSON-like values)."""

    def path(self, name: str) -> Path:
        """A local path to write a plain file to, such as a picture or a checkpoint."""


class ArtifactStore(Protocol):
    """Where parts and artifacts lie."""

    def write_part(self, key: str, *, kind: ArtifactKind, scene: str, token: str) -> AbstractContextManager[PartWriter]:
        """Stages a part under `token`; on leaving the block without an error it is verified and published.

        Publishing onto an existing key keeps what is there (equal keys, equal content). With an error nothing is
        published and the staging directory is removed.

        Raises:
            StoreCorrupt: what was written does not read back, or an array of the kind is missing.
        """

    def part(self, key: str) -> PartReader | None:
        """The published part of that key, or None.

        Raises:
            FormatTooNew: it was written by a newer vlglab.
            StoreCorrupt: its manifest cannot be read.
        """

    def entry(self, key: str) -> PartEntry | None:
        """The manifest line of a published part, or None."""

    def publish(self, manifest: ArtifactManifest, *, token: str) -> str:
        """Publishes an artifact's manifest and returns its BLAKE3 digest, also where somebody withdrew it meanwhile.

        Raises:
            StoreCorrupt: one of its parts is not published.
        """

    def manifest(self, key: str) -> ArtifactManifest | None:
        """The manifest of a published artifact, or None.

        Raises:
            FormatTooNew: it was written by a newer vlglab.
            StoreCorrupt: it cannot be read.
        """

    def manifest_file(self, key: str) -> bytes | None:
        """The manifest of a published artifact as it lies there, or None; nothing of it is checked.

        Raises:
            StoreCorrupt: it cannot be read.
        """

    def stored(self, key: str, name: str) -> StoredFile | None:
        """A file of a published part: `manifest.json`, or one that this lists, by its path there.

        Returns:
            None where there is no such part or file, or it does not lie on a disk.

        Raises:
            FormatTooNew, StoreCorrupt: as `part`.
            StoreCorrupt: the file is gone, or not as long as it was published; its bytes are not read.
        """

    def verify(self, key: str) -> Sequence[str]:
        """Checks every file of every part of an artifact against its digest.

        Returns:
            One sentence a fault, naming scene, file and, where the store keeps them in files, the damaged chunks; empty
            where all is well.
        """

    def part_faults(self, entry: PartEntry) -> Sequence[str]:
        """Checks every file of one part that an artifact names; the same sentences as `verify`, which asks it of all.

        Nothing that the part says of itself is believed before its manifest has the digest that the artifact names.
        """

    def is_whole(self, manifest: ArtifactManifest) -> bool:
        """Whether a manifest and all parts that it names are there, by name alone: cheap, and reads none of them."""

    def withdraw(self, key: str, parts: Collection[str]) -> None:
        """Takes parts and the artifact of that key, in this order, out of everybody's sight; what is gone already is.

        Quick whatever they hold. They are removed for good by `clear`, or by the next `sweep`.
        """

    def clear(self) -> int:
        """Removes what was withdrawn for good; returns how many things that were."""

    def artifacts(self) -> Iterator[str]:
        """Keys of the published artifacts, sorted."""

    def parts(self) -> Iterator[str]:
        """Keys of the published parts, in no order, by name alone; one that is published meanwhile may be missing."""

    def staged(self) -> frozenset[str]:
        """Names of the staging directories: tokens under which something is or was being written."""

    def sweep(self, tokens: frozenset[str], among: frozenset[str] | None = None) -> int:
        """Removes staging directories whose token is not among `tokens` (the living ones); returns how many.

        Args:
            tokens: the living ones.
            among: only directories of these names, as `staged` listed them; None looks at all.
        """


def scene_of(manifest: ArtifactManifest, scene: str) -> PartEntry | None:
    """The manifest's line for a scene, or None."""
    return next((part for part in manifest.parts if part.scene == scene), None)


def of_scenes(manifest: ArtifactManifest, scenes: Collection[str]) -> ArtifactManifest:
    """A scene-wise artifact as if it had these scenes alone, in its own order and under its own key.

    How many points of the whole are covered says nothing of some scenes: see `counted`.
    """
    splits = manifest.attributes.get("splits", {})
    kept = {name: value for name, value in manifest.attributes.items() if name != "num_covered"}
    return replace(
        manifest,
        parts=tuple(part for part in manifest.parts if part.scene in scenes),
        attributes={**kept, "splits": {k: v for k, v in splits.items() if k in scenes}},
    )


def counted(store: ArtifactStore, manifest: ArtifactManifest) -> ArtifactManifest:
    """The same artifact with the points that have an embedding counted; one of another kind as it is.

    Raises:
        StoreCorrupt: a part, which must be in the store, cannot be read.
    """
    if manifest.kind != "embeddings":
        return manifest
    parts = [store.part(entry.key) for entry in manifest.parts]
    covered = sum(len(part.array("point_index")) for part in parts if part is not None)
    return replace(manifest, attributes={**manifest.attributes, "num_covered": covered})


def as_little_endian(values: Array) -> Array:
    """`values` contiguous and little endian, as they are stored."""
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))

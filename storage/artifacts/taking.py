"""The contract of a store that takes what another published: whole parts, and files in the place of damaged ones.

Every store that lies on a disk or in a bucket does; that in memory does not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from storage.artifacts.manifests import FileEntry
from storage.artifacts.store import ArtifactStore, PartEntry
from storage.specs.spec import ArtifactKind


@runtime_checkable
class TakingStore(ArtifactStore, Protocol):
    """An `ArtifactStore` that `pull` and `repair` can write to."""

    def adopt(self, folder: Path, entry: PartEntry, *, kind: ArtifactKind, token: str) -> None:
        """Publishes a part that was copied from another store, after checking all of it (`copies.check_part`).

        Args:
            folder: where the copy lies whole, on the disk that this store stages on; it is moved away.
            entry: the line of the artifact's manifest that names the part.
            kind: the artifact's kind.
            token: what it is staged under.

        Raises:
            StoreCorrupt: the copy is not what the line says, or no part of that kind; it stays where it is.
        """

    def free_bytes(self) -> int:
        """Bytes that are free on the disk that parts are adopted from; of the bucket itself nobody knows."""

    @property
    def keeps_on_disk(self) -> bool:
        """Whether what is adopted takes room on that disk for good; else it is gone from there once it is adopted."""

    def has_place(self, key: str) -> bool:
        """Whether an artifact of that key was published, though its manifest may be damaged."""

    def part_manifest_file(self, key: str) -> bytes | None:
        """The manifest of a published part as it lies there, or None; nothing of it is checked."""

    def is_as_published(self, key: str, name: str, entry: FileEntry) -> bool:
        """Whether a file of a part is there and what was published; reads all of it."""

    def replace_manifest(self, key: str, content: Path) -> None:
        """Puts an artifact's manifest in the place of a damaged one, whole or not at all; the file may be moved away.

        The caller has checked that these are the bytes that were published, here and in `replace_file`.
        """

    def replace_file(self, key: str, name: str, content: Path) -> None:
        """Puts a file of a part, or its manifest, in the place of a damaged one; as `replace_manifest`."""

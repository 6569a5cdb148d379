"""A store that lives in one process's memory, for tests and trials: same rules, nothing left behind.

Plain files lie in a temporary directory, since readers are promised a local path. Writers may be threads.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import weakref
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from storage.artifacts import admission, part_files, scaled
from storage.artifacts.kinds import KINDS
from storage.artifacts.manifests import (
    SUMMARY,
    ArrayEntry,
    FileEntry,
    PartManifest,
    decode_artifact,
    digest,
    encode_artifact,
)
from storage.artifacts.store import (
    Array,
    ArtifactManifest,
    Attributes,
    PartEntry,
    PartReader,
    PartWriter,
    Rows,
    StoredFile,
)
from storage.errors import NotFound, SpecInvalid, StoreCorrupt
from storage.specs.spec import ArtifactKind


@dataclass(slots=True)
class _MemoryPart:
    """One part, writer and reader alike: the store hands it out as one, then as the other."""

    key: str
    kind: ArtifactKind
    scene: str
    folder: Path
    attributes: Attributes = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)
    manifest: PartManifest | None = None

    def write(self, name: str, values: Array) -> None:
        """Keeps a read-only copy of one array; see `PartWriter.write`."""
        admission.check_values(self.kind, self.scene, name, values)
        if name in self.arrays:
            raise SpecInvalid(f"the array {name!r} of scene {self.scene!r} was written before; write it once")
        copy = np.array(values, dtype=values.dtype.newbyteorder("="), order="C")
        copy.setflags(write=False)
        self.arrays[name] = copy

    def set(self, **attributes: Any) -> None:
        """Adds attributes (JSON-like values)."""
        self.attributes = {**self.attributes, **admission.plain_attributes(attributes)}

    def path(self, name: str) -> Path:
        """A local path to write a plain file to."""
        if not KINDS[self.kind].files:
            raise SpecInvalid(f"a part of kind {self.kind} holds no plain files, got {name!r}")
        return self.folder / admission.check_file_name(name)

    def names(self) -> tuple[str, ...]:
        """Names of its arrays, sorted."""
        return tuple(sorted(self.arrays))

    def array(self, name: str) -> Array:
        """A copy of one array, decoded where it is scaled.

        Raises:
            NotFound: the part has no such array.
        """
        by = KINDS[self.kind].arrays[name].scaled_by if name in self.arrays else ""
        if by in self.arrays:
            return scaled.decode(self.arrays[name], self.arrays[by])
        if name not in self.arrays:
            raise NotFound(f"the part {self.key} (scene {self.scene or 'none'}) has no array {name!r}; {self.names()}")
        return self.arrays[name].copy()

    def rows(self, name: str, rows: Rows) -> Array:
        """Some rows of an array; errors as `array`."""
        return self.array(name)[rows]

    def file(self, name: str) -> Path:
        """A local path of one of its plain files (read only).

        Raises:
            NotFound: the part has no such file.
        """
        if name not in self.files():
            raise NotFound(f"the part {self.key} (scene {self.scene or 'none'}) has no file {name!r}; {self.files()}")
        return self.folder / name

    def files(self) -> tuple[str, ...]:
        """Names of its plain files, sorted."""
        return tuple(sorted(p.name for p in self.folder.iterdir()))

    def describe(self) -> PartManifest:
        """The manifest of what is there now."""
        contents = {f"files/{name}": (self.folder / name).read_bytes() for name in self.files()}
        contents |= {name: values.tobytes() for name, values in self.arrays.items()}
        arrays = {n: ArrayEntry(tuple(a.shape), a.dtype.name) for n, a in self.arrays.items()}
        return PartManifest(
            key=self.key,
            kind=self.kind,
            scene=self.scene,
            arrays=arrays,
            files={n: FileEntry(digest(content), len(content)) for n, content in contents.items()},
            attributes={n: self.attributes[n] for n in SUMMARY if n in self.attributes},
            format_version=admission.version_needed(self.kind, arrays),
        )


class MemoryStore:
    """An `ArtifactStore` in memory; two of them share nothing."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="vlglab-memory-store-")
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._parts: dict[str, _MemoryPart] = {}
        self._manifests: dict[str, bytes] = {}
        self._staging: dict[Path, str] = {}
        self._withdrawn: list[_MemoryPart] = []
        self._withdrawals = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def write_part(self, key: str, *, kind: ArtifactKind, scene: str, token: str) -> Iterator[PartWriter]:
        """Keeps a part aside until the block ends; see `ArtifactStore.write_part`."""
        admission.check_part(kind, scene)
        admission.check_key("key of a part", key)
        admission.check_key("token", token)
        part = _MemoryPart(key, kind, scene, Path(tempfile.mkdtemp(dir=self._folder)))
        with self._lock:
            self._staging[part.folder] = token
        try:
            yield part
            part.manifest = part.describe()
            num_points = part.attributes.get("num_points")
            admission.check_complete(kind, scene, part.manifest.arrays, part.files(), num_points)
            with self._lock:
                if part.folder not in self._staging:
                    raise StoreCorrupt(f"the part {key} was swept before it was published; its token is not valid")
                self._parts.setdefault(key, part)
        finally:
            with self._lock:
                self._staging.pop(part.folder, None)
            if self._parts.get(key) is not part:
                shutil.rmtree(part.folder, ignore_errors=True)

    def part(self, key: str) -> PartReader | None:
        """The published part of that key, or None."""
        return self._parts.get(key)

    def entry(self, key: str) -> PartEntry | None:
        """The manifest line of a published part, or None."""
        part = self._parts.get(key)
        return None if part is None or part.manifest is None else part.manifest.entry()

    def publish(self, manifest: ArtifactManifest, *, token: str) -> str:
        """Publishes an artifact's manifest and returns its BLAKE3 digest; see `ArtifactStore.publish`."""
        admission.check_key("key of an artifact", manifest.key)
        admission.check_key("token", token)
        admission.check_parts(self, manifest)
        with self._lock:
            return digest(self._manifests.setdefault(manifest.key, encode_artifact(manifest)))

    def manifest(self, key: str) -> ArtifactManifest | None:
        """The manifest of a published artifact, or None."""
        content = self._manifests.get(key)
        return None if content is None else decode_artifact(content, f"the manifest of the artifact {key}")

    def manifest_file(self, key: str) -> bytes | None:
        """The manifest of a published artifact, or None."""
        return self._manifests.get(key)

    def stored(self, key: str, name: str) -> StoredFile | None:
        """A plain file of a published part; arrays and manifests lie in no file here."""
        part = self._parts.get(key)
        entry = None if part is None or part.manifest is None else part.manifest.files.get(name)
        if part is None or part.manifest is None or entry is None or not name.startswith("files/"):
            return None
        path = part.folder / name.removeprefix("files/")
        part_files.check_there(path, name, part.manifest)
        return StoredFile(path, entry.num_bytes, entry.blake3)

    def verify(self, key: str) -> Sequence[str]:
        """One sentence a file of the artifact's parts that was changed behind the store's back.

        Raises:
            NotFound: no artifact of that key is published.
        """
        return admission.artifact_faults(self, key, "this store")

    def part_faults(self, entry: PartEntry) -> Sequence[str]:
        """Checks one part; see `ArtifactStore.part_faults`."""
        of = f"of the part {entry.key} (scene {entry.scene or 'none'})"
        part = self._parts.get(entry.key)
        if part is None or part.manifest is None:
            return [f"the part {entry.key} (scene {entry.scene or 'none'}) is missing from the store"]
        if part.manifest.entry().digest != entry.digest:
            return [f"the manifest {of} was changed: it is not the one that the artifact names"]
        try:
            now = part.describe().files
        except OSError as error:
            raise StoreCorrupt(f"a file {of} cannot be read: {error}") from error
        was = part.manifest.files
        return [f"{n} {of} was changed" for n in sorted({*now, *was}) if now.get(n) != was.get(n)]

    def is_whole(self, manifest: ArtifactManifest) -> bool:
        """Whether a manifest and all its parts are there."""
        return manifest.key in self._manifests and all(part.key in self._parts for part in manifest.parts)

    def withdraw(self, key: str, parts: Collection[str]) -> None:
        """Forgets parts and an artifact; see `ArtifactStore.withdraw`."""
        with self._lock:
            taken = [part for name in parts if (part := self._parts.pop(name, None)) is not None]
            self._withdrawn += taken
            self._withdrawals += len(taken) + (self._manifests.pop(key, None) is not None)

    def clear(self) -> int:
        """Removes the plain files of what was withdrawn; see `ArtifactStore.clear`."""
        with self._lock:
            gone, self._withdrawn = self._withdrawn, []
            number, self._withdrawals = self._withdrawals, 0
        for part in gone:
            shutil.rmtree(part.folder, ignore_errors=True)
        return number

    def artifacts(self) -> Iterator[str]:
        """Keys of the published artifacts, sorted."""
        return iter(sorted(self._manifests))

    def parts(self) -> Iterator[str]:
        """Keys of the published parts; see `ArtifactStore.parts`."""
        return iter(list(self._parts))

    def staged(self) -> frozenset[str]:
        """Tokens under which something is being written; see `ArtifactStore.staged`."""
        with self._lock:
            return frozenset(self._staging.values())

    def sweep(self, tokens: frozenset[str], among: frozenset[str] | None = None) -> int:
        """Gives up what is being written under tokens that are not living; see `ArtifactStore.sweep`."""
        with self._lock:
            dead = set(self._staging.values() if among is None else among) - tokens
            self._staging = {folder: token for folder, token in self._staging.items() if token not in dead}
        return len(dead)

"""The store on S3-compatible object storage: the same layout and the same bytes as on a disk, published by manifest.

    parts/<key[:2]>/<key>/...       a part; it is there once its `manifest.json` is, which is written last
    artifacts/<key>/manifest.json   an artifact; one object
    staging/<token>/<key>           a mark, empty: the part of that key is being sent under that token
    withdrawn/<name>                a note of what was withdrawn and is not yet removed

There is no rename, so that nothing is moved into place: an object is put where nothing is, or not at all. A part is
written and checked on a local disk first; what is read is fetched file by file onto that disk and kept there, where it
may be removed at any time. Speaks to the storage through obstore (extra `s3`).
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from storage.artifacts import admission, copies, part_files
from storage.artifacts.fetched import Copies
from storage.artifacts.manifests import (
    FileEntry,
    PartManifest,
    decode_artifact,
    decode_part,
    digest,
    encode_artifact,
)
from storage.artifacts.objects import Objects, mapped, side_by_side
from storage.artifacts.store import ArtifactManifest, PartEntry, PartReader, PartWriter, StoredFile
from storage.artifacts.zarr_store import ZarrStore
from storage.artifacts.zarr_writer import ZarrPartWriter
from storage.errors import StoreCorrupt
from storage.specs.spec import ArtifactKind

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Bucket

SETTLE_S = 30.0
"""For so long a writer waits for a sweep that is at its files when it publishes them: no deletion is tried longer."""
MOST_HELD = 256
"""Most files of a part that are held open while it is sent: a process may open so many."""
LOOK_S = 0.2
"""Seconds between two looks at whether that sweep is over."""


class ObjectStore:
    """An `ArtifactStore` on object storage, with a local folder that parts are written in and kept in once read."""

    def __init__(self, bucket: Bucket, folder: Path, copies_bytes: int = 0, files: Bucket | None = None) -> None:
        """Holds the bucket, or a prefix of one, and the folder, which is made on the first write.

        Args:
            bucket: the bucket, or a prefix of one.
            folder: where parts are written, and copies of them kept.
            copies_bytes: room that the copies may take; 0 sets no limit.
            files: the bucket again, for whole files; see `Objects`.
        """
        self._objects = Objects(bucket, files)
        self._local = ZarrStore(folder)
        self._copies = Copies(self._objects, self._local, copies_bytes)

    @contextlib.contextmanager
    def write_part(self, key: str, *, kind: ArtifactKind, scene: str, token: str) -> Iterator[PartWriter]:
        """Writes a part here, then sends and publishes it; see `ArtifactStore.write_part`."""
        admission.check_part(kind, scene)
        admission.check_key("key of a part", key)
        with self._local.staged_folder(key, token) as staging:
            writer = ZarrPartWriter(staging, key=key, kind=kind, scene=scene)
            yield writer
            self._send(staging, writer.finish(), token)

    def part(self, key: str) -> PartReader | None:
        """The published part of that key, or None; see `ArtifactStore.part`."""
        content = self.part_manifest_file(key)
        if content is None:
            return None
        manifest = decode_part(content, f"{part_files.MANIFEST} of the part {key}")
        return self._copies.reader(_part_prefix(key), key, content, manifest)

    def entry(self, key: str) -> PartEntry | None:
        """The manifest line of a published part, or None; errors as `part`."""
        content = self.part_manifest_file(key)
        return None if content is None else decode_part(content, f"{part_files.MANIFEST} of the part {key}").entry()

    def publish(self, manifest: ArtifactManifest, *, token: str) -> str:
        """Publishes an artifact's manifest and returns its BLAKE3 digest; see `ArtifactStore.publish`."""
        admission.check_key("key of an artifact", manifest.key)
        admission.check_key("token", token)
        admission.check_parts(self, manifest)
        content = encode_artifact(manifest)
        name = _artifact_name(manifest.key)
        if not self._objects.create(name, content):
            content = self._objects.get(name) or content
        return digest(content)

    def manifest(self, key: str) -> ArtifactManifest | None:
        """The manifest of a published artifact, or None; see `ArtifactStore.manifest`."""
        content = self.manifest_file(key)
        return None if content is None else decode_artifact(content, f"the manifest of the artifact {key}")

    def manifest_file(self, key: str) -> bytes | None:
        """The manifest of a published artifact as it lies there, or None; see `ArtifactStore.manifest_file`."""
        return self._objects.get(_artifact_name(key)) if admission.is_key(key) else None

    def stored(self, key: str, name: str) -> StoredFile | None:
        """A file of a published part, as a copy here; see `ArtifactStore.stored`."""
        content = self.part_manifest_file(key)
        if content is None:
            return None
        if name == part_files.MANIFEST:
            return StoredFile(self._copies.folder(key, content) / name, len(content), digest(content))
        manifest = decode_part(content, f"{part_files.MANIFEST} of the part {key}")
        entry = manifest.files.get(name)
        if entry is None:
            return None
        path = self._copies.file(_part_prefix(key), key, content, name, entry.num_bytes)
        part_files.check_there(path, name, manifest)
        return StoredFile(path, entry.num_bytes, entry.blake3)

    def adopt(self, folder: Path, entry: PartEntry, *, kind: ArtifactKind, token: str) -> None:
        """Sends and publishes a part that was copied from another store, and keeps no copy; see `TakingStore.adopt`."""
        manifest = copies.check_part(folder, entry, kind)
        with self._local.staged_folder(entry.key, token) as staging:
            folder.rename(staging)
            self._send(staging, manifest, token, keep=False)

    def free_bytes(self) -> int:
        """Bytes that are free on the local disk; see `TakingStore.free_bytes`."""
        return self._local.free_bytes()

    @property
    def keeps_on_disk(self) -> bool:
        """False; see `TakingStore.keeps_on_disk`."""
        return False

    def has_place(self, key: str) -> bool:
        """Whether an artifact of that key lies there; see `TakingStore.has_place`."""
        return self.manifest_file(key) is not None

    def part_manifest_file(self, key: str) -> bytes | None:
        """The manifest of a part as it lies there, or None; see `TakingStore.part_manifest_file`."""
        return self._objects.get(_part_prefix(key) + part_files.MANIFEST) if admission.is_key(key) else None

    def is_as_published(self, key: str, name: str, entry: FileEntry) -> bool:
        """Whether the object is what was published; see `TakingStore.is_as_published`."""
        return self._objects.hashed(_part_prefix(key) + name) == entry

    def replace_manifest(self, key: str, content: Path) -> None:
        """Puts an artifact's manifest; see `TakingStore.replace_manifest`."""
        self._objects.put(_artifact_name(key), content)

    def replace_file(self, key: str, name: str, content: Path) -> None:
        """Puts an object over a damaged one and drops its copy; see `TakingStore.replace_file`."""
        self._objects.put(_part_prefix(key) + name, content)
        self._copies.drop(key, name)

    def verify(self, key: str) -> Sequence[str]:
        """Checks every file of every part of an artifact, there and in the copies here; see `ArtifactStore.verify`.

        Raises:
            NotFound: no artifact of that key is published.
            FormatTooNew: the artifact or a part was written by a newer vlglab.
        """
        return admission.artifact_faults(self, key, "the store")

    def part_faults(self, entry: PartEntry) -> Sequence[str]:
        """Checks every object of one part, and its copies here; see `ArtifactStore.part_faults`."""
        of = f"the part {entry.key} (scene {entry.scene or 'none'})"
        content = self.part_manifest_file(entry.key)
        if content is None:
            return [f"{of} is missing from the store"]
        try:
            manifest = part_files.named_manifest(content, entry)
        except StoreCorrupt as error:
            return [error.message]
        return [*self._faults(manifest, f"of {of}"), *self._copies.faults(entry.key, content, manifest)]

    def _faults(self, manifest: PartManifest, of: str) -> Iterator[str]:
        """One sentence an object of a part that is not what its manifest says, and its chunks; reads everything."""
        prefix = _part_prefix(manifest.key)

        def fault(file: tuple[str, FileEntry]) -> str | None:
            name, expected = file
            found = self._objects.hashed(prefix + name)
            if found is None:
                return f"{name} {of} is missing from the store"
            if found == expected:
                return None
            within = self._copies.within(prefix, manifest, name) if found.num_bytes == expected.num_bytes else ""
            return part_files.changed(f"{name} {of}", found, expected) + within

        yield from filter(None, side_by_side(fault, sorted(manifest.files.items())))
        present = {name.removeprefix(prefix) for name in self._objects.under(prefix)} - {part_files.MANIFEST}
        yield from (f"{name} {of} was never published" for name in sorted(present - set(manifest.files)))

    def is_whole(self, manifest: ArtifactManifest) -> bool:
        """Whether a manifest and all its parts are there; see `ArtifactStore.is_whole`."""
        names = [_artifact_name(manifest.key), *(_part_prefix(p.key) + part_files.MANIFEST for p in manifest.parts)]
        return all(side_by_side(self._objects.exists, names))

    def withdraw(self, key: str, parts: Collection[str]) -> None:
        """Takes manifests away, after a note of what is to be removed; see `ArtifactStore.withdraw`."""
        prefixes = [*map(_part_prefix, sorted(parts)), f"artifacts/{key}/"]
        there = [prefix for prefix in prefixes if self._objects.exists(prefix + part_files.MANIFEST)]
        for prefix in there:
            self._note(prefix)
            self._objects.delete(prefix + part_files.MANIFEST)

    def clear(self) -> int:
        """Removes what was withdrawn for good; see `ArtifactStore.clear`. What was published again since stays.

        Where somebody writes again what is to be removed, the note of it waits for the next call.
        """
        notes = self._objects.under("withdrawn/")
        for note, at in notes.items():
            prefix = (self._objects.get(note) or b"").decode()
            published = bool(prefix) and self._objects.exists(prefix + part_files.MANIFEST)
            if prefix and not published:
                old = [name for name, changed in self._objects.under(prefix).items() if changed <= at]
                if not self._removed(prefix, old):
                    published = self._objects.exists(prefix + part_files.MANIFEST)
                    if not published:
                        continue
                elif prefix.startswith("parts/"):
                    self._copies.drop(_key_of(prefix))
            self._objects.delete(note)
            if published and not self._objects.exists(prefix + part_files.MANIFEST):
                self._note(prefix)  # whoever wrote that note was withdrawing it just then
        return len(notes)

    def _removed(self, prefix: str, names: Iterable[str]) -> bool:
        """Removes objects under a prefix; False, and the rest stays, as soon as somebody writes there again.

        A writer has its mark there before it sends a file, and until its manifest is there.
        """
        for name in names:
            written = any(mark.split("/")[2] in prefix.split("/") for mark in self._objects.under("staging/"))
            if written or self._objects.exists(prefix + part_files.MANIFEST):
                return False
            self._objects.delete(name)
        return True

    def _note(self, prefix: str) -> None:
        """Notes what `clear` is to remove: objects under a prefix that are there now and have no manifest then."""
        self._objects.put(f"withdrawn/{secrets.token_hex(8)}-{_key_of(prefix)}", prefix.encode())

    def artifacts(self) -> Iterator[str]:
        """Keys of the published artifacts, sorted."""
        names = (name.split("/") for name in self._objects.under("artifacts/"))
        return iter(sorted(key for _, key, name in names if name == part_files.MANIFEST))

    def parts(self) -> Iterator[str]:
        """Keys of the published parts; see `ArtifactStore.parts`."""
        end = f"/{part_files.MANIFEST}"
        return (name.split("/")[2] for name in self._objects.under("parts/") if name.endswith(end))

    def staged(self) -> frozenset[str]:
        """Tokens under which something is written here or sent from anywhere; see `ArtifactStore.staged`.

        What was withdrawn and is not yet removed is among them, by the name of its note after a dot.
        """
        sent = {name.split("/")[1] for name in self._objects.under("staging/")}
        withdrawn = {name.replace("withdrawn/", ".") for name in self._objects.under("withdrawn/")}
        return self._local.staged() | sent | withdrawn

    def sweep(self, tokens: frozenset[str], among: frozenset[str] | None = None) -> int:
        """Removes what dead writers left here and there; see `ArtifactStore.sweep`.

        Their marks go before what they sent: a writer that outlived its lease sees that, whatever comes between.
        """
        dead = {name for name in (self.staged() if among is None else among) if name not in tokens}
        here = self._local.staged() & dead
        swept = self._local.sweep(tokens, frozenset(dead))
        marks = [(name.split("/")[1], name.split("/")[2]) for name in self._objects.under("staging/")]
        alive = {key for token, key in marks if token not in dead}
        for token, key in marks:
            if token in dead:
                if key not in alive:
                    self._note(_part_prefix(key))
                self._objects.delete(f"staging/{token}/{key}")
        there = {token for token, _ in marks} | {name for name in dead if name.startswith(".")}
        if there & dead:
            self.clear()
        return swept + len(there & dead - here)

    def _send(self, staging: Path, manifest: PartManifest, token: str, *, keep: bool = True) -> None:
        """Puts the files of a part where it will lie, then its manifest, unless somebody published it meanwhile.

        With `keep` they stay here as copies.

        A manifest is not taken back, for another worker may count on it by then: where a sweep took the mark while it
        was put, what that sweep took of the files is sent again.

        Raises:
            StoreCorrupt: the staging folder or the mark was swept meanwhile, or an object is not as long as its file.
        """
        prefix, mark = _part_prefix(manifest.key), f"staging/{token}/{manifest.key}"
        name = prefix + part_files.MANIFEST
        content = (staging / part_files.MANIFEST).read_bytes() if staging.is_dir() else b""
        if not content:
            raise _swept(manifest.key)
        created = False
        if not self._objects.exists(name):
            self._objects.put(mark, b"")
            try:
                few = len(manifest.files) <= MOST_HELD  # these are here also when the folder is swept
                held = {file: mapped(staging / file) if few else staging / file for file in manifest.files}
                arrived = side_by_side(lambda file: self._sent(prefix + file, held[file]), manifest.files)
            except FileNotFoundError as error:
                raise _swept(manifest.key) from error
            sizes = zip(manifest.files.items(), arrived, strict=True)
            if short := [path for (path, file), size in sizes if size != file.num_bytes]:
                raise StoreCorrupt(
                    f"the part {manifest.key} is not published: {short[0]} did not arrive whole; run the stage again"
                )
            created = self._objects.exists(mark) and self._objects.create(name, content)
            if not self._objects.exists(mark) and not (created and self._is_mended(prefix, held, manifest)):
                self._objects.put(mark, b"")  # for the next sweep: of what was sent since the last nothing else tells
                raise _swept(manifest.key)
            self._objects.delete(mark)
        if keep and (created or self.part_manifest_file(manifest.key) == content):
            self._copies.keep(manifest.key, content, manifest.files, staging)

    def _is_mended(self, prefix: str, held: Mapping[str, memoryview | Path], manifest: PartManifest) -> bool:
        """Sends again what a sweep takes of a part that is published by now; False where that was withdrawn meanwhile.

        A sweep looks for the manifest before each deletion, and keeps its note until it has seen it. A part of too many
        files to be held, whose folder here was swept too, cannot be sent again: it is withdrawn.
        """
        until = time.monotonic() + SETTLE_S
        while True:
            noted = any(note.endswith(f"-{manifest.key}") for note in self._objects.under("withdrawn/"))
            sizes = side_by_side(lambda file: self._objects.size(prefix + file), manifest.files)
            for (file, entry), size in zip(manifest.files.items(), sizes, strict=True):
                if size != entry.num_bytes:
                    try:
                        self._objects.put(prefix + file, held[file])
                    except FileNotFoundError:
                        self._objects.delete(prefix + part_files.MANIFEST)
                        return False
            if not noted or time.monotonic() > until:
                return self._objects.exists(prefix + part_files.MANIFEST)
            time.sleep(LOOK_S)

    def _sent(self, name: str, file: memoryview | Path) -> int | None:
        """Sends a file; how many bytes there are of it now."""
        self._objects.put(name, file)
        return self._objects.size(name)


def _part_prefix(key: str) -> str:
    return f"parts/{key[:2]}/{key}/"


def _key_of(prefix: str) -> str:
    return prefix.rstrip("/").rpartition("/")[2]


def _artifact_name(key: str) -> str:
    return f"artifacts/{key}/{part_files.MANIFEST}"


def _swept(key: str) -> StoreCorrupt:
    return StoreCorrupt(
        f"the staging directory of {key} was swept before it was published; nothing is published: "
        "the token it was written under is no longer valid"
    )

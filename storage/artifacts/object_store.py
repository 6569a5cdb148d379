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
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from storage.artifacts import admission, part_files
from storage.artifacts.manifests import (
    FileEntry,
    PartManifest,
    decode_artifact,
    decode_part,
    digest,
    encode_artifact,
)
from storage.artifacts.objects import Objects, side_by_side
from storage.artifacts.store import ArtifactManifest, Attributes, PartEntry, PartReader, PartWriter, StoredFile
from storage.artifacts.zarr_reader import ZarrPartReader
from storage.artifacts.zarr_store import ZarrStore
from storage.artifacts.zarr_writer import ZarrPartWriter
from storage.errors import StoreCorrupt
from storage.specs.spec import ArtifactKind

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Bucket

_GROUP = "zarr.json"


class ObjectStore:
    """An `ArtifactStore` on object storage, with a local folder that parts are written in and kept in once read."""

    def __init__(self, bucket: Bucket, folder: Path) -> None:
        """Holds the bucket, or a prefix of one, and the folder, which is made on the first write."""
        self._objects = Objects(bucket)
        self._local = ZarrStore(folder)

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
        content = self._part_manifest(key)
        if content is None:
            return None
        manifest = decode_part(content, f"{part_files.MANIFEST} of the part {key}")
        return _FetchingReader(self._copy(key, content), manifest, partial(self._fetch, _part_prefix(key)))

    def entry(self, key: str) -> PartEntry | None:
        """The manifest line of a published part, or None; errors as `part`."""
        content = self._part_manifest(key)
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

    def stored(self, key: str, name: str) -> StoredFile | None:  # noqa: ARG002 - the contract's
        """None: nothing here lies on a local disk for good, and whoever may read the bucket reads it there."""
        return None

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
        content = self._part_manifest(entry.key)
        if content is None:
            return [f"{of} is missing from the store"]
        try:
            manifest = part_files.named_manifest(content, entry)
        except StoreCorrupt as error:
            return [error.message]
        return [*self._faults(manifest, f"of {of}"), *_faults_of_copies(self._copy(entry.key, content), manifest)]

    def _faults(self, manifest: PartManifest, of: str) -> Iterator[str]:
        """One sentence an object of a part that is not what its manifest says; fetches and hashes everything."""
        prefix = _part_prefix(manifest.key)

        def fault(file: tuple[str, FileEntry]) -> str | None:
            name, expected = file
            found = self._objects.hashed(prefix + name)
            if found is None:
                return f"{name} {of} is missing from the store"
            return None if found == expected else part_files.changed(f"{name} {of}", found, expected)

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
            self._objects.put(f"withdrawn/{secrets.token_hex(8)}", prefix.encode())
            self._objects.delete(prefix + part_files.MANIFEST)

    def clear(self) -> int:
        """Removes what was withdrawn for good; see `ArtifactStore.clear`. What was published again since stays."""
        notes = self._objects.under("withdrawn/")
        for note, at in notes.items():
            prefix = (self._objects.get(note) or b"").decode()
            if prefix and not self._objects.exists(prefix + part_files.MANIFEST):
                old = [name for name, changed in self._objects.under(prefix).items() if changed <= at]
                self._objects.delete(*old)
                if prefix.startswith("parts/"):
                    shutil.rmtree(self._local.part_path(prefix.rstrip("/").rpartition("/")[2]), ignore_errors=True)
            self._objects.delete(note)
        return len(notes)

    def artifacts(self) -> Iterator[str]:
        """Keys of the published artifacts, sorted."""
        names = (name.split("/") for name in self._objects.under("artifacts/"))
        return iter(sorted(key for _, key, name in names if name == part_files.MANIFEST))

    def parts(self) -> Iterator[str]:
        """Keys of the published parts; see `ArtifactStore.parts`."""
        end = f"/{part_files.MANIFEST}"
        return (name.split("/")[2] for name in self._objects.under("parts/") if name.endswith(end))

    def staged(self) -> frozenset[str]:
        """Tokens under which something is written here or sent from anywhere; see `ArtifactStore.staged`."""
        return self._local.staged() | {name.split("/")[1] for name in self._objects.under("staging/")}

    def sweep(self, tokens: frozenset[str], among: frozenset[str] | None = None) -> int:
        """Removes what dead writers left here and there; see `ArtifactStore.sweep`."""
        dead = {name for name in (self.staged() if among is None else among) if name not in tokens}
        here = self._local.staged() & dead
        swept = self._local.sweep(tokens, frozenset(dead))
        marks = [name.split("/")[1:] for name in self._objects.under("staging/")]
        alive = {key for token, key in marks if token not in dead}
        for token, key in marks:
            if token not in dead:
                continue
            prefix = _part_prefix(key)
            if key not in alive and not self._objects.exists(prefix + part_files.MANIFEST):
                self._objects.delete(*self._objects.under(prefix))
            self._objects.delete(f"staging/{token}/{key}")
        swept += len({token for token, _ in marks} & dead - here)
        return swept

    def _send(self, staging: Path, manifest: PartManifest, token: str) -> None:
        """Puts the files of a part where it will lie, then its manifest, unless somebody published it meanwhile.

        Raises:
            StoreCorrupt: the staging folder or the mark was swept meanwhile, or an object is not as long as its file.
        """
        prefix, mark = _part_prefix(manifest.key), f"staging/{token}/{manifest.key}"
        content = (staging / part_files.MANIFEST).read_bytes() if staging.is_dir() else b""
        if not content:
            raise _swept(manifest.key)
        created = False
        if not self._objects.exists(prefix + part_files.MANIFEST):
            self._objects.put(mark, b"")
            try:
                arrived = side_by_side(lambda name: self._sent(prefix + name, staging / name), manifest.files)
            except FileNotFoundError as error:
                raise _swept(manifest.key) from error
            sizes = zip(manifest.files.items(), arrived, strict=True)
            if short := [name for (name, file), size in sizes if size != file.num_bytes]:
                raise StoreCorrupt(
                    f"the part {manifest.key} is not published: {short[0]} did not arrive whole; run the stage again"
                )
            if not self._objects.exists(mark):
                raise _swept(manifest.key)
            created = self._objects.create(prefix + part_files.MANIFEST, content)
            self._objects.delete(mark)
        if created or self._part_manifest(manifest.key) == content:
            copy = self._copy(manifest.key, content)
            for name in manifest.files:
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(OSError):
                    (staging / name).rename(copy / name)

    def _sent(self, name: str, file: Path) -> int | None:
        """Sends a file; how many bytes there are of it now."""
        self._objects.put(name, file)
        return self._objects.size(name)

    def _part_manifest(self, key: str) -> bytes | None:
        return self._objects.get(_part_prefix(key) + part_files.MANIFEST) if admission.is_key(key) else None

    def _copy(self, key: str, manifest: bytes) -> Path:
        """The folder of a part's copies here; copies of another part that once had this key are removed."""
        folder = self._local.part_path(key)
        known = folder / part_files.MANIFEST
        with contextlib.suppress(FileNotFoundError):
            if known.read_bytes() == manifest:
                return folder
            shutil.rmtree(folder, ignore_errors=True)
        _write_whole(known, manifest)
        return folder

    def _fetch(self, prefix: str, name: str, path: Path) -> None:
        """Brings a file of a part here, where it is there."""
        content = self._objects.get(prefix + name)
        if content is not None:
            _write_whole(path, content)


class _FetchingReader(ZarrPartReader):
    """A part whose files are brought here when they are first asked for."""

    def __init__(self, path: Path, manifest: PartManifest, fetch: Callable[[str, Path], None]) -> None:
        super().__init__(path, manifest)
        self._fetch = fetch

    @property
    def attributes(self) -> Attributes:
        """Its attributes."""
        if not (self._path / _GROUP).exists():
            self._fetch(_GROUP, self._path / _GROUP)
        return super().attributes

    def _check_size(self, file: str, expected: int) -> None:
        path = self._path / file
        if not path.exists() or path.stat().st_size != expected:
            self._fetch(file, path)
        super()._check_size(file, expected)


def _faults_of_copies(folder: Path, manifest: PartManifest) -> Iterable[str]:
    """Of the files that are here already: one that a program changed would be read as it is."""
    here = {name: entry for name, entry in manifest.files.items() if (folder / name).exists()}
    for name, expected in sorted(here.items()):
        if part_files.digest_file(folder / name) != expected.blake3:
            yield (
                f"the copy of {name} of the part {manifest.key} (scene {manifest.scene or 'none'}) at {folder} was "
                "changed; remove that folder, it will be fetched anew"
            )


def _write_whole(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all, whoever else writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    part.write_bytes(content)
    part.replace(path)


def _part_prefix(key: str) -> str:
    return f"parts/{key[:2]}/{key}/"


def _artifact_name(key: str) -> str:
    return f"artifacts/{key}/{part_files.MANIFEST}"


def _swept(key: str) -> StoreCorrupt:
    return StoreCorrupt(
        f"the staging directory of {key} was swept before it was published; nothing is published: "
        "the token it was written under is no longer valid"
    )

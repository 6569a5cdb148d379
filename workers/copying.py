"""Copies of parts from a source into the store: several files at once, a part visible when all of it was checked."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from storage.artifacts import copies, part_files
from storage.artifacts.manifests import FileEntry, PartManifest, decode_artifact, digest
from storage.artifacts.store import ArtifactManifest, PartEntry
from storage.artifacts.taking import TakingStore
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import NotFound, SpecInvalid, StoreCorrupt, StoreUnwritable, naming_scene
from storage.specs.spec import ArtifactKind
from workers.context import Context
from workers.sources import Meter, Source

REPORT_S = 0.5
"""Seconds between two words on how far a copy is."""


class Files(Protocol):
    """Where the files of parts come from: a `Source`, or a store on this machine (`LocalFiles`)."""

    @property
    def url(self) -> str:
        """What it is called."""

    def part_manifest(self, part: str) -> bytes:
        """The manifest of a part; errors as `Source.part_manifest`."""

    def fetch(self, part: str, name: str, entry: FileEntry, to: Path, meter: Meter) -> None:
        """One file of a part; errors as `Source.fetch`."""


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """`Files` of a store on this machine."""

    store: ZarrStore

    @property
    def url(self) -> str:
        """Its folder."""
        return str(self.store.root)

    def part_manifest(self, part: str) -> bytes:
        """The manifest of a part; see `Files`."""
        content = self.store.part_manifest_file(part)
        if content is None:
            raise NotFound(f"the part {part} is not in {self.url}")
        return content

    def fetch(self, part: str, name: str, entry: FileEntry, to: Path, meter: Meter) -> None:
        """Copies one file; see `Files`."""
        if not self.store.is_as_published(part, name, entry):
            raise StoreCorrupt(f"{name} of the part {part} in {self.url} is not the file that was published")
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.store.part_path(part) / name, to)
        meter.add(entry.num_bytes)


def taking_store(context: Context) -> TakingStore:
    """The store, where it takes what others published.

    Raises:
        SpecInvalid: it does not.
    """
    if not isinstance(context.store, TakingStore):
        raise SpecInvalid(f"the stage {context.spec.stage!r} needs a store on a disk (file://) or in a bucket (s3://)")
    return context.store


@dataclass(slots=True)
class Copier:
    """Fetches parts into a folder, then into the store."""

    context: Context
    source: Source
    connections: int
    folder: Path
    """Where parts lie until they are whole; on the store's disk."""
    meter: Meter = field(default_factory=Meter)
    _began: float = field(default_factory=time.monotonic)
    _done: int = 0
    _parts: int = 0
    _bytes: int = 0

    def fetch(self, kind: ArtifactKind, parts: Sequence[PartEntry]) -> tuple[PartEntry, ...]:
        """Brings all parts into the store; returns their lines there, in order.

        A part that the store has already stays as it is, whatever the source has; where that differs, a note says so.

        Raises:
            NotFound, StoreCorrupt, StoreUnwritable, SourceRefused, SourceUnreachable: as `Source.fetch` and
                `TakingStore.adopt`.
            QuotaExceeded: all of it does not fit in the store's quota; nothing was fetched.
        """
        store = taking_store(self.context)
        there = [store.entry(part.key) for part in parts]
        missing = [part for part, known in zip(parts, there, strict=True) if known is None]
        for part, known in zip(parts, there, strict=True):
            if known is not None and known.digest != part.digest:
                self.context.reporter.note(
                    f"scene {part.scene or 'none'}: this store has made the part {part.key} itself, with other bytes"
                    f" ({known.digest[:16]}, the source {part.digest[:16]}); it stays; `vlglab features diff` compares"
                )
        self._parts, self._bytes = len(missing), sum(part.num_bytes for part in missing)
        self._check_room(parts, missing)
        with writable(self.folder), ThreadPoolExecutor(self.connections) as pool:
            self.folder.mkdir(parents=True, exist_ok=True)
            for fetched in self._in_turn(pool, kind, missing):
                with naming_scene(fetched.scene):
                    store.adopt(self.folder / fetched.key, fetched, kind=kind, token=self.context.token)
                self._done += 1
                self._report()
        lines = [store.entry(part.key) for part in parts]
        return tuple(line if line is not None else part for line, part in zip(lines, parts, strict=True))

    def _check_room(self, parts: Sequence[PartEntry], missing: Sequence[PartEntry]) -> None:
        """Sees, before a byte is fetched, that all parts have room by the quota, then the missing ones on the disk.

        Raises:
            QuotaExceeded: the quota has not so much room.
            StoreUnwritable: the disk has not.
        """
        self.context.reporter.keep_room({part.key: part.num_bytes for part in parts})
        store = taking_store(self.context)
        to_come = [max(0, part.num_bytes - _num_bytes(self.folder / part.key)) for part in missing]
        at_a_time = to_come if store.keeps_on_disk else sorted(to_come)[-self.connections :]
        needed, free = sum(at_a_time), store.free_bytes()
        if needed > free:
            whole = "" if needed == sum(to_come) else f", {needed:,} of them at a time,"
            raise StoreUnwritable(
                f"{sum(to_come):,} bytes are to be fetched{whole} and the disk of the store ({self.folder}) has"
                f" {free:,} free; nothing was fetched: make room (`vlglab features usage`, `vlglab features gc`), or"
                " take some scenes alone, or fewer connections, then retry the run"
            )

    def _in_turn(self, pool: ThreadPoolExecutor, kind: ArtifactKind, parts: Sequence[PartEntry]) -> Iterator[PartEntry]:
        """The parts as they are whole; files of the next few are on their way meanwhile."""
        waiting = list(reversed(parts))
        flying: list[tuple[PartEntry, list[Future[None]]]] = []
        try:
            while waiting or flying:
                while waiting and len(flying) < self.connections:
                    part = waiting.pop()
                    flying.append((part, self._begin(pool, kind, part)))
                part, files = flying[0]
                while wait(files, timeout=REPORT_S).not_done:
                    self._report()
                    self.context.check()
                with naming_scene(part.scene):
                    for file in files:
                        file.result()
                flying.pop(0)
                yield part
        finally:
            for _, files in flying:
                for file in files:
                    file.cancel()

    def _begin(self, pool: ThreadPoolExecutor, kind: ArtifactKind, part: PartEntry) -> list[Future[None]]:
        """Asks for every file of a part that is not there from before."""
        target = self.folder / part.key
        target.mkdir(parents=True, exist_ok=True)
        with naming_scene(part.scene):
            content = self.source.part_manifest(part.key)
            manifest = copies.part_manifest(content, part, kind, f"at {self.source.url}")
        _clear_strangers(target, manifest)
        (target / part_files.MANIFEST).write_bytes(content)
        asked = []
        for name, entry in sorted(manifest.files.items(), key=lambda item: -item[1].num_bytes):
            if (target / name).exists():
                self.meter.keep(entry.num_bytes)  # whole from before: it was renamed when its digest was right
            else:
                asked.append(pool.submit(self.source.fetch, part.key, name, entry, target / name, self.meter))
        return asked

    def _report(self) -> None:
        """Says how far it is."""
        rate = self.meter.came / max(1e-6, time.monotonic() - self._began)
        self.context.reporter.progress(
            unit="MB",
            done=round(self.meter.here / 1e6, 1),
            total=round(self._bytes / 1e6, 1),
            eta_s=round(max(0, self._bytes - self.meter.here) / rate, 1) if rate else None,
            message=f"{self._done} of {self._parts} parts, {rate / 1e6:.0f} MB/s",
        )


@dataclass(slots=True)
class Mender:
    """Replaces damaged files of a published artifact."""

    context: Context
    source: Files
    folder: Path
    """Where files lie until they are whole; on the store's disk."""
    meter: Meter = field(default_factory=Meter)

    def artifact(self, key: str, content: bytes) -> ArtifactManifest | None:
        """The manifest of an artifact of this store; where it is not what was published, the source's takes its place.

        What was published is known by the digest that was recorded; without records, what can be read passes for it.

        Returns:
            None where this store has no such artifact.

        Raises:
            StoreCorrupt: the source's is not the one that was published here.
        """
        store, recorded = taking_store(self.context), self.context.recorded.get("artifact")
        if not store.has_place(key):
            return None
        with suppress(StoreCorrupt):
            lies = store.manifest_file(key)
            if lies is not None and recorded in (None, digest(lies)):
                found = store.manifest(key)
                self._tell_apart(key, lies, content)
                return found
        manifest = decode_artifact(content, f"the manifest of {key} at {self.source.url}")
        if manifest.key != key or recorded not in (None, digest(content)):
            raise StoreCorrupt(
                f"the manifest of {key} at {self.source.url} is that of {manifest.key}, or another than was published"
                f" here (BLAKE3 {digest(content)[:16]}); nothing was changed: name a source with the same artifact"
            )
        with writable(self.folder):
            store.replace_manifest(key, self._written(content, f"artifact-{key}"))
        return manifest

    def _tell_apart(self, key: str, here: bytes, there: bytes) -> None:
        """Notes that the source has another manifest than this store, where it has."""
        if here != there:
            self.context.reporter.note(
                f"{self.source.url} has {key} with other bytes: the BLAKE3 of its manifest is {digest(there)[:16]},"
                f" here {digest(here)[:16]}. What is here stays, and only files of the bytes that it names are taken"
            )

    def parts(self, manifest: ArtifactManifest) -> int:
        """Mends every part; returns how many files were replaced."""
        mended = 0
        for number, part in enumerate(manifest.parts, 1):
            with naming_scene(part.scene):
                mended += self._part(part, manifest.kind)
            self.context.reporter.progress(unit="part", done=number, total=len(manifest.parts))
            self.context.check()
        return mended

    def _part(self, part: PartEntry, kind: ArtifactKind) -> int:
        """Mends one part: its manifest first, then what this lists."""
        store, mended = taking_store(self.context), 0
        content = store.part_manifest_file(part.key)
        if content is None or digest(content) != part.digest:
            content = self.source.part_manifest(part.key)
            copies.part_manifest(content, part, kind, f"at {self.source.url}")
            with writable(self.folder):
                store.replace_file(part.key, part_files.MANIFEST, self._written(content, f"part-{part.key}"))
            mended += 1
        manifest = copies.part_manifest(content, part, kind, "in this store")
        for name, entry in manifest.files.items():
            if not store.is_as_published(part.key, name, entry):
                with writable(self.folder):
                    got = self.folder / part.key / name
                    self.source.fetch(part.key, name, entry, got, self.meter)
                    store.replace_file(part.key, name, got)
                mended += 1
        return mended

    def _written(self, content: bytes, name: str) -> Path:
        """A small file, to be put in its place."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.json"
        path.write_bytes(content)
        return path


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Names the disk where it takes no more.

    Raises:
        StoreUnwritable: it is full, or read only.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        raise StoreUnwritable(
            f"the disk of the store takes no more ({os.strerror(error.errno)}, {folder}); nothing half is published and"
            " what has come is kept: make room (`vlglab features usage`, `vlglab features gc`), then retry the run"
        ) from error


def _num_bytes(folder: Path) -> int:
    """Bytes of what lies in a folder from before."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _clear_strangers(folder: Path, manifest: PartManifest) -> None:
    """Removes what lies in a copy and is none of its files: its source may have had other ones before."""
    known = {*manifest.files, *(f"{name}.partial" for name in manifest.files), part_files.MANIFEST}
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                shutil.rmtree(path)
        elif path.relative_to(folder).as_posix() not in known:
            path.unlink()

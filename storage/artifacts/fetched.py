"""Copies of a bucket's parts on a local disk: fetched file by file when they are asked for, and dropped for room.

A copy may be removed at any time: whoever reads it has the file open, or fetches it again. Knows one bucket and one
local folder; what is published, and when, is `object_store`'s matter.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from storage.artifacts import part_files
from storage.artifacts.beside import write_whole
from storage.artifacts.manifests import PartManifest
from storage.artifacts.objects import Objects
from storage.artifacts.store import Attributes
from storage.artifacts.zarr_reader import ZarrPartReader
from storage.artifacts.zarr_store import ZarrStore

LOOK_S = 60.0
"""Seconds between two looks at how much room the copies take."""
IN_USE_S = 600.0
"""A part that somebody opened so many seconds ago is not dropped."""
_GROUP = "zarr.json"
_NO_ARTIFACT = "-"
"""What can be no artifact's key, to withdraw parts alone."""


class Copies:
    """The copies, in the places where a local store has its parts."""

    def __init__(self, objects: Objects, local: ZarrStore, most_bytes: int) -> None:
        """Holds where they come from, where they lie, and how much room they may take; 0 sets no limit."""
        self._objects = objects
        self._local = local
        self._most_bytes = most_bytes
        self._looked = -LOOK_S
        self._lock = threading.Lock()

    def folder(self, key: str, manifest: bytes) -> Path:
        """The folder of a part's copies; copies of another part that once had this key are removed."""
        folder = self._local.part_path(key)
        known = folder / part_files.MANIFEST
        copied = _holds_copies(folder)
        with contextlib.suppress(FileNotFoundError):
            if known.read_bytes() == manifest:
                os.utime(known)
                return folder
        if copied:  # of another part that had this key, or of who knows what: the copy of its manifest is gone
            self.drop(key)
        self.make_room()
        write_whole(known, lambda path: bool(path.write_bytes(manifest)))
        return folder

    def reader(self, prefix: str, key: str, content: bytes, manifest: PartManifest) -> ZarrPartReader:
        """A part whose files are brought here when they are first asked for.

        Args:
            prefix: where its objects lie.
            key: its key.
            content: its manifest, as it lies there.
            manifest: what that says.
        """
        folder = self.folder(key, content)
        return _FetchingReader(folder, manifest, partial(self._bring, prefix, folder))

    def file(self, prefix: str, key: str, content: bytes, name: str, num_bytes: int) -> Path:
        """Where one file of a part lies, brought here if need be; nothing lies there if the bucket has it no more."""
        folder = self.folder(key, content)
        self._bring(prefix, folder, name, num_bytes)
        return folder / name

    def keep(self, key: str, content: bytes, files: Iterable[str], from_folder: Path) -> None:
        """Moves files of a part that was just sent to where its copies lie."""
        folder = self.folder(key, content)
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(OSError):
                (from_folder / name).rename(folder / name)

    def drop(self, key: str, name: str = "") -> None:
        """Removes the copy of one file, or of a whole part: at once, so that no copies are left without a manifest."""
        path = self._local.part_path(key)
        if name:
            (path / name).unlink(missing_ok=True)
        else:
            self._local.withdraw(_NO_ARTIFACT, [key])
            self._local.clear()

    def faults(self, key: str, content: bytes, manifest: PartManifest) -> Iterable[str]:
        """Of the files that are here already: one that a program changed would be read as it is."""
        folder = self.folder(key, content)
        here = {name: entry for name, entry in manifest.files.items() if (folder / name).exists()}
        for name, expected in sorted(here.items()):
            if part_files.digest_file(folder / name) != expected.blake3:
                yield (
                    f"the copy of {name} of the part {manifest.key} (scene {manifest.scene or 'none'}) at {folder} was "
                    "changed; remove that folder, it will be fetched anew"
                )

    def within(self, prefix: str, manifest: PartManifest, name: str) -> str:
        """What of a damaged object is damaged; see `part_files.within`. It is fetched for that, and kept nowhere."""
        known = part_files.metadata_of(manifest, name)
        with tempfile.TemporaryDirectory() as folder:
            for each in (known, name) if known else ():
                (Path(folder) / each).parent.mkdir(parents=True, exist_ok=True)
                self._objects.download(prefix + each, Path(folder) / each)
            return part_files.within(Path(folder), manifest, name)

    def make_room(self) -> None:
        """Where copies take more than they may, drops those that nobody has opened for the longest time.

        Looks once a minute at most, so that for so long they may take more.
        """
        with self._lock:
            now = time.monotonic()
            if not self._most_bytes or now - self._looked < LOOK_S:
                return
            self._looked = now
        sizes: dict[str, int] = {}
        opened: dict[str, float] = {}
        for key in self._local.parts():
            with contextlib.suppress(OSError):
                folder = self._local.part_path(key)
                sizes[key] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
                opened[key] = (folder / part_files.MANIFEST).stat().st_mtime
        total = sum(sizes.values())
        for key in sorted(opened, key=opened.__getitem__):
            if total <= self._most_bytes or opened[key] > time.time() - IN_USE_S:
                return
            self.drop(key)
            total -= sizes[key]

    def _bring(self, prefix: str, folder: Path, name: str, num_bytes: int | None = None) -> None:
        """Fetches a file of a part, if it is there, unless it is here already, as long as it should be."""
        path = folder / name
        if not path.exists() or num_bytes not in (None, path.stat().st_size):
            write_whole(path, lambda part: self._objects.download(prefix + name, part))


class _FetchingReader(ZarrPartReader):
    """A part whose files are brought here when they are first asked for."""

    def __init__(self, path: Path, manifest: PartManifest, bring: Callable[..., None]) -> None:
        super().__init__(path, manifest)
        self._bring = bring

    @property
    def attributes(self) -> Attributes:
        """Its attributes."""
        self._bring(_GROUP)
        return super().attributes

    def _check_size(self, file: str, expected: int) -> None:
        self._bring(file, expected)
        super()._check_size(file, expected)


def _holds_copies(folder: Path) -> bool:
    """Whether there is more in a part's folder than what is being written just now."""
    with contextlib.suppress(FileNotFoundError):
        return any(not path.name.startswith(".") for path in folder.iterdir())
    return False

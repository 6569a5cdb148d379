"""SynthRooms: a procedural dataset of furnished rooms, made on first use, then read like any posed RGB-D folder.

The rooms are made under a temporary name beside the dataset's folder, which is renamed when all of them and the marker
`synthrooms.json` are written: a process that dies leaves nothing half-made, and of two at once one wins. Knows folders
and processes; how a room looks is in `rooms`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from storage.errors import DatasetInvalid
from storage.keys import new_token
from storage.labels import LabelSet
from storage.specs.parts import DepthFusion, RgbdOptions, Split, SynthRoomsOptions
from workers.scenes.dataset_folder import TEST_LIST
from workers.scenes.rgbd import POINTS, RgbdSource
from workers.scenes.rooms.domains import domain_named
from workers.scenes.rooms.export import export_room
from workers.scenes.rooms.room import room_id
from workers.scenes.scene import Scene, SceneRef

GENERATOR = 1
"""Version of the generator: raised whenever equal options would give other rooms."""

MARKER = "synthrooms.json"
Progress = Callable[[int, int], None]
_ABANDONED_S = 6 * 3600
_OURS = re.compile(r"area_\d+_office_\d+|home_(train|test)_\d+|test\.txt|synthrooms\.json")


class SynthRoomsSource:
    """The scenes of a SynthRooms dataset."""

    def __init__(
        self,
        root: Path,
        options: SynthRoomsOptions,
        label_set: LabelSet,
        cache_dir: Path,
        *,
        threads: int = 1,
        progress: Progress | None = None,
    ) -> None:
        """Opens the dataset in `root`; its rooms are made when they are first asked for.

        Args:
            root: the dataset's folder.
            options: what it is made of.
            label_set: must be its domain's: S3DIS-13 of offices, ScanNet-20 of homes.
            cache_dir: where digests of files are remembered.
            threads: processes that make rooms.
            progress: told (rooms made, rooms in all) after each; may raise to stop.

        Raises:
            DatasetInvalid: another label set than the rooms have.
        """
        expected = domain_named(options.domain).label_set.name
        if label_set.name != expected:
            raise DatasetInvalid(
                f"got the label set {label_set.name} for SynthRooms {options.domain}, whose classes are those of "
                f"{expected}; ingest with label_set: {expected}"
            )
        self._options = options
        self._threads = threads
        self._progress = progress
        self._folder = RgbdSource(root, RgbdOptions(), label_set, DepthFusion(), cache_dir)

    @property
    def root(self) -> Path:
        """The folder that frames' paths are relative to."""
        return self._folder.root

    def scenes(self) -> Sequence[SceneRef]:
        """The rooms, sorted by id; makes them first where they are not there.

        Raises:
            DatasetInvalid: the folder holds something else, or rooms of other options.
        """
        make_dataset(self.root, self._options, self._threads, self._progress)
        return self._folder.scenes()

    def load(self, scene_id: str) -> Scene:
        """Reads one room; makes the dataset first where it is not there.

        Raises:
            DatasetInvalid: it cannot be read.
        """
        make_dataset(self.root, self._options, self._threads, self._progress)
        return self._folder.load(scene_id)


def make_dataset(root: Path, options: SynthRoomsOptions, threads: int = 1, progress: Progress | None = None) -> None:
    """Makes the dataset in `root` unless it is there, whole.

    Raises:
        DatasetInvalid: the folder holds something else, or rooms of other options.
    """
    rooms = _rooms(options)
    if _complete(root, options, rooms):
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    _sweep(root)
    partial = root.parent / f".{root.name}.{new_token()}.partial"
    partial.mkdir()
    try:
        _make_rooms(partial, options, rooms, threads, progress)
        held_out = [room_id(split, index, options.domain) for split, index in rooms if split == "test"]
        (partial / TEST_LIST).write_text("".join(f"{name}\n" for name in held_out), encoding="utf-8")
        (partial / MARKER).write_text(json.dumps(_marker(options), indent=1) + "\n", encoding="utf-8")
        _install(partial, root, options, rooms)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _rooms(options: SynthRoomsOptions) -> list[tuple[Split, int]]:
    rooms: list[tuple[Split, int]] = [("train", index) for index in range(options.train_rooms)]
    return rooms + [("test", index) for index in range(options.test_rooms)]


def _marker(options: SynthRoomsOptions) -> dict[str, object]:
    return {"generator": GENERATOR, "options": options.model_dump(mode="json")}


def _complete(root: Path, options: SynthRoomsOptions, rooms: Sequence[tuple[Split, int]]) -> bool:
    """True where the dataset lies in `root`, whole; False where it is to be made.

    Raises:
        DatasetInvalid: something else lies there.
    """
    if root.exists() and not root.is_dir():
        raise DatasetInvalid(f"got {root} for SynthRooms, which is no folder; name one that does not exist yet")
    try:
        found = json.loads((root / MARKER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        found = None
    except (OSError, ValueError) as error:
        raise DatasetInvalid(
            f"{MARKER} of the dataset folder {root} cannot be read ({error}); remove the folder, and its rooms "
            "are made again"
        ) from error
    if found is None:
        others = [path.name for path in root.iterdir() if not _OURS.fullmatch(path.name)] if root.exists() else []
        if others:
            raise DatasetInvalid(
                f"the folder {root} holds {', '.join(sorted(others)[:3])} and no SynthRooms; name one that is empty or "
                "does not exist yet"
            )
        return False
    if found != _marker(options):
        raise DatasetInvalid(
            f"the folder {root} holds SynthRooms made with other options or by another version: got {found}, expected "
            f"{_marker(options)}; name another folder, or remove this one, and its rooms are made again"
        )
    return all((root / room_id(split, index, options.domain) / POINTS).is_file() for split, index in rooms)


def _install(partial: Path, root: Path, options: SynthRoomsOptions, rooms: Sequence[tuple[Split, int]]) -> None:
    """Gives the finished folder its name, unless another process was first; what is incomplete there goes."""
    for _ in range(3):
        if _complete(root, options, rooms):
            return
        if root.exists():
            aside = root.parent / f".{root.name}.{new_token()}.partial"
            try:
                root.rename(aside)
            except OSError:
                continue
            shutil.rmtree(aside, ignore_errors=True)
        try:
            partial.rename(root)
        except OSError:
            continue
        return
    if not _complete(root, options, rooms):
        raise DatasetInvalid(f"could not name the finished rooms {root}: something else keeps writing there")


def _make_rooms(
    folder: Path,
    options: SynthRoomsOptions,
    rooms: Sequence[tuple[Split, int]],
    threads: int,
    progress: Progress | None,
) -> None:
    """Makes every room, each in one of `threads` processes (spawned, so that no state is shared)."""
    spawn = multiprocessing.get_context("spawn")
    workers = max(1, min(threads, len(rooms)))
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_end_with_parent) as pool:
        waiting = [pool.submit(export_room, folder, options, split, index) for split, index in rooms]
        try:
            for done, finished in enumerate(as_completed(waiting), 1):
                finished.result()
                if progress is not None:
                    progress(done, len(rooms))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _end_with_parent() -> None:
    """Ends this process when the one that started it is gone, however it ended."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _sweep(root: Path) -> None:
    """Removes what processes that died left beside the dataset, hours ago."""
    for path in root.parent.glob(f".{root.name}.*.partial"):
        try:
            old = time.time() - path.stat().st_mtime > _ABANDONED_S
        except OSError:
            continue
        if old:
            shutil.rmtree(path, ignore_errors=True)

"""Random points of random scenes of a feature store, for training loops of any kind.

    reader = FeaturePoints(store, key, points_per_scene=40_000, seed=1)
    for epoch in range(20):
        for drawn in reader.epoch(epoch):
            step(drawn.embeddings)

Several loader processes take shares of the scenes (`worker`, `workers`); docs/store.md shows it in PyTorch, which this
module does not know. Scenes lie memory-mapped, and only the rows that are drawn are copied.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from storage import keys
from storage.artifacts.store import Array, ArtifactManifest, ArtifactStore, PartEntry, PartReader
from storage.artifacts.zarr_reader import ZarrPartReader, rows_again
from storage.errors import NotFound, SpecInvalid, naming_scene

OPEN_SCENES = 32
"""Scenes that a reader keeps open; each holds up to a dozen file descriptors, and no memory of its own."""


@dataclass(frozen=True, slots=True)
class DrawnPoints:
    """Points of one scene drawn at random, none twice, in ascending order: so they are copied fastest."""

    scene: str
    embeddings: Array
    """(P,D) float16 or float32, as the reader gives any type; the caller's own."""
    point_index: NDArray[np.int64]
    """(P,) the point of each row in the scene's cloud."""


@dataclass(slots=True)
class FeaturePoints:
    """Draws points of the scenes of an `embeddings` artifact. Forked processes may share it; threads may not.

    Every scene comes once an epoch, in an order and with points that follow from seed, epoch and scene alone: they do
    not depend on the number of processes, only who yields which scene does. A scene's checksums are read when a process
    first draws from it.

    Args:
        store: where the artifact lies; local parts are memory-mapped, others are read whole.
        key: the artifact's key.
        points_per_scene: P; scenes with fewer covered points give all that they have.
        seed: where chance comes from.
        splits: only scenes of these splits; None takes all.
        ahead: draws that are kept or being made while one is used; 0 makes each when it is asked for.

    Raises:
        NotFound: no artifact of that key, or no scene in these splits.
        SpecInvalid: it holds no embeddings.
    """

    store: ArtifactStore
    key: str
    points_per_scene: int = 40_000
    seed: int = 0
    splits: Collection[str] | None = None
    ahead: int = 2
    _entries: list[PartEntry] = field(init=False)
    _open: OrderedDict[str, PartReader] = field(init=False, default_factory=OrderedDict)
    _checked: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        """Looks the scenes up; opens none."""
        manifest = self.store.manifest(self.key)
        if manifest is None:
            raise NotFound(f"no artifact {self.key!r} is published in this store")
        if manifest.kind != "embeddings":
            raise SpecInvalid(f"got an artifact of kind {manifest.kind}, expected embeddings; {self.key}")
        self._entries = [part for part in manifest.parts if self._wanted(manifest, part.scene)]
        if not self._entries:
            raise NotFound(f"the artifact {self.key} has no scene in the splits {self.splits}; name one that it has")

    def __len__(self) -> int:
        """Scenes of an epoch, over all processes."""
        return len(self._entries)

    def epoch(self, epoch: int, *, worker: int = 0, workers: int = 1) -> Iterator[DrawnPoints]:
        """The draws of an epoch, made by a thread before they are asked for.

        Args:
            epoch: its number; another one gives another order and other points.
            worker: which of several loader processes this is, from 0.
            workers: how many there are; each keeps to its own scenes in every epoch, so that it checks them once.

        Raises:
            SpecInvalid: `worker` is not among `workers`.
            NotFound, StoreCorrupt: a scene is gone or damaged; the error names it.
        """
        if not 0 <= worker < workers:
            raise SpecInvalid(f"got the worker {worker} of {workers}; expected one from 0 to {workers - 1}")
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self._entries))
        mine = [self._entries[i] for i in order if i % workers == worker]
        if self.ahead == 0:
            yield from (self._draw(entry, epoch) for entry in mine)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="feature-points") as pool:
            waiting: deque[Future[DrawnPoints]] = deque()
            try:
                for entry in mine:
                    waiting.append(pool.submit(self._draw, entry, epoch))
                    if len(waiting) > self.ahead:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _wanted(self, manifest: ArtifactManifest, scene: str) -> bool:
        return self.splits is None or manifest.attributes.get("splits", {}).get(scene) in self.splits

    def _draw(self, entry: PartEntry, epoch: int) -> DrawnPoints:
        with naming_scene(entry.scene):
            part = self._part(entry)
            index = self._rows(part, "point_index", slice(None))
            rng = np.random.default_rng([self.seed, epoch, int(keys.digest(entry.scene)[:8], 16)])
            drawn = np.zeros(len(index), bool)
            drawn[rng.choice(len(index), min(self.points_per_scene, len(index)), replace=False)] = True
            chosen = np.flatnonzero(drawn)  # in ascending order, without sorting
            return DrawnPoints(entry.scene, self._rows(part, "embeddings", chosen), index[chosen])

    def _part(self, entry: PartEntry) -> PartReader:
        """A scene, kept open until OPEN_SCENES others were opened after it."""
        part = self._open.pop(entry.key, None) or self.store.part(entry.key)
        if part is None:
            raise NotFound(f"the part {entry.key} (scene {entry.scene}) is gone from the store", scene=entry.scene)
        self._open[entry.key] = part
        if len(self._open) > OPEN_SCENES:
            self._open.popitem(last=False)
        return part

    def _rows(self, part: PartReader, name: str, rows: slice | NDArray[np.int64]) -> Array:
        """Rows of an array, its checksums read once in this process however often it is opened."""
        if not isinstance(part, ZarrPartReader):
            return part.array(name)[rows]
        of = f"{part.key}/{name}"
        values = rows_again(part, name, rows) if of in self._checked else part.rows(name, rows)
        self._checked.add(of)
        return values

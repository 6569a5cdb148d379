"""An epoch of training on stored features: ours against OpenScene-style `.pt` files, by torch's DataLoader.

    python -m benchmarks.loading [--scenes 64] [--rows 150000] [--columns 256] [--points 40000] [--folder DIR]

Random points of every scene, scenes shuffled, two loader processes that live on from epoch to epoch. A `.pt` file
holds `feat` (rows, columns) float16 and `mask_full`, and is read with torch.load(weights_only=True). Prints points a
second of two epochs (in the first, ours reads every checksum) and the most memory that a loader process took, file
pages left out. Columns are fewer than OpenSeg's 768, so that both data sets fit the disk and the page cache.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from storage.artifacts.store import ArtifactManifest
from storage.artifacts.zarr_store import ZarrStore
from storage.training import FeaturePoints

WORKERS, EPOCHS = 2, 2


class Ours(IterableDataset[torch.Tensor]):
    """Points of a feature store; each iteration is the next epoch."""

    def __init__(self, reader: FeaturePoints) -> None:
        self.reader, self.next_epoch = reader, 0

    def __iter__(self) -> Iterator[torch.Tensor]:
        """This loader process's share of an epoch."""
        epoch, self.next_epoch = self.next_epoch, self.next_epoch + 1
        about = get_worker_info()
        number, workers = (about.id, about.num_workers) if about else (0, 1)
        for drawn in self.reader.epoch(epoch, worker=number, workers=workers):
            yield torch.from_numpy(drawn.embeddings)


class Theirs(Dataset[torch.Tensor]):
    """A folder of `.pt` files."""

    def __init__(self, folder: Path, points: int) -> None:
        self.files, self.points = sorted(folder.glob("*.pt")), points

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        """Random points of one scene."""
        loaded = torch.load(self.files[index], weights_only=True)
        points: torch.Tensor = loaded["feat"][torch.randperm(len(loaded["feat"]))[: self.points]]
        return points


def write(folder: Path, scenes: int, rows: int, columns: int) -> ZarrStore:
    """The same features in both forms."""
    store, entries = ZarrStore(folder / "store"), []
    rng = np.random.default_rng(0)
    for number in range(scenes):
        values = rng.standard_normal((rows, columns), np.float32).astype(np.float16)
        torch.save(
            {"feat": torch.from_numpy(values), "mask_full": torch.ones(rows, dtype=torch.bool)},
            folder / f"scene{number:04d}.pt",
        )
        key = f"part{number:04d}"
        with store.write_part(key, kind="embeddings", scene=f"scene{number:04d}", token=folder.name) as part:
            part.write("embeddings", values)
            part.write("point_index", np.arange(rows))
            part.write("views", np.ones(rows, np.uint16))
        entry = store.entry(key)
        assert entry is not None
        entries.append(entry)
    manifest = ArtifactManifest("features", "embeddings", "extract", "embeddings", {}, {}, tuple(entries))
    store.publish(manifest, token=folder.name)
    return store


class Watch(threading.Thread):
    """Looks at the memory of this process's children, ten times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self.over = 0, threading.Event()

    def run(self) -> None:
        """Until it is over."""
        while not self.over.wait(0.1):
            for child in psutil.Process().children():
                try:
                    memory = child.memory_info()
                except psutil.NoSuchProcess:
                    continue
                self.most = max(self.most, memory.rss - self._of_files(child.pid))

    @staticmethod
    def _of_files(pid: int) -> int:
        """Bytes of file pages that a process has mapped."""
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            return 0
        return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("RssFile"))


def run(name: str, loader: DataLoader[Any]) -> list[float]:
    """Points a second of each epoch."""
    watch = Watch()
    watch.start()
    rates = []
    for _ in range(EPOCHS):
        start, points = time.perf_counter(), 0
        for batch in loader:
            points += len(batch)
        rates.append(points / (time.perf_counter() - start))
    watch.over.set()
    shown = "  ".join(f"{rate:12,.0f}" for rate in rates)
    print(f"{name:24} {shown} points/s   {watch.most / 2**20:8.0f} MiB a loader at most", flush=True)
    return rates


def main() -> None:
    """Writes both forms, reads them and prints the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=64)
    parser.add_argument("--rows", type=int, default=150_000)
    parser.add_argument("--columns", type=int, default=256)
    parser.add_argument("--points", type=int, default=40_000)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as parent:
        store = write(Path(parent), options.scenes, options.rows, options.columns)
        scenes = f"{options.scenes} scenes of {options.rows:,} x {options.columns} float16"
        print(f"\n{options.points:,} random points of each of {scenes}; {WORKERS} loader processes; {EPOCHS} epochs")
        common: dict[str, Any] = {"batch_size": None, "num_workers": WORKERS, "persistent_workers": True}
        reader = FeaturePoints(store, "features", points_per_scene=options.points)
        ours = run("vlglab", DataLoader(Ours(reader), **common))
        theirs = run(".pt, torch.load", DataLoader(Theirs(Path(parent), options.points), shuffle=True, **common))
    factors = [a / b for a, b in zip(ours, theirs, strict=True)]
    said = ", ".join(f"{factor:.1f}" for factor in factors)
    print(f"{'reached' if min(factors) >= 3 else 'MISSED '}  at least 3 times the points a second: {said}")


if __name__ == "__main__":
    main()

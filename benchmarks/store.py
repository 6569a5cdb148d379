"""Times of writing and reading one scene's embeddings, ours against what people use otherwise.

    python -m benchmarks.store [--rows 150000] [--columns 768] [--repeats 5] [--folder DIR]

Prints one row a way of storing: medians of seconds and GB/s, the share of np.save and np.load, the size on disk
relative to the values, and the files. Then times of 1,024 random rows, and what of the figures to reach was reached.
Each is read three
times after it was written. The ways take turns, so that whatever else the machine does meets all of them. Nothing is
synced to the disk, in any way, and reads come from the system's page cache: this measures the formats, not the disk.
Values are normal float16 numbers, which compress about as badly as embeddings do. Ours includes what the others leave
out: a crc32c a chunk, reading back, a BLAKE3 digest a file, the manifest and the rename. Ways with `zarrs` take its
codec pipeline, where the package is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import blake3
import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from zarr.codecs import BytesCodec, Crc32cCodec

from storage.artifacts.mapped import MappedArray
from storage.artifacts.zarr_arrays import file_budget, grid
from storage.artifacts.zarr_reader import ZarrPartReader
from storage.artifacts.zarr_store import ZarrStore

Values = NDArray[np.float16]
PYTHON, RUST = "zarr.core.codec_pipeline.BatchedCodecPipeline", "zarrs.ZarrsCodecPipeline"
KEY = "bench0"


@dataclass
class Way:
    """One way of storing an array in a folder, and what was measured of it."""

    name: str
    write: Callable[[Path, Values], object]
    read: Callable[[Path], Values]
    writes: list[float] = field(default_factory=list)
    reads: list[float] = field(default_factory=list)
    size: int = 0
    files: int = 0


def pipelines() -> dict[str, str]:
    """The codec pipelines that are installed: name -> what zarr's configuration calls it."""
    return {"zarr-python": PYTHON, **({"zarrs": RUST} if importlib.util.find_spec("zarrs") else {})}


def blake3_files(folder: Path) -> None:
    """BLAKE3 of each file, with every core."""
    for file in folder.rglob("*"):
        if file.is_file():
            blake3.blake3(max_threads=blake3.blake3.AUTO).update_mmap(file).hexdigest()


def zarr_way(name: str, pipeline: str) -> Way:
    """Plain zarr, with the store's chunks and codecs, and BLAKE3 of the files after it."""

    def write(folder: Path, values: Values) -> None:
        zarr.config.set({"codec_pipeline.path": pipeline})
        chunks, shards = grid(values.shape, 2, file_budget("embeddings", "embeddings"))
        array = zarr.create_group(folder / "g", zarr_format=3).create_array(
            "e", shape=values.shape, dtype=values.dtype, chunks=chunks, shards=shards,
            serializer=BytesCodec(endian="little"), filters=None, compressors=[Crc32cCodec()],
        )  # fmt: skip
        array[...] = values
        blake3_files(folder)

    def read(folder: Path) -> Values:
        zarr.config.set({"codec_pipeline.path": pipeline})
        return np.asarray(zarr.open_array(folder / "g" / "e", mode="r")[...])

    return Way(f"plain zarr + BLAKE3 ({name})", write, read)


def store_write(folder: Path, values: Values) -> None:
    """A published part, with the arrays that belong to it."""
    with ZarrStore(folder).write_part(KEY, kind="embeddings", scene="scene", token=folder.name) as part:
        part.write("embeddings", values)
        part.write("point_index", np.arange(len(values), dtype=np.int64))
        part.write("views", np.ones(len(values), np.uint16))


def opened(folder: Path) -> ZarrPartReader:
    """The part that `store_write` published."""
    part = ZarrStore(folder).part(KEY)
    assert isinstance(part, ZarrPartReader)
    return part


def store_by_zarr(pipeline: str) -> Callable[[Path], Values]:
    """Reads the store's own files as anybody would."""

    def read(folder: Path) -> Values:
        zarr.config.set({"codec_pipeline.path": pipeline})
        return np.asarray(zarr.open_array(ZarrStore(folder).part_path(KEY) / "embeddings", mode="r")[...])

    return read


def numpy_write(folder: Path, values: Values) -> None:
    """np.save, and BLAKE3 of the file."""
    np.save(folder / "e.npy", values)
    blake3_files(folder)


def torch_read(folder: Path) -> Values:
    """What torch.save wrote, as an array."""
    values: Values = torch.load(folder / "e.pt", weights_only=True).numpy()
    return values


def ways() -> list[Way]:
    """Every way; the first one is what the others are compared with."""
    return [
        Way("np.save / np.load", lambda f, v: np.save(f / "e.npy", v), lambda f: np.load(f / "e.npy")),
        Way("np.save + BLAKE3 / np.load", numpy_write, lambda f: np.load(f / "e.npy")),
        Way("torch.save / torch.load", lambda f, v: torch.save(torch.from_numpy(v), f / "e.pt"), torch_read),
        Way("vlglab store (published)", store_write, lambda f: opened(f).array("embeddings")),
        *(Way(f"vlglab store / {name}", store_write, store_by_zarr(path)) for name, path in pipelines().items()),
        *(zarr_way(name, path) for name, path in pipelines().items()),
    ]


def measure(every: list[Way], values: Values, repeats: int, parent: Path) -> None:
    """Writes and reads each way in turn, as often as asked for."""
    for _ in range(repeats):
        for way in every:
            folder = Path(tempfile.mkdtemp(dir=parent))
            start = time.perf_counter()
            way.write(folder, values)
            written = time.perf_counter()
            back = way.read(folder)
            way.reads.append(time.perf_counter() - written)
            way.writes.append(written - start)
            way.reads += [timed_once(way.read, folder) for _ in range(2)]
            if not np.array_equal(back, values):
                raise SystemExit(f"{way.name} does not read back what it wrote")
            files = [p for p in folder.rglob("*") if p.is_file()]
            way.size, way.files = sum(p.stat().st_size for p in files), len(files)
            shutil.rmtree(folder)


def timed_once(read: Callable[[Path], Values], folder: Path) -> float:
    """Seconds of reading."""
    start = time.perf_counter()
    read(folder)
    return time.perf_counter() - start


def timed(call: Callable[[], object], repeats: int) -> float:
    """Median seconds of a call, after one that warms it up."""
    call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def mapped_reader(values: Values, repeats: int, parent: Path) -> tuple[float, float, dict[str, float]]:
    """Seconds of opening (every checksum) and of reading whole once it is open, and of 1,024 random rows by way."""
    store_write(parent, values)
    np.save(parent / "e.npy", values)
    path = ZarrStore(parent).part_path(KEY) / "embeddings"
    rows = np.random.default_rng(1).choice(len(values), 1_024, replace=False)
    array, beside = MappedArray(path), np.load(parent / "e.npy", mmap_mode="r")
    assert np.array_equal(array[rows], values[rows])
    random = {
        "the mapped reader": timed(lambda: array[rows], 5 * repeats),
        "np.load(mmap_mode='r')": timed(lambda: np.array(beside[rows]), 5 * repeats),
    }
    for name, pipeline in pipelines().items():
        zarr.config.set({"codec_pipeline.path": pipeline})
        plain = zarr.open_array(path, mode="r")
        random[f"zarr ({name})"] = timed(lambda plain=plain: plain.oindex[np.sort(rows)], 1)
    return timed(lambda: MappedArray(path), repeats), timed(array.read, repeats), random


def show(every: list[Way], gigabytes: float) -> None:
    """Prints the table of the ways."""
    heads = ("write s", "GB/s", "share", "read s", "GB/s", "share", "size", "files")
    print(f"{'':34}" + "".join(f" {head:>8}" for head in heads))
    first = every[0]
    for way in every:
        cells = []
        for own, of in ((way.writes, first.writes), (way.reads, first.reads)):
            seconds = statistics.median(own)
            cells += [f"{seconds:.3f}", f"{gigabytes / seconds:.2f}", f"{statistics.median(of) / seconds:.2f}"]
        cells += [f"{way.size / gigabytes / 1e9:.3f}", str(way.files)]
        print(f"{way.name:34}" + "".join(f" {cell:>8}" for cell in cells), flush=True)


def judge(every: list[Way], whole_s: float, rows_s: float) -> None:
    """Prints each figure to reach, and whether it was."""
    writes = {way.name: statistics.median(way.writes) for way in every}
    reads = {way.name: statistics.median(way.reads) for way in every}
    numpy, store, torch_way = "np.save / np.load", "vlglab store (published)", "torch.save / torch.load"
    saved, loaded = writes[numpy], reads[numpy]
    plain = min((name for name in writes if name.startswith("plain zarr")), key=writes.__getitem__)
    theirs = min((name for name in reads if name.startswith("vlglab store /")), key=reads.__getitem__)
    files = next(way.files for way in every if way.name == store)
    for text, reached in (
        (f"write, published: at least 0.3 of np.save: {saved / writes[store]:.2f}", saved >= 0.3 * writes[store]),
        (f"write, {plain}: at least 0.3: {saved / writes[plain]:.2f}", saved >= 0.3 * writes[plain]),
        (f"read, {theirs}: at least 0.4 of np.load: {loaded / reads[theirs]:.2f}", loaded >= 0.4 * reads[theirs]),
        (f"read, mapped, once open: at least 0.75: {loaded / whole_s:.2f}", loaded >= 0.75 * whole_s),
        (f"read, verified on the way: at least 0.75: {loaded / reads[store]:.2f}", loaded >= 0.75 * reads[store]),
        (f"read, times torch.load: {reads[torch_way] / reads[store]:.1f}", reads[store] < reads[torch_way]),
        (f"1,024 random rows in at most 2 ms: {1e3 * rows_s:.2f} ms", rows_s <= 2e-3),
        (f"at most 24 files a scene: {files}", files <= 24),
    ):
        print(f"{'reached' if reached else 'MISSED '}  {text}")


def main() -> None:
    """Measures every way and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=150_000)
    parser.add_argument("--columns", type=int, default=768)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to write; default the system's temporary folder"
    )
    options = parser.parse_args()
    values = np.random.default_rng(0).standard_normal((options.rows, options.columns), np.float32).astype(np.float16)
    megabytes = values.nbytes / 1e6
    print(f"{options.rows:,} x {options.columns} float16, {megabytes:.0f} MB; medians of {options.repeats}; no fsync")
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; "
        f"Python {platform.python_version()}, zarr {zarr.__version__}, NumPy {np.__version__}, "
        f"torch {torch.__version__}, blake3 {blake3.__version__}, pipelines {', '.join(pipelines())}\n"
    )
    every = ways()
    with tempfile.TemporaryDirectory(dir=options.folder) as parent:
        measure(every, values, options.repeats, Path(parent))
        show(every, values.nbytes / 1e9)
        check_s, whole_s, random = mapped_reader(values, options.repeats, Path(parent))
    print(
        f"\nmapped reader: opens in {1e3 * check_s:.1f} ms, every checksum read; whole in {1e3 * whole_s:.1f} ms more"
    )
    for name, seconds in random.items():
        print(f"1,024 random rows, {name:24} {1e3 * seconds:8.2f} ms")
    print()
    judge(every, whole_s, random["the mapped reader"])


if __name__ == "__main__":
    main()

"""Times of writing and reading one scene's embeddings, ours against what people use otherwise.

    python -m benchmarks.store [--rows 150000] [--columns 768] [--repeats 3] [--folder DIR]

Prints one row a way of storing: medians of seconds and GB/s, the size on disk relative to the values, and the files.
Reads come from the system's page cache: this measures the formats, not the disk. Values are normal float16 numbers,
which compress about as badly as embeddings do. Ours includes what the others leave out: a crc32c a chunk, reading back,
a BLAKE3 digest a file, the manifest and the rename.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blake3
import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec

from storage.artifacts.zarr_store import ZarrStore

Values = NDArray[np.float16]


@dataclass(frozen=True)
class Way:
    """One way of storing an array in a folder."""

    name: str
    write: Callable[[Path, Values], object]
    read: Callable[[Path], Values]


def zarr_way(name: str, compressors: Any, **layout: Any) -> Way:
    """Plain zarr with some codecs."""

    def write(folder: Path, values: Values) -> None:
        group = zarr.create_group(folder / "g", zarr_format=3)
        array = group.create_array("e", shape=values.shape, dtype=values.dtype, compressors=compressors, **layout)
        array[...] = values

    def read(folder: Path) -> Values:
        return np.asarray(zarr.open_array(folder / "g" / "e", mode="r")[...])

    return Way(name, write, read)


def store_write(folder: Path, values: Values) -> None:
    """A published part, with the arrays that belong to it."""
    with ZarrStore(folder).write_part("bench0", kind="embeddings", scene="scene", token=folder.name) as part:
        part.write("embeddings", values)
        part.write("point_index", np.arange(len(values), dtype=np.int64))
        part.write("views", np.ones(len(values), np.uint16))


def store_read(folder: Path) -> Values:
    """Its embeddings."""
    part = ZarrStore(folder).part("bench0")
    assert part is not None
    return part.array("embeddings")


def torch_read(folder: Path) -> Values:
    """What torch.save wrote, as an array."""
    values: Values = torch.load(folder / "e.pt", weights_only=True).numpy()
    return values


def digest_after(way: Way, name: str, hash_file: Callable[[Path], object]) -> Way:
    """A way of storing that hashes each file after it wrote them."""

    def write(folder: Path, values: Values) -> None:
        way.write(folder, values)
        for file in folder.rglob("*"):
            if file.is_file():
                hash_file(file)

    return Way(f"{way.name} + {name}", write, way.read)


def blake3_file(file: Path) -> str:
    """BLAKE3 with every core."""
    return blake3.blake3(max_threads=blake3.blake3.AUTO).update_mmap(file).hexdigest()


def sha256_file(file: Path) -> str:
    """sha256, as the standard library does it."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def ways(columns: int) -> list[Way]:
    """Every way, the store's own first."""
    crc, rows = Crc32cCodec(), 8_192
    numpy_way = Way("np.save / np.load", lambda f, v: np.save(f / "e.npy", v), lambda f: np.load(f / "e.npy"))
    torch_way = Way("torch.save / torch.load", lambda f, v: torch.save(torch.from_numpy(v), f / "e.pt"), torch_read)
    zstd = [ZstdCodec(level=1), crc]
    return [
        Way("vlglab store (published)", store_write, store_read),
        zarr_way("zarr raw", None, chunks=(rows, columns)),
        zarr_way("zarr raw + crc32c", [crc], chunks=(rows, columns)),
        zarr_way("zarr raw + crc32c, 16,384 rows", [crc], chunks=(2 * rows, columns)),
        zarr_way("zarr raw + crc32c, shards of 4", [crc], chunks=(rows, columns), shards=(4 * rows, columns)),
        zarr_way("zarr zstd 1 + crc32c", zstd, chunks=(rows, columns)),
        numpy_way,
        digest_after(numpy_way, "BLAKE3", blake3_file),
        digest_after(numpy_way, "sha256", sha256_file),
        torch_way,
    ]


def measure(way: Way, values: Values, repeats: int, parent: Path) -> tuple[float, float, int, int]:
    """Median seconds of writing and of reading, bytes on disk and number of files."""
    writes, reads, size, count = [], [], 0, 0
    for _ in range(repeats):
        folder = Path(tempfile.mkdtemp(dir=parent))
        start = time.perf_counter()
        way.write(folder, values)
        written = time.perf_counter()
        back = way.read(folder)
        reads.append(time.perf_counter() - written)
        writes.append(written - start)
        if not np.array_equal(back, values):
            raise SystemExit(f"{way.name} does not read back what it wrote")
        files = [p for p in folder.rglob("*") if p.is_file()]
        size, count = sum(p.stat().st_size for p in files), len(files)
        shutil.rmtree(folder)
    return statistics.median(writes), statistics.median(reads), size, count


def main() -> None:
    """Measures every way and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=150_000)
    parser.add_argument("--columns", type=int, default=768)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to write; default the system's temporary folder"
    )
    options = parser.parse_args()
    values = np.random.default_rng(0).standard_normal((options.rows, options.columns), np.float32).astype(np.float16)
    print(f"{options.rows:,} x {options.columns} float16, {values.nbytes / 1e6:.0f} MB; medians of {options.repeats}")
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; Python {platform.python_version()}, "
        f"zarr {zarr.__version__}, NumPy {np.__version__}, torch {torch.__version__}, blake3 {blake3.__version__}\n"
    )
    print(f"{'':32} {'write s':>8} {'GB/s':>6} {'read s':>8} {'GB/s':>6} {'size':>6} {'files':>6}")
    gigabytes = values.nbytes / 1e9
    with tempfile.TemporaryDirectory(dir=options.folder) as parent:
        for way in ways(options.columns):
            write, read, size, count = measure(way, values, options.repeats, Path(parent))
            print(
                f"{way.name:32} {write:8.3f} {gigabytes / write:6.2f} {read:8.3f} {gigabytes / read:6.2f} "
                f"{size / values.nbytes:6.3f} {count:6}",
                flush=True,
            )


if __name__ == "__main__":
    main()

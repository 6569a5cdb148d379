"""What chose the store's chunks and codecs (docs/decisions/0013).

    python -m benchmarks.codecs compression STORE KEY
    python -m benchmarks.codecs grid [--folder DIR]

`compression`: size, and GB/s of encoding and decoding on one thread, of 8,192 rows of a published `embeddings` artifact
and of as many normal numbers. `grid`: GB/s of writing and reading 150,000 x 768 float16 through plain zarr, with raw
chunks and crc32c, by chunk, shard and codec pipeline; medians of five, the system's page cache warm.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import LZ4, Blosc, Zstd
from zarr.codecs import BytesCodec, Crc32cCodec

from benchmarks.store import pipelines
from storage.artifacts.zarr_store import ZarrStore

CODECS = {
    "zstd 1": Zstd(1),
    "zstd 3": Zstd(3),
    "lz4": LZ4(),
    "blosc lz4 + shuffle": Blosc("lz4", 5, Blosc.SHUFFLE),
    "blosc zstd 1 + shuffle": Blosc("zstd", 1, Blosc.SHUFFLE),
    "blosc zstd 1 + bitshuffle": Blosc("zstd", 1, Blosc.BITSHUFFLE),
}
GRIDS = ((2_048, 13), (4_096, 7), (8_192, None), (8_192, 4), (12_500, None), (16_384, None), (32_768, None))
"""Rows of a chunk, chunks of a shard."""


def compression(store: Path, key: str) -> None:
    """Prints a row a codec: size, encoding and decoding GB/s of embeddings, then of normal numbers."""
    manifest = ZarrStore(store).manifest(key)
    part = None if manifest is None else ZarrStore(store).part(manifest.parts[0].key)
    if part is None:
        raise SystemExit(f"no artifact {key} is published in {store}")
    real = part.array("embeddings")[:8_192]
    normal = np.random.default_rng(0).standard_normal(real.shape, np.float32).astype(np.float16)
    for name, codec in CODECS.items():
        cells = []
        for values in (real, normal):
            encoded = codec.encode(values)
            rates = [values.nbytes / median(call) / 1e9 for call in _calls(codec, values, encoded)]
            cells += [f"{len(encoded) / values.nbytes:.3f}", *(f"{rate:.2f}" for rate in rates)]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _calls(codec: Any, values: Any, encoded: bytes) -> tuple[Callable[[], object], Callable[[], object]]:
    return lambda: codec.encode(values), lambda: codec.decode(encoded)


def grids(folder: Path | None) -> None:
    """Prints a row a grid: GB/s of writing and reading, by pipeline."""
    values = np.random.default_rng(0).standard_normal((150_000, 768), np.float32).astype(np.float16)
    with tempfile.TemporaryDirectory(dir=folder) as parent:
        path = Path(parent) / "g"
        for rows, shard in GRIDS:
            cells = []
            for pipeline in pipelines().values():
                zarr.config.set({"codec_pipeline.path": pipeline})
                write = median(lambda rows=rows, shard=shard: _write(path, values, rows, shard))
                read = median(lambda: zarr.open_array(path / "x", mode="r")[...])
                cells += [f"{values.nbytes / seconds / 1e9:.2f}" for seconds in (write, read)]
            print(f"| {rows:,} | {shard or 'none'} | {' | '.join(cells)} |", flush=True)


def _write(path: Path, values: Any, rows: int, shard: int | None) -> None:
    shutil.rmtree(path, ignore_errors=True)
    array = zarr.create_group(path, zarr_format=3).create_array(
        "x", shape=values.shape, dtype=values.dtype, chunks=(rows, 768), shards=(rows * shard, 768) if shard else None,
        serializer=BytesCodec(endian="little"), filters=None, compressors=[Crc32cCodec()],
    )  # fmt: skip
    array[...] = values


def median(call: Callable[[], object], repeats: int = 5) -> float:
    """Median seconds of a call."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> None:
    """Runs the part that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    first = parts.add_parser("compression")
    first.add_argument("store", type=Path)
    first.add_argument("key")
    parts.add_parser("grid").add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    if options.part == "compression":
        compression(options.store, options.key)
    else:
        grids(options.folder)


if __name__ == "__main__":
    main()

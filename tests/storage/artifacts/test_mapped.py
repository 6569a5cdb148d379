"""The store's own reader and writer of chunks, each held against zarr."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, ZstdCodec

from storage.artifacts.chunk_files import ChunkDamaged
from storage.artifacts.chunk_writer import write_chunks
from storage.artifacts.mapped import MappedArray
from storage.artifacts.store import Array
from storage.artifacts.whole import read_whole
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import InvalidInput, StoreCorrupt
from tests.conformance.artifact_store import embeddings, put

CASES = [
    ((1_000, 7), "float16", 128, None),
    ((1_000, 7), "float16", 128, 4),
    ((1_000,), "int64", 100, 3),
    ((0, 3), "float32", 1, None),
    ((50, 3, 3), "float64", 50, None),
    ((300, 3), "uint8", 64, 2),
    ((256, 3), "int8", 64, 2),
]  # fmt: skip
"""Shape, dtype, rows of a chunk, chunks of a shard."""


def make(path: Path, values: Array, rows: int, shard: int | None = None, **changed: Any) -> zarr.Array[Any]:
    """An array as the store lays it out, by zarr; its zarr.json alone."""
    rest = values.shape[1:]
    said: dict[str, Any] = {
        "shape": values.shape,
        "dtype": values.dtype,
        "chunks": (rows, *rest),
        "shards": None if shard is None else (rows * shard, *rest),
        "serializer": BytesCodec(endian="little"),
        "filters": None,
        "compressors": [Crc32cCodec()],
        "config": {"write_empty_chunks": True},
    }
    return zarr.create_group(path, zarr_format=3).create_array("x", **{**said, **changed})


def by_zarr(path: Path, values: Array, rows: int, shard: int | None = None, **changed: Any) -> Path:
    made = make(path, values, rows, shard, **changed)
    if values.size:
        made[...] = values
    return path / "x"


def some(shape: tuple[int, ...], dtype: str) -> Array:
    values: Array = (np.random.default_rng(0).standard_normal(shape) * 50).astype(dtype)
    values[:130] = 0
    return values


@pytest.mark.parametrize(("shape", "dtype", "rows", "shard"), CASES)
def test_it_reads_what_zarr_wrote(
    tmp_path: Path, shape: tuple[int, ...], dtype: str, rows: int, shard: int | None
) -> None:
    values = some(shape, dtype)
    path = by_zarr(tmp_path / "g", values, rows, shard)
    array = MappedArray(path)
    assert (array.shape, array.dtype) == (values.shape, values.dtype)
    np.testing.assert_array_equal(array.read(), values)
    np.testing.assert_array_equal(read_whole(path), values)
    for part in (slice(5, 900, 3), slice(None, None, -1), slice(-40, -3), slice(100, 260), slice(7, 7), slice(9, 2)):
        np.testing.assert_array_equal(array[part], values[part])
    if len(values):
        wanted = np.random.default_rng(1).integers(-len(values), len(values), 500)
        np.testing.assert_array_equal(array[wanted], values[wanted])


@pytest.mark.parametrize(("shape", "dtype", "rows", "shard"), CASES)
def test_it_writes_the_very_bytes_that_zarr_writes(
    tmp_path: Path, shape: tuple[int, ...], dtype: str, rows: int, shard: int | None
) -> None:
    values = some(shape, dtype)
    by_zarr(tmp_path / "zarr", values, rows, shard)
    make(tmp_path / "ours", values, rows, shard)
    write_chunks(tmp_path / "ours" / "x", values)
    zarrs, ours = (
        {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}
        for name in ("zarr", "ours")
    )
    assert zarrs == ours


def test_what_was_read_may_be_changed_and_the_file_stays(tmp_path: Path) -> None:
    values = some((100, 3), "float32")
    array = MappedArray(by_zarr(tmp_path / "g", values, 32))
    array.read()[:] = 1
    array[np.arange(5)][:] = 1
    np.testing.assert_array_equal(array.read(), values)


@pytest.mark.parametrize("rows", [np.array([3, 100]), np.array([-101]), np.array([0.5]), np.array([[1]])])
def test_rows_that_are_not_there_are_refused(tmp_path: Path, rows: Array) -> None:
    array = MappedArray(by_zarr(tmp_path / "g", some((100, 3), "float32"), 32))
    with pytest.raises(IndexError, match="got rows"):
        array[rows]


@pytest.mark.parametrize("shard", [None, 2])
def test_every_flipped_byte_is_found_and_its_chunk_named(tmp_path: Path, shard: int | None) -> None:
    path = by_zarr(tmp_path / "g", some((40, 2), "int16"), 8, shard)
    whole = MappedArray(path).read()
    for file in sorted((path / "c").rglob("*")):
        content = file.read_bytes() if file.is_file() else b""
        for place in range(len(content)):
            file.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
            with pytest.raises(ChunkDamaged, match="chunk|shard"):
                MappedArray(path)
            with pytest.raises(ChunkDamaged):
                read_whole(path)
        if content:
            file.write_bytes(content)
    np.testing.assert_array_equal(MappedArray(path).read(), whole)


@pytest.mark.parametrize("shard", [None, 2])
@pytest.mark.parametrize("cut", [0, 1, 20])
def test_a_file_that_is_cut_or_gone_is_damage(tmp_path: Path, shard: int | None, cut: int) -> None:
    path = by_zarr(tmp_path / "g", some((40, 2), "int16"), 8, shard)
    last = path / "c" / ("2" if shard else "4") / "0"
    last.write_bytes(last.read_bytes()[:cut])
    with pytest.raises(ChunkDamaged):
        MappedArray(path)
    with pytest.raises(ChunkDamaged):
        read_whole(path)
    last.unlink()
    with pytest.raises(ChunkDamaged, match="cannot be read"):
        MappedArray(path)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"compressors": [ZstdCodec(level=1)]}, "the codecs .*zstd"),
        ({"compressors": None}, "the codecs .*expected.*crc32c"),
        ({"serializer": BytesCodec(endian="big")}, "the codecs .*big"),
        ({"chunks": (8, 1)}, "only rows are split"),
        ({"dtype": "complex64"}, "data_type 'complex64'"),
        ({"chunk_key_encoding": {"name": "default", "separator": "."}}, "chunk_key_encoding"),
    ],
)
def test_another_layout_is_refused_and_says_what_is_different(
    tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    path = by_zarr(tmp_path / "g", some((40, 2), "float32"), 8, **changed)
    with pytest.raises(InvalidInput, match=f"{words}.*open it with zarr"):
        MappedArray(path)


@pytest.mark.parametrize("field", ["shape", "codecs", "chunk_grid", "data_type", "chunk_key_encoding"])
def test_metadata_that_lacks_a_field_is_refused(tmp_path: Path, field: str) -> None:
    path = by_zarr(tmp_path / "g", some((40, 2), "float32"), 8)
    document = json.loads((path / "zarr.json").read_text())
    del document[field]
    (path / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(InvalidInput, match=field):
        MappedArray(path)


def test_a_part_gives_rows_and_names_scene_and_chunk_of_a_flipped_bit(tmp_path: Path) -> None:
    store = ZarrStore(tmp_path)
    arrays = embeddings(num_points=30_000, covered=20_000, dimension=256)
    put(store, "ab12", "room-3", arrays)
    part = store.part("ab12")
    assert part is not None
    wanted = np.array([19_999, 0, 7_000, 0])
    np.testing.assert_array_equal(part.rows("embeddings", wanted), arrays["embeddings"][wanted])  # type: ignore[attr-defined]
    file = store.part_path("ab12") / "embeddings" / "c" / "1" / "0"
    content = bytearray(file.read_bytes())
    content[5] ^= 1
    file.write_bytes(content)
    damaged = store.part("ab12")
    with pytest.raises(StoreCorrupt, match=r"room-3.*chunk 1 \(rows 6667 to 13333, file embeddings/c/1/0\)") as caught:
        damaged.rows("embeddings", wanted)  # type: ignore[union-attr]
    assert caught.value.scene == "room-3"

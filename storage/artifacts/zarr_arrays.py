"""Arrays as Zarr v3: chunk sizes, codecs, writing and reading. The only module that knows the zarr library.

zarr is imported where it is used: who only reads manifests and attributes (the service) starts without it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from storage.artifacts.kinds import KINDS, ArrayLayout
from storage.artifacts.store import Array, as_little_endian
from storage.specs.spec import ArtifactKind

MAX_FILES = 24
"""Files of a scene's part at most, zarr.json files and the manifest included."""

CHUNK_ROWS = 8_192
"""Rows of a chunk of a long array."""

SMALL_BYTES = 4 * 2**20
"""An array of up to so many bytes is one chunk."""

FAULTS = (ValueError, TypeError, KeyError, OSError, RuntimeError, NotImplementedError)
"""What zarr raises on damaged metadata or chunks; a failed crc32c is a ValueError."""


def file_budget(kind: ArtifactKind) -> int:
    """Chunk or shard files that one array of this kind may take, so that a part keeps to MAX_FILES.

    Examples:
        >>> file_budget("embeddings")
        6
    """
    arrays = max(1, len(KINDS[kind].arrays))
    return (MAX_FILES - 2 - arrays) // arrays


def grid(shape: tuple[int, ...], itemsize: int, budget: int) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Chunk shape and shard shape (None: not sharded) of an array; only rows are ever split.

    Args:
        shape: the array's shape.
        itemsize: bytes of one value.
        budget: files that it may take.

    Examples:
        >>> grid((30_000, 384), 2, 6)
        ((8192, 384), None)
        >>> grid((560_000, 384), 2, 6)
        ((8192, 384), (98304, 384))
    """
    rest = tuple(max(1, length) for length in shape[1:])
    rows = max(1, shape[0])
    if rows <= CHUNK_ROWS or rows * itemsize * int(np.prod(rest, dtype=np.int64)) <= SMALL_BYTES:
        return (rows, *rest), None
    chunks = -(-rows // CHUNK_ROWS)
    if chunks <= budget:
        return (CHUNK_ROWS, *rest), None
    return (CHUNK_ROWS, *rest), (CHUNK_ROWS * -(-chunks // budget), *rest)


def create_group(path: Path) -> None:
    """Makes an empty Zarr v3 group at `path`."""
    import zarr

    zarr.create_group(path, zarr_format=3)


def close_group(path: Path, names: Iterable[str], attributes: Mapping[str, Any]) -> None:
    """Writes the attributes of the group at `path`, and the metadata of its arrays once more into its zarr.json.

    That copy (zarr's inline consolidated metadata) lets `zarr` list the arrays from one file. Without it, it would list
    the directory and warn of the manifest and the plain files that lie beside them.
    """
    file = path / "zarr.json"
    document = json.loads(file.read_bytes())
    document["attributes"] = dict(attributes)
    metadata = {name: json.loads((path / name / "zarr.json").read_bytes()) for name in sorted(names)}
    document["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": metadata}
    file.write_text(json.dumps(document, indent=2, sort_keys=True), encoding="utf-8")


def read_attributes(path: Path) -> dict[str, Any]:
    """The attributes of the group at `path`, read without the zarr library.

    Raises:
        ValueError: no group lies there.
    """
    document = json.loads((path / "zarr.json").read_bytes())
    if not isinstance(document, dict) or document.get("node_type") != "group":
        raise ValueError("not a Zarr v3 group")
    attributes: dict[str, Any] = document.get("attributes") or {}
    return attributes


def write_array(path: Path, name: str, values: Array, layout: ArrayLayout, budget: int) -> None:
    """Writes one array into the group at `path`: raw little-endian bytes with a crc32c a chunk.

    Embeddings look random: zstd takes about a tenth off and costs most of the time (`benchmarks/store.py`).
    Empty chunks are written too, so that a missing file is always a fault.
    """
    import zarr
    from zarr.codecs import BytesCodec, Crc32cCodec

    chunks, shards = grid(values.shape, values.dtype.itemsize, budget)
    array = zarr.open_group(path, mode="r+", zarr_format=3).create_array(
        name,
        shape=values.shape,
        dtype=np.dtype(layout.dtype),
        chunks=chunks,
        shards=shards,
        serializer=BytesCodec(endian="little"),
        filters=None,
        compressors=[Crc32cCodec()],
        dimension_names=layout.dims,
        attributes={"unit": layout.unit} if layout.unit else {},
        config={"write_empty_chunks": True},
    )
    step = (shards or chunks)[0]
    for start in range(0, len(values) if values.size else 0, step):  # one file at a time: no second copy of the whole
        array[start : start + step] = as_little_endian(values[start : start + step])


def read_array(path: Path, name: str) -> Array:
    """The array `name` of the group at `path`, whole.

    Raises:
        One of FAULTS: the metadata or a chunk is damaged.
    """
    import zarr

    array = zarr.open_array(path / name, mode="r", zarr_format=3)
    if array.shards is None:
        return np.asarray(array[...])
    values = np.empty(array.shape, array.dtype)
    for start in range(0, len(values), array.shards[0]):  # zarr would hold the bytes of every shard beside the values
        values[start : start + array.shards[0]] = array[start : start + array.shards[0]]
    return values


def check_array(path: Path, name: str) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of the array `name` as it lies on disk; every chunk's checksum is read, one shard at a time.

    Raises:
        One of FAULTS: the metadata or a chunk is damaged.
    """
    import zarr

    array = zarr.open_array(path / name, mode="r", zarr_format=3)
    step = (array.shards or array.chunks)[0]
    for start in range(0, array.shape[0] if array.size else 0, step):
        array[start : start + step]
    return tuple(array.shape), np.dtype(array.dtype).name

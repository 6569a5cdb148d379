"""Arrays as Zarr v3: chunk sizes, codecs and metadata. The only module that knows the zarr library.

zarr is imported where it is used: who only reads starts without it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from storage.artifacts.chunk_writer import write_chunks
from storage.artifacts.kinds import KINDS, ArrayLayout
from storage.artifacts.manifests import FileEntry
from storage.artifacts.mapped import MappedArray
from storage.artifacts.store import Array
from storage.specs.spec import ArtifactKind

MAX_FILES = 24
"""Files of a scene's part at most, zarr.json files and the manifest included."""

CHUNK_ROWS = 8_192
"""Rows that a chunk of a long array has about."""

SMALL_BYTES = 4 * 2**20
"""An array is cut into no more chunks than it has pieces of so many bytes."""

_FILES_OF_OTHERS = 2
"""Files of each array of a kind but the first."""

FAULTS = (ValueError, TypeError, KeyError, OSError, RuntimeError, NotImplementedError)
"""What damaged metadata or chunks raise; a failed crc32c is a ValueError."""


def file_budget(kind: ArtifactKind, name: str) -> int:
    """Chunk or shard files that an array of this kind may take, so that a part keeps to MAX_FILES.

    The first array of a kind, its largest, takes what the others leave.

    Examples:
        >>> file_budget("embeddings", "embeddings"), file_budget("embeddings", "views")
        (12, 2)
    """
    first, *others = KINDS[kind].arrays
    return _FILES_OF_OTHERS if name != first else MAX_FILES - 2 - 1 - len(others) * (1 + _FILES_OF_OTHERS)


def grid(shape: tuple[int, ...], itemsize: int, budget: int) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Chunk shape and shard shape (None: not sharded) of an array; only rows are ever split, into equal chunks.

    A chunk has about CHUNK_ROWS rows, more where these are small. Where that makes more files than the budget, chunks
    grow to at most twice as many rows, and beyond that, several lie in one shard: zarr reads shards at half the rate.

    Args:
        shape: the array's shape.
        itemsize: bytes of one value.
        budget: files that it may take.

    Examples:
        >>> grid((30_000, 384), 2, 12)
        ((7500, 384), None)
        >>> grid((150_000, 768), 2, 12)
        ((12500, 768), None)
        >>> grid((560_000, 768), 2, 12)
        ((8116, 768), (48696, 768))
    """
    rest = tuple(max(1, length) for length in shape[1:])
    rows = max(1, shape[0])
    row_bytes = itemsize * int(np.prod(rest, dtype=np.int64))
    chunks = min(-(-rows // CHUNK_ROWS), -(-rows * row_bytes // SMALL_BYTES))
    if budget < chunks <= 2 * budget:
        chunks = budget
    chunk_rows = -(-rows // chunks)
    if chunks <= budget:
        return (chunk_rows, *rest), None
    return (chunk_rows, *rest), (chunk_rows * -(-chunks // budget), *rest)


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
        ValueError: no group lies there, or its attributes are no object.
    """
    document = json.loads((path / "zarr.json").read_bytes())
    if not isinstance(document, dict) or document.get("node_type") != "group":
        raise ValueError("not a Zarr v3 group")
    attributes = document.get("attributes") or {}
    if not isinstance(attributes, dict):
        raise ValueError("its attributes are no object")
    return attributes


def write_array(path: Path, name: str, values: Array, layout: ArrayLayout, budget: int) -> dict[str, FileEntry]:
    """Writes one array into the group at `path`: raw little-endian bytes with a crc32c a chunk.

    The zarr library writes its zarr.json, `chunk_writer` its chunks. Embeddings look random: compression takes a tenth
    off and costs most of the time (docs/decisions/0013). Empty chunks are written too, so that a missing file is always
    a fault.

    Returns:
        Path relative to the group -> digest and size of each file with chunks.
    """
    import zarr
    from zarr.codecs import BytesCodec, Crc32cCodec

    chunks, shards = grid(values.shape, values.dtype.itemsize, budget)
    zarr.open_group(path, mode="r+", zarr_format=3).create_array(
        name,
        shape=values.shape,
        dtype=values.dtype.newbyteorder("<"),
        chunks=chunks,
        shards=shards,
        serializer=BytesCodec(endian="little"),
        filters=None,
        compressors=[Crc32cCodec()],
        dimension_names=layout.dims,
        attributes={"unit": layout.unit} if layout.unit else {},
    )
    return {f"{name}/{file}": entry for file, entry in write_chunks(path / name, values).items()}


def check_array(path: Path, name: str) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of the array `name` as it lies on disk; every chunk's checksum is read.

    Raises:
        One of FAULTS: the metadata or a chunk is damaged.
    """
    array = MappedArray(path / name)
    return array.shape, array.dtype.name

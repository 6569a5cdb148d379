"""What an array's zarr.json says, read without the zarr library; anything but the store's own layout is refused.

The layout is that of docs/format.md. Knows one file of metadata, and no values.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from storage.errors import InvalidInput

CHECKSUM_BYTES = 4
"""A crc32c, little endian, behind the bytes of a chunk or of a shard's index."""

INDEX_ENTRY_BYTES = 16
"""Offset and length of one chunk in a shard's index, each a little-endian u64."""

DTYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")

_RAW: list[dict[str, Any]] = [
    {"name": "bytes", "configuration": {"endian": "little"}},
    {"name": "crc32c"},
]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the values of an array lie."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    chunk_rows: int
    """Rows of a chunk; the last one is padded to as many."""
    chunks_a_shard: int | None
    """None where each chunk is a file of its own."""

    @property
    def num_values(self) -> int:
        """Values of the whole array."""
        return prod(self.shape)

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk's values, padding included and checksum left out."""
        return self.chunk_rows * prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def file_rows(self) -> int:
        """Rows of one file."""
        return self.chunk_rows * (self.chunks_a_shard or 1)

    @property
    def num_files(self) -> int:
        """Files that hold its chunks; none where it has no values."""
        return -(-self.shape[0] // self.file_rows) if self.num_values else 0

    def file_bytes(self, rows: int) -> int:
        """Bytes of a file that holds so many rows, one at least: whole chunks, their checksums, a shard's index."""
        chunks = -(-rows // self.chunk_rows) * (self.chunk_bytes + CHECKSUM_BYTES)
        if self.chunks_a_shard is None:
            return chunks
        return chunks + self.chunks_a_shard * INDEX_ENTRY_BYTES + CHECKSUM_BYTES

    def file(self, path: Path, number: int) -> Path:
        """The file of that number, by ascending rows, of the array at `path`."""
        return path.joinpath("c", str(number), *["0"] * (len(self.shape) - 1))


def read_layout(path: Path) -> Layout:
    """The layout of the array that lies at `path`.

    Raises:
        InvalidInput: it is another than the store's; says what is different.
        OSError, ValueError: zarr.json cannot be read, or is not JSON.
    """
    document = json.loads((path / "zarr.json").read_bytes())
    try:
        return _layout(document)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise _other(path.name, f"its zarr.json lacks {error!r}") from error
    except _NotOurs as error:
        raise _other(path.name, str(error)) from error


class _NotOurs(Exception):
    """What is different from the store's layout."""


def _layout(document: dict[str, Any]) -> Layout:
    shape, dtype = tuple(document["shape"]), document["data_type"]
    _expect("node_type", document["node_type"], "array")
    _expect("zarr_format", document["zarr_format"], 3)
    _expect("chunk_grid", document["chunk_grid"]["name"], "regular")
    _expect("chunk_key_encoding", _encoding(document["chunk_key_encoding"]), ("default", "/"))
    _expect("storage_transformers", document.get("storage_transformers") or [], [])
    if dtype not in DTYPES:
        raise _NotOurs(f"the data_type {dtype!r}, expected one of {', '.join(DTYPES)}")
    if not shape or not all(isinstance(length, int) and length >= 0 for length in shape):
        raise _NotOurs(f"the shape {document['shape']!r}, expected one length or more")
    outer = tuple(document["chunk_grid"]["configuration"]["chunk_shape"])
    inner = _inner_chunk(document["codecs"], outer)
    for chunk in (outer, inner):
        if len(chunk) != len(shape) or chunk[0] < 1 or chunk[1:] != tuple(max(1, length) for length in shape[1:]):
            raise _NotOurs(f"chunks of the shape {chunk} of an array of the shape {shape}; only rows are split")
    if outer[0] % inner[0]:
        raise _NotOurs(f"shards of {outer[0]} rows of chunks of {inner[0]} rows")
    sharded = document["codecs"][0]["name"] == "sharding_indexed"
    return Layout(shape, np.dtype(dtype).newbyteorder("<"), inner[0], outer[0] // inner[0] if sharded else None)


def _inner_chunk(codecs: list[dict[str, Any]], outer: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a chunk: the grid's own, or that within a shard."""
    if codecs[0]["name"] != "sharding_indexed":
        _expect("codecs", _plain(codecs), _RAW)
        return outer
    _expect("codecs", len(codecs), 1)
    sharding = codecs[0]["configuration"]
    _expect("codecs of a shard", _plain(sharding["codecs"]), _RAW)
    _expect("codecs of a shard's index", _plain(sharding["index_codecs"]), _RAW)
    _expect("index_location", sharding.get("index_location", "end"), "end")
    return tuple(sharding["chunk_shape"])


def _plain(codecs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Codecs without configurations that say nothing; one byte has no order, so that zarr leaves it out."""
    said = [{name: value for name, value in codec.items() if value not in ({}, None)} for codec in codecs]
    return [dict(_RAW[0]) if codec == {"name": "bytes"} else codec for codec in said]


def _encoding(encoding: dict[str, Any]) -> tuple[str, str]:
    return encoding["name"], encoding.get("configuration", {}).get("separator", "/")


def _expect(what: str, got: object, expected: object) -> None:
    if got != expected:
        raise _NotOurs(f"the {what} {json.dumps(got)}, expected {json.dumps(expected)}")


def _other(name: str, difference: str) -> InvalidInput:
    return InvalidInput(
        f"the array {name!r} is not of the store's own layout (docs/format.md): got {difference}; open it with zarr"
    )

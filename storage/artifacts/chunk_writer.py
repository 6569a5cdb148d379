"""Writes the chunks of an array whose zarr.json lies there already: values are looked at, hashed, written in one pass.

The bytes are those that zarr itself would write; it takes several times as long (docs/decisions/0013). Knows one
array's directory. File data is not synced to the disk.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import blake3
import numpy as np
from numpy.typing import NDArray

from storage.artifacts.array_metadata import CHECKSUM_BYTES, Layout, read_layout
from storage.artifacts.chunk_files import ABSENT, checksum
from storage.artifacts.finite import NotFinite, first_not_finite
from storage.artifacts.manifests import FileEntry
from storage.artifacts.store import Array, as_little_endian
from storage.artifacts.threads import in_threads

_BLOCK_BYTES = 2**18
"""Bytes that are hashed and written at a time, while they are in the processor's cache."""


def write_chunks(path: Path, values: Array) -> dict[str, FileEntry]:
    """Writes every chunk of the array at `path`, a few files at a time: no second copy of the whole.

    Args:
        path: the array's directory, with its zarr.json.
        values: what that describes, of any byte order and strides.

    Returns:
        Path relative to the array's directory -> BLAKE3 and size of the file.

    Raises:
        InvalidInput: zarr.json describes another layout than the store's.
        ValueError: `values` have another shape or dtype than it says.
        NotFinite: a value is a NaN or an infinity; some files may be written.
        OSError: the disk takes no more.
    """
    layout = read_layout(path)
    if values.shape != layout.shape or values.dtype.newbyteorder("<") != layout.dtype:
        raise ValueError(f"got values {values.dtype} {values.shape}, {path.name} is {layout.dtype} {layout.shape}")
    rows = [values[i : i + layout.file_rows] for i in range(0, len(values), layout.file_rows)]
    files = [layout.file(path, number) for number in range(len(rows) if layout.num_values else 0)]
    entries = in_threads(
        lambda number: _write_file(files[number], rows[number], layout, number * layout.file_rows),
        range(len(files)),
        values.nbytes,
    )
    return {file.relative_to(path).as_posix(): entry for file, entry in zip(files, entries, strict=True)}


def _write_file(file: Path, values: Array, layout: Layout, first_row: int) -> FileEntry:
    """Writes one file, which holds these rows of the array."""
    file.parent.mkdir(parents=True, exist_ok=True)
    hasher, size = blake3.blake3(), 0
    with file.open("wb", buffering=0) as stream:
        _reserve(stream.fileno(), layout.file_bytes(len(values)))
        for piece in _pieces(values, layout, first_row):
            hasher.update(piece)
            _write(stream.fileno(), piece)
            size += len(piece)
    return FileEntry(hasher.hexdigest(), size)


def _reserve(descriptor: int, num_bytes: int) -> None:
    """Has the disk's room ready: pages are entered a third faster then, and a full disk says so at once."""
    try:
        os.posix_fallocate(descriptor, 0, num_bytes)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise  # others: a file system that cannot


def _pieces(values: Array, layout: Layout, first_row: int) -> Iterator[memoryview]:
    """The bytes of one file that holds these rows: chunks, each with its checksum, and a shard's index."""
    index = np.full((layout.chunks_a_shard or 0, 2), ABSENT, "<u8")
    length = layout.chunk_bytes + CHECKSUM_BYTES
    for number, start in enumerate(range(0, len(values), layout.chunk_rows)):
        flat = as_little_endian(values[start : start + layout.chunk_rows]).reshape(-1).view(np.uint8)
        padding = np.zeros(layout.chunk_bytes - flat.nbytes, np.uint8)
        yield from _summed(_checked(flat, layout, first_row + start), _blocks(padding))
        if len(index):
            index[number] = number * length, length
    if len(index):
        yield from _summed(_blocks(index.reshape(-1).view(np.uint8)))


def _blocks(content: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Bytes in small blocks."""
    for start in range(0, len(content), _BLOCK_BYTES):
        yield content[start : start + _BLOCK_BYTES]


def _checked(content: NDArray[np.uint8], layout: Layout, first_row: int) -> Iterator[NDArray[np.uint8]]:
    """The bytes of some rows in small blocks, their values looked at.

    Raises:
        NotFinite: one is not; says in which row of the array.
    """
    row_bytes = layout.chunk_bytes // layout.chunk_rows
    for number, block in enumerate(_blocks(content)):
        found = first_not_finite(block.view(layout.dtype))
        if found is not None:
            at = number * _BLOCK_BYTES + found * layout.dtype.itemsize
            raise NotFinite(first_row + at // row_bytes)
        yield block


def _summed(*parts: Iterable[NDArray[np.uint8]]) -> Iterator[memoryview]:
    """Blocks of bytes, and their checksum after them."""
    value = 0
    for part in parts:
        for block in part:
            value = checksum(block, value)
            yield block.data
    yield memoryview(value.to_bytes(CHECKSUM_BYTES, "little"))


def _write(descriptor: int, piece: memoryview) -> None:
    """Writes all of it: on a full disk, the system takes a part before it fails."""
    while piece:
        piece = piece[os.write(descriptor, piece) :]

"""One file of an array in the store's own layout: where its chunks lie, and which of them are not what was written.

The layout (docs/format.md): raw little-endian values with a crc32c a chunk, only rows split, a chunk a file or several
in a shard with an index at its end. Knows one array's directory; values are `mapped`'s matter.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import google_crc32c
import numpy as np

from storage.artifacts.array_metadata import CHECKSUM_BYTES, INDEX_ENTRY_BYTES, Layout
from storage.artifacts.store import Array

ABSENT = 2**64 - 1
"""Offset and length, in a shard's index, of a chunk that was never written."""

_MOST_NAMED = 4
"""Chunks of one file that a sentence names; of more it says how many."""


class ChunkDamaged(ValueError):
    """A chunk or a shard's index is not what was written."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Where one chunk lies, its checksum left out."""

    file: Path
    offset: int
    number: int
    """Its number in the array, by ascending rows."""
    first_row: int
    num_rows: int
    """Rows of the array that it holds; the last chunk is padded beyond them."""

    def named(self, path: Path) -> str:
        """Number, rows and file, for messages about the array at `path`."""
        return f"chunk {self.number} (rows {self._rows}, file {self.file.relative_to(path.parent)})"

    def __str__(self) -> str:
        return f"{self.number} (rows {self._rows})"

    @property
    def _rows(self) -> str:
        return f"{self.first_row} to {self.first_row + self.num_rows - 1}"


def chunks_of(path: Path, layout: Layout, number: int) -> list[Chunk]:
    """The chunks of one file, in the order of their rows; its size and its index, where it has one, are checked.

    Args:
        path: the array's directory.
        layout: what its zarr.json says.
        number: the file's number, below `layout.num_files`.

    Raises:
        ChunkDamaged: the file is missing or of another size, or its index is damaged.
    """
    file = layout.file(path, number)
    try:
        size = file.stat().st_size
    except OSError as error:
        raise ChunkDamaged(f"the file {file.relative_to(path.parent)} cannot be read: {error.strerror}") from error
    if layout.chunks_a_shard is not None:
        return _placed(file, layout, number, _read_index(path, file, size, layout, number))
    (chunk,) = _placed(file, layout, number, [0])
    end = layout.chunk_bytes + CHECKSUM_BYTES
    if end != size:
        raise ChunkDamaged(f"{chunk.named(path)} should end at byte {end}, the file has {size} bytes")
    return [chunk]


def agrees(content: mmap.mmap, chunk: Chunk, layout: Layout) -> bool:
    """Whether a chunk has the crc32c that lies behind it; `content` is the file's."""
    end = chunk.offset + layout.chunk_bytes
    expected = content[end : end + CHECKSUM_BYTES]
    values = np.frombuffer(content, np.uint8, layout.chunk_bytes, chunk.offset)
    return checksum(values) == int.from_bytes(expected, "little")


def damage(path: Path, layout: Layout, number: int) -> str:
    """What of a file is not as it was written, in words: its index, or chunks by number and rows; reads all of it.

    Where the index is damaged, chunks are looked for where `chunk_writer` puts them, in the order of their rows.

    Args:
        path: the array's directory; only this file of it is looked at.
        layout: what its zarr.json said when it was published.
        number: the file's number.
    """
    index = ""
    try:
        chunks = chunks_of(path, layout, number)
    except ChunkDamaged as error:
        chunks, index = _in_order(layout.file(path, number), layout, number), f"{error}"
        if not chunks:
            return index
    content = map_file(layout.file(path, number))
    wrong = [chunk for chunk in chunks if not agrees(content, chunk, layout)]
    if len(wrong) == 1:
        found = f"the checksum of its chunk {wrong[0]} is wrong"
    elif wrong:
        found = f"the checksums of its chunks {_listed(wrong)} are wrong"
    else:
        found = "every chunk agrees with its checksum"
    return f"{index}, {found}" if index else found


def checksum(values: Array, before: int = 0) -> int:
    """The crc32c of contiguous values' bytes.

    Args:
        values: hashed where they lie, without a copy.
        before: the checksum of what comes before them.

    Examples:
        >>> hex(checksum(np.frombuffer(b"123456789", np.uint8)))
        '0xe3069283'
    """
    flat = values.reshape(-1)
    return int(google_crc32c.extend(before, cast(bytes, flat))) if flat.nbytes else before


def map_file(file: Path) -> mmap.mmap:
    """A file's bytes, which cannot be written; it must have some."""
    with file.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)


def _placed(file: Path, layout: Layout, number: int, offsets: Sequence[int]) -> list[Chunk]:
    """The chunks of a file that begin there."""
    first = number * (layout.chunks_a_shard or 1)
    rows = range(first * layout.chunk_rows, layout.shape[0], layout.chunk_rows)
    return [
        Chunk(file, offset, first + inner, row, min(layout.chunk_rows, layout.shape[0] - row))
        for inner, (offset, row) in enumerate(zip(offsets, rows, strict=False))
    ]


def _present(layout: Layout, number: int) -> int:
    """Chunks that a shard holds: the last one may have fewer than its index has room for."""
    return -(-min(layout.file_rows, layout.shape[0] - number * layout.file_rows) // layout.chunk_rows)


def _in_order(file: Path, layout: Layout, number: int) -> list[Chunk]:
    """Where the chunks of a shard lie that was written by `chunk_writer`; none where it is of another size."""
    present, length = _present(layout, number), layout.chunk_bytes + CHECKSUM_BYTES
    index = (layout.chunks_a_shard or 0) * INDEX_ENTRY_BYTES + CHECKSUM_BYTES
    if layout.chunks_a_shard is None or not file.exists() or file.stat().st_size != present * length + index:
        return []
    return _placed(file, layout, number, range(0, present * length, length))


def _read_index(path: Path, file: Path, size: int, layout: Layout, number: int) -> list[int]:
    """Where each chunk of a shard begins, from the index at its end."""
    assert layout.chunks_a_shard is not None
    name = file.relative_to(path.parent)
    length = layout.chunks_a_shard * INDEX_ENTRY_BYTES
    start = size - length - CHECKSUM_BYTES
    if start < 0:
        raise ChunkDamaged(f"the shard {name} has {size} bytes, its index alone has {length + CHECKSUM_BYTES}")
    with file.open("rb") as stream:
        stream.seek(start)
        raw = stream.read()
    index = np.frombuffer(raw, "<u8", layout.chunks_a_shard * 2).reshape(-1, 2)
    if checksum(index) != int.from_bytes(raw[length:], "little"):
        raise ChunkDamaged(f"the checksum of the index of the shard {name} is wrong")
    present = index[: _present(layout, number)]
    for inner, (offset, stored) in enumerate(present.tolist()):
        if offset == ABSENT or stored != layout.chunk_bytes + CHECKSUM_BYTES or offset + stored > start:
            raise ChunkDamaged(
                f"the index of the shard {name} says of its chunk {inner}: {stored} bytes from byte {offset}; expected "
                f"{layout.chunk_bytes + CHECKSUM_BYTES} bytes before the index at byte {start}"
            )
    return [int(offset) for offset in present[:, 0]]


def _listed(chunks: Sequence[Chunk]) -> str:
    """Some chunks by number and rows; of many the first ones and how many more there are."""
    named = [str(chunk) for chunk in chunks[:_MOST_NAMED]]
    if len(chunks) > _MOST_NAMED:
        return f"{', '.join(named)} and {len(chunks) - _MOST_NAMED} more"
    return " and ".join(filter(None, [", ".join(named[:-1]), named[-1]]))

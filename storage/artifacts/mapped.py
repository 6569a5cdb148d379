"""Arrays of the store's own layout, memory-mapped and read without the zarr library.

The layout (docs/format.md): raw little-endian values with a crc32c a chunk, only rows split, chunks in files of their
own or in shards with an index at the end. Knows one array's directory; scenes and parts are `zarr_reader`'s matter.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from storage.artifacts.array_metadata import CHECKSUM_BYTES, INDEX_ENTRY_BYTES, Layout, read_layout
from storage.artifacts.store import Array, Rows

ABSENT = 2**64 - 1
"""Offset and length, in a shard's index, of a chunk that was never written."""


class ChunkDamaged(ValueError):
    """A chunk or a shard's index is not what was written."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Where one chunk lies, its checksum left out."""

    file: Path
    offset: int
    first_row: int
    num_rows: int
    """Rows of the array that it holds; the last chunk is padded beyond them."""


class MappedArray:
    """One array, open for reading as long as it is kept; every chunk's checksum is read once, when it is opened.

    What it gives are copies: nobody holds the files by what they read. Readers may be threads, and processes forked
    from the one that opened it. It takes no memory but the map, whose pages the system may drop at any moment.
    """

    def __init__(self, path: Path, *, check: bool = True) -> None:
        """Opens the array that lies at `path`.

        Args:
            path: the array's directory, with its zarr.json.
            check: whether to read every chunk's checksum; False where this process did before.

        Raises:
            InvalidInput: another layout than the store's; says what is different.
            ChunkDamaged: a file is missing or of another size, or a checksum is wrong; names chunk, rows and file.
        """
        self._layout = read_layout(path)
        self._path = path
        self._chunks = tuple(_find_chunks(path, self._layout))
        maps: dict[Path, mmap.mmap] = {}
        for chunk in self._chunks:
            if chunk.file not in maps:
                maps[chunk.file] = _map(chunk.file)
        self._maps = tuple(maps[chunk.file] for chunk in self._chunks)
        self._views = tuple(self._view(number) for number in range(len(self._chunks)))
        if check:
            for number in range(len(self._chunks)):
                self._check(number)

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self._layout.shape

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Its dtype, little endian."""
        return self._layout.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def read(self) -> Array:
        """The whole array."""
        return self[:]

    def verified(self) -> Array:
        """The whole array, each chunk's checksum read before it is copied.

        Raises:
            ChunkDamaged: a checksum is wrong.
        """
        out = np.empty(self.shape, self.dtype)
        for number, (chunk, view) in enumerate(zip(self._chunks, self._views, strict=True)):
            self._check(number)
            out[chunk.first_row : chunk.first_row + chunk.num_rows] = view[: chunk.num_rows]
        return out

    def __getitem__(self, rows: Rows) -> Array:
        """Some rows, in the order asked for: a slice with any step, or an array of row numbers, negative from the end.

        Raises:
            IndexError: a row that the array does not have.
        """
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            return self._span(start, stop) if step == 1 else self._gather(np.arange(start, stop, step))
        wanted = np.asarray(rows)
        if wanted.dtype.kind not in "iu" or wanted.ndim != 1:
            raise IndexError(f"got rows as {wanted.dtype} of shape {wanted.shape}; expected whole numbers in one dim")
        return self._gather(wanted)

    def _span(self, start: int, stop: int) -> Array:
        """Rows one after the other."""
        out = np.empty((max(0, stop - start), *self.shape[1:]), self.dtype)
        for chunk, view in zip(self._chunks, self._views, strict=True):
            low, high = max(start, chunk.first_row), min(stop, chunk.first_row + chunk.num_rows)
            if low < high:
                out[low - start : high - start] = view[low - chunk.first_row : high - chunk.first_row]
        return out

    def _gather(self, wanted: NDArray[np.integer]) -> Array:
        """Rows in any order, those of one chunk together."""
        rows = wanted.astype(np.int64, copy=False)
        if len(rows) and (rows.min() < -len(self) or rows.max() >= len(self)):
            raise IndexError(f"got rows from {rows.min()} to {rows.max()} of an array of {len(self)} rows")
        rows = np.where(rows < 0, rows + len(self), rows)
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        ascending = bool((np.diff(rows) >= 0).all())
        order = None if ascending else np.argsort(rows // self._layout.chunk_rows, kind="stable")
        grouped = rows if order is None else rows[order]
        bounds = np.searchsorted(grouped // self._layout.chunk_rows, np.arange(len(self._chunks) + 1))
        for chunk, view, low, high in zip(self._chunks, self._views, bounds[:-1], bounds[1:], strict=True):
            if low == high:
                continue
            within = grouped[low:high] - chunk.first_row
            if order is None:  # straight into its place: a third of the time
                np.take(view, within, axis=0, out=out[low:high], mode="clip")
            else:
                out[order[low:high]] = view[within]
        return out

    def _view(self, number: int) -> Array:
        """A chunk's values in the map, padding included; they cannot be written."""
        layout = self._layout
        count = layout.chunk_bytes // layout.dtype.itemsize
        flat = np.frombuffer(self._maps[number], layout.dtype, count, self._chunks[number].offset)
        return flat.reshape(layout.chunk_rows, *layout.shape[1:])

    def _check(self, number: int) -> None:
        """Raises ChunkDamaged where a chunk's checksum is wrong."""
        end = self._chunks[number].offset + self._layout.chunk_bytes
        expected = self._maps[number][end : end + CHECKSUM_BYTES]
        if checksum(self._views[number]) != int.from_bytes(expected, "little"):
            where = _where(self._path, number, self._chunks[number])
            raise ChunkDamaged(f"the checksum of {where} is wrong")


def read_whole(path: Path) -> Array:
    """The array that lies at `path`; every chunk's checksum is verified on the way, while the chunk is in the cache.

    Raises:
        As `MappedArray`.
    """
    return MappedArray(path, check=False).verified()


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


def _find_chunks(path: Path, layout: Layout) -> Iterator[_Chunk]:
    """The chunks in the order of their rows; sizes and shard indices are checked."""
    rows = layout.shape[0]
    for shard, start in enumerate(range(0, rows if layout.num_values else 0, layout.file_rows)):
        file = layout.file(path, shard)
        try:
            size = file.stat().st_size
        except OSError as error:
            raise ChunkDamaged(f"the file {file.relative_to(path.parent)} cannot be read: {error.strerror}") from error
        present = -(-min(layout.file_rows, rows - start) // layout.chunk_rows)
        offsets = [0] if layout.chunks_a_shard is None else _read_index(file, size, layout, present)
        for inner, offset in enumerate(offsets):
            first = start + inner * layout.chunk_rows
            chunk = _Chunk(file, offset, first, min(layout.chunk_rows, rows - first))
            end = offset + layout.chunk_bytes + CHECKSUM_BYTES
            if end > size or (layout.chunks_a_shard is None and end != size):
                where = _where(path, first // layout.chunk_rows, chunk)
                raise ChunkDamaged(f"{where} should end at byte {end}, the file has {size} bytes")
            yield chunk


def _read_index(file: Path, size: int, layout: Layout, present: int) -> list[int]:
    """Where each of the first `present` chunks of a shard begins, from the index at its end."""
    assert layout.chunks_a_shard is not None
    name = file.name
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
    for inner, (offset, stored) in enumerate(index[:present].tolist()):
        if offset == ABSENT or stored != layout.chunk_bytes + CHECKSUM_BYTES or offset + stored > start:
            raise ChunkDamaged(
                f"the index of the shard {name} says of its chunk {inner}: {stored} bytes from byte {offset}; expected "
                f"{layout.chunk_bytes + CHECKSUM_BYTES} bytes before the index at byte {start}"
            )
    return [int(offset) for offset in index[:present, 0]]


def _map(file: Path) -> mmap.mmap:
    with file.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)


def _where(path: Path, number: int, chunk: _Chunk) -> str:
    last = chunk.first_row + chunk.num_rows - 1
    return f"chunk {number} (rows {chunk.first_row} to {last}, file {chunk.file.relative_to(path.parent)})"

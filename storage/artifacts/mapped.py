"""Arrays of the store's own layout, memory-mapped and read without the zarr library.

Where the chunks of a file lie is `chunk_files`' matter, scenes and parts are `zarr_reader`'s. Knows one array's
directory.
"""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.artifacts.array_metadata import read_layout
from storage.artifacts.chunk_files import Chunk, ChunkDamaged, agrees, chunks_of, map_file
from storage.artifacts.store import Array, Rows


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
        chunks: list[Chunk] = []
        maps: list[mmap.mmap] = []
        for number in range(self._layout.num_files):
            found = chunks_of(path, self._layout, number)
            chunks += found
            maps += [map_file(found[0].file)] * len(found)
        self._path, self._chunks, self._maps = path, tuple(chunks), tuple(maps)
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
        chunk = self._chunks[number]
        if not agrees(self._maps[number], chunk, self._layout):
            raise ChunkDamaged(f"the checksum of {chunk.named(self._path)} is wrong")

"""A part of a store elsewhere, of which only what is asked for is brought here: metadata whole, of arrays some rows.

What comes lies in a folder of this part's own, in files that are as long as they are there and empty but for what was
brought, so that it is read as every part is. Files that come whole are held against their digests; rows that come alone
are under no checksum. Knows bytes by file, beginning and length, and no network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.artifacts import zarr_arrays
from storage.artifacts.array_metadata import CHECKSUM_BYTES, INDEX_ENTRY_BYTES, Layout, read_layout
from storage.artifacts.chunk_files import Chunk, chunks_of
from storage.artifacts.manifests import PartManifest
from storage.artifacts.part_files import digest_file
from storage.artifacts.store import Array, Attributes, Rows
from storage.artifacts.zarr_reader import ZarrPartReader
from storage.errors import StoreCorrupt

Bring = Callable[[str, int, int], bytes]
"""A file of the part, its first byte, how many bytes -> exactly these; raises where they cannot be had."""

GAP_BYTES = 16 * 1024
"""Bytes that are brought in vain, at most, to bring two pieces at once."""
PIECE_BYTES = 16 * 2**20
"""Bytes that are brought at once, at most."""
_GROUP = "zarr.json"


class SampledReader(ZarrPartReader):
    """A part of a store elsewhere (`PartReader`). Its plain files cannot be read."""

    def __init__(self, path: Path, manifest: PartManifest, url: str, bring: Bring) -> None:
        """Brings nothing yet.

        Args:
            path: an empty folder, in which what comes is kept as long as the reader is used.
            manifest: of the part, as `copies.part_manifest` has checked it.
            url: where the store lies, for messages.
            bring: gives its bytes.
        """
        super().__init__(path, manifest)
        self._url = url
        self._bring = bring
        self._whole_files: set[str] = set()

    @property
    def attributes(self) -> Attributes:
        """Its attributes; errors as `array`."""
        self._bring_file(_GROUP)
        return super().attributes

    def array(self, name: str) -> Array:
        """One array, all of it brought.

        Raises:
            NotFound: the part has no such array.
            StoreCorrupt: what comes is not what the manifest says.
        """
        for stored in self.stored_as(name):
            for file in self._manifest.files:
                if file.startswith(f"{stored}/"):
                    self._bring_file(file)
        return super().array(name)

    def rows(self, name: str, rows: Rows) -> Array:
        """Some rows of an array, in the order asked for; they alone are brought, with what lies close between them.

        Raises:
            IndexError: a row that the array does not have.
            NotFound, StoreCorrupt: as `array`.
        """
        for stored in self.stored_as(name):
            if stored in self._manifest.arrays:
                try:
                    self._bring_rows(stored, rows)
                except zarr_arrays.FAULTS as error:
                    raise self._corrupt(stored, str(error)) from error
                self.mapped(stored, check=False)
        return super().rows(name, rows)

    def _bring_rows(self, name: str, rows: Rows) -> None:
        """Brings some rows of an array as it is stored, and of each file what says where its rows lie.

        Raises:
            One of FAULTS: its metadata is damaged, or another than the manifest's.
        """
        self._bring_file(f"{name}/{_GROUP}")
        layout = read_layout(self._path / name)
        self._check_entry(name, layout.shape, layout.dtype.name)
        wanted = _numbers(rows, layout.shape[0])
        row_bytes = layout.chunk_bytes // layout.chunk_rows
        for number in range(layout.num_files):
            for chunk in self._chunks(name, layout, number):
                for first, count in _spans(wanted, chunk, row_bytes):
                    offset = chunk.offset + (first - chunk.first_row) * row_bytes
                    self._bring_piece(_name_of(layout, name, number), offset, count * row_bytes)

    def _chunks(self, name: str, layout: Layout, number: int) -> list[Chunk]:
        """Where the chunks of one file lie; of a shard, its index is brought for that."""
        file = _name_of(layout, name, number)
        if file not in self._manifest.files:
            raise ValueError(f"its manifest does not list the file {file}")
        size = self._manifest.files[file].num_bytes
        if not (self._path / file).exists():
            self._make_empty(file, size)
            if layout.chunks_a_shard is not None:
                index = layout.chunks_a_shard * INDEX_ENTRY_BYTES + CHECKSUM_BYTES
                self._bring_piece(file, max(0, size - index), min(size, index))
        return chunks_of(self._path / name, layout, number)

    def _bring_file(self, file: str) -> None:
        """Brings a file whole, unless it is here; held against its digest."""
        if file in self._whole_files or file not in self._manifest.files:
            return
        expected = self._manifest.files[file]
        if not (self._path / file).exists():
            self._make_empty(file, expected.num_bytes)
        for start in range(0, expected.num_bytes, PIECE_BYTES):
            self._bring_piece(file, start, min(PIECE_BYTES, expected.num_bytes - start))
        if digest_file(self._path / file) != expected.blake3:
            raise self._corrupt(file, "it came with another BLAKE3 than its manifest says")
        self._whole_files.add(file)

    def _make_empty(self, file: str, size: int) -> None:
        """Makes a file of that size which takes no room."""
        path = self._path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            try:
                stream.truncate(size)
            except OSError as error:
                raise self._corrupt(file, f"this machine cannot hold a file of {size} bytes ({error})") from error

    def _bring_piece(self, file: str, start: int, count: int) -> None:
        content = self._bring(file, start, count)
        assert len(content) == count, "whoever brings it says where it cannot"
        with (self._path / file).open("r+b") as stream:
            stream.seek(start)
            stream.write(content)

    def _corrupt(self, file: str, fault: str) -> StoreCorrupt:
        scene = self.scene or "none"
        return StoreCorrupt(
            f"{file} of the part {self.key} (scene {scene}) at {self._url} cannot be used: {fault}; whoever runs that"
            " store finds more with `vlglab features verify`",
            scene=self.scene or None,
        )


def _name_of(layout: Layout, name: str, number: int) -> str:
    """A file of an array, as the manifest names it."""
    return layout.file(Path(name), number).as_posix()


def _numbers(rows: Rows, length: int) -> NDArray[np.int64]:
    """The numbers of some rows, ascending and each once; those that the array does not have are left out."""
    numbers = np.arange(length)[rows] if isinstance(rows, slice) else np.asarray(rows, np.int64)
    numbers = np.unique(np.where(numbers < 0, numbers + length, numbers))
    return numbers[(numbers >= 0) & (numbers < length)]


def _spans(wanted: NDArray[np.int64], chunk: Chunk, row_bytes: int) -> Iterator[tuple[int, int]]:
    """First row and number of rows of each piece of a chunk that holds wanted rows."""
    low, high = np.searchsorted(wanted, (chunk.first_row, chunk.first_row + chunk.num_rows))
    within = wanted[low:high]
    if not len(within):
        return
    far = np.flatnonzero(np.diff(within) * row_bytes > GAP_BYTES + row_bytes) + 1
    most = max(1, PIECE_BYTES // max(1, row_bytes))
    for piece in np.split(within, far):
        first, end = int(piece[0]), int(piece[-1]) + 1
        for start in range(first, end, most):
            yield start, min(most, end - start)

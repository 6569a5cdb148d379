"""One published part, open for reading. Opening it reads one small file; nothing is hashed and zarr is not imported.

Knows one directory; where it lies is `zarr_store`'s matter.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from storage.artifacts import scaled, zarr_arrays
from storage.artifacts.kinds import KINDS
from storage.artifacts.manifests import RECOMPUTE, PartManifest
from storage.artifacts.mapped import MappedArray
from storage.artifacts.part_files import FILES, read_manifest
from storage.artifacts.store import Array, Attributes, PartReader, Rows
from storage.artifacts.whole import read_whole
from storage.errors import NotFound, StoreCorrupt


class ZarrPartReader:
    """A published part (`PartReader`). Opening it reads one small file; nothing is hashed."""

    def __init__(self, path: Path, manifest: PartManifest) -> None:
        self._path = path
        self._manifest = manifest
        self._attributes: dict[str, Any] | None = None
        self._mapped: dict[str, MappedArray] = {}

    @property
    def key(self) -> str:
        """The part's key."""
        return self._manifest.key

    @property
    def scene(self) -> str:
        """The scene it belongs to, or WHOLE."""
        return self._manifest.scene

    @property
    def attributes(self) -> Attributes:
        """Its attributes.

        Raises:
            StoreCorrupt: the group's zarr.json cannot be read.
        """
        if self._attributes is None:
            try:
                self._attributes = zarr_arrays.read_attributes(self._path)
            except zarr_arrays.FAULTS as error:
                raise self._corrupt("zarr.json", str(error)) from error
        return self._attributes

    def names(self) -> tuple[str, ...]:
        """Names of its arrays, sorted."""
        return tuple(sorted(self._manifest.arrays))

    def array(self, name: str) -> Array:
        """One array, read whole; sizes are checked first, checksums on the way. Scaled ones are decoded.

        Raises:
            NotFound: the part has no such array.
            StoreCorrupt: a file is missing or of another size, or a checksum is wrong.
        """
        by = self._scales(name)
        return scaled.decode(self._whole(name), self._whole(by)) if by else self._whole(name)

    def rows(self, name: str, rows: Rows) -> Array:
        """Some rows of an array, in the order asked for, decoded where it is scaled.

        The array is opened as a `MappedArray` and its checksums are read when a row of it is first asked for; it stays
        open as long as the reader does.

        Args:
            name: the array's name.
            rows: a slice, or an array of row numbers.

        Raises:
            IndexError: a row that the array does not have.
            NotFound, StoreCorrupt: as `array`.
        """
        by = self._scales(name)
        if by:
            return scaled.decode(self.mapped(name)[rows], self.mapped(by)[rows])
        return self.mapped(name)[rows]

    def stored_as(self, name: str) -> tuple[str, ...]:
        """The stored arrays that `array` and `rows` make this one of: itself, and its scales where it has some."""
        return (name, by) if (by := self._scales(name)) else (name,)

    def mapped(self, name: str, *, check: bool = True) -> MappedArray:
        """One array as it is stored, memory-mapped; opened once.

        Args:
            name: the array's name.
            check: whether opening it reads every checksum; False where this process did before.

        Raises:
            NotFound, StoreCorrupt: as `array`.
        """
        if name not in self._mapped:
            self._check_files(name)
            try:
                array = MappedArray(self._path / name, check=check)
            except zarr_arrays.FAULTS as error:
                raise self._corrupt(name, str(error)) from error
            self._check_entry(name, array.shape, array.dtype.name)
            self._mapped[name] = array
        return self._mapped[name]

    def _scales(self, name: str) -> str:
        """The array of scales that belongs to an array, or nothing."""
        layout = KINDS[self._manifest.kind].arrays.get(name)
        return layout.scaled_by if layout is not None and layout.scaled_by in self._manifest.arrays else ""

    def _whole(self, name: str) -> Array:
        """One array as it is stored."""
        self._check_files(name)
        try:
            values = read_whole(self._path / name)
        except zarr_arrays.FAULTS as error:
            raise self._corrupt(name, str(error)) from error
        self._check_entry(name, values.shape, values.dtype.name)
        return values

    def _check_files(self, name: str) -> None:
        """Checks that the array is there and that its files have the sizes that were published."""
        if name not in self._manifest.arrays:
            raise NotFound(f"the part {self.key} (scene {self.scene or 'none'}) has no array {name!r}; {self.names()}")
        for file, expected in self._manifest.files.items():
            if file.startswith(f"{name}/"):
                self._check_size(file, expected.num_bytes)

    def _check_entry(self, name: str, shape: tuple[int, ...], dtype: str) -> None:
        """Checks that an array is what the manifest says."""
        entry = self._manifest.arrays[name]
        if (shape, dtype) != (entry.shape, entry.dtype):
            raise self._corrupt(name, f"it reads as {shape} {dtype}, {entry} was published")

    def file(self, name: str) -> Path:
        """A local path of one of its plain files (read only).

        Raises:
            NotFound: the part has no such file.
            StoreCorrupt: the file is missing or of another size than was published.
        """
        entry = self._manifest.files.get(f"{FILES}/{name}")
        if entry is None:
            raise NotFound(f"the part {self.key} (scene {self.scene or 'none'}) has no file {name!r}; {self.files()}")
        self._check_size(f"{FILES}/{name}", entry.num_bytes)
        return self._path / FILES / name

    def files(self) -> tuple[str, ...]:
        """Names of its plain files, sorted."""
        head = f"{FILES}/"
        return tuple(sorted(name.removeprefix(head) for name in self._manifest.files if name.startswith(head)))

    def _check_size(self, file: str, expected: int) -> None:
        try:
            size = (self._path / file).stat().st_size
        except OSError as error:
            raise self._corrupt(file, "the file is missing") from error
        if size != expected:
            raise self._corrupt(file, f"it has {size} bytes, {expected} were published")

    def _corrupt(self, file: str, fault: str) -> StoreCorrupt:
        scene = self.scene or "none"
        message = f"{file} of the part {self.key} (scene {scene}) cannot be used: {fault}; {RECOMPUTE}"
        return StoreCorrupt(message, scene=self.scene or None)


def rows_again(part: PartReader, name: str, rows: Rows) -> Array:
    """As `PartReader.rows`, of an array whose checksums this process has read before: only what is asked for is read.

    Args:
        part: any store's; one that does not lie on a local disk reads as ever.
        name: the array's name.
        rows: a slice, or an array of row numbers.
    """
    if isinstance(part, ZarrPartReader):
        for stored in part.stored_as(name):
            part.mapped(stored, check=False)
    return part.rows(name, rows)


def open_part(path: Path) -> ZarrPartReader | None:
    """The part that lies at `path`, or None where nothing does.

    Raises:
        FormatTooNew: a newer vlglab wrote it.
        StoreCorrupt: its manifest cannot be read.
    """
    manifest = read_manifest(path)
    return None if manifest is None else ZarrPartReader(path, manifest)

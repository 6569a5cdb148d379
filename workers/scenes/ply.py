"""Vertices of a PLY file: binary of either byte order, or text; any order of properties.

    ply / format ... / element vertex N / property <type> <name> ... / end_header / the elements, one after another

Only the vertices are read: elements before them are skipped, what follows them (faces) is left alone. Knows the format;
knows no dataset, and no label set. Source: G. Turk, "The PLY Polygon File Format".
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from storage.errors import DatasetInvalid

_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_BYTE_ORDER = {"ascii": "<", "binary_little_endian": "<", "binary_big_endian": ">"}
_HEADER_LINES, _LINE_BYTES = 1000, 4096


@dataclass(frozen=True, slots=True)
class _Property:
    name: str
    dtype: str
    count_dtype: str | None = None
    """Of a list: the type of its length."""


@dataclass(slots=True)
class _Element:
    name: str
    count: int
    properties: list[_Property] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _File:
    """Where an error lies."""

    name: str
    scene: str | None

    def error(self, what: str) -> DatasetInvalid:
        scene = f"scene {self.scene}: " if self.scene else ""
        return DatasetInvalid(f"{scene}{self.name}: {what}", scene=self.scene)

    def truncated(self, got: int, expected: int) -> DatasetInvalid:
        return self.error(f"it ends after {got} of the {expected} vertices that its header promises; fetch it again")


@dataclass(frozen=True, slots=True, eq=False)
class PlyVertices:
    """The vertices of one file, a column a property."""

    columns: dict[str, NDArray[np.generic]]
    """Property -> (N,) values of its own type, native byte order."""
    _file: _File

    def points_m(self) -> NDArray[np.float32]:
        """(N,3) x, y and z.

        Raises:
            DatasetInvalid: one of them is missing, or a value is not finite.
        """
        with np.errstate(over="ignore"):
            points = np.stack([c.astype(np.float32) for c in self._wanted(("x", "y", "z"), "positions")], axis=1)
        if not np.isfinite(points).all():
            bad = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
            raise self._file.error(
                f"vertex {bad} lies at {points[bad].tolist()}, expected finite coordinates in metres"
            )
        return points

    def colours(self) -> NDArray[np.uint8]:
        """(N,3) red, green and blue.

        Raises:
            DatasetInvalid: one of them is missing, or is no uchar.
        """
        columns = self._wanted(("red", "green", "blue"), "colours")
        for name, column in zip(("red", "green", "blue"), columns, strict=True):
            if column.dtype != np.uint8:
                raise self._file.error(f"the property {name} is of type {column.dtype}, expected uchar (0 to 255)")
        return np.stack([c.astype(np.uint8) for c in columns], axis=1)

    def labels(self) -> NDArray[np.int64] | None:
        """(N,) the property `label`, None where there is none.

        Raises:
            DatasetInvalid: it is no whole number.
        """
        column = self.columns.get("label")
        if column is None:
            return None
        if column.dtype.kind not in "iu":
            raise self._file.error(
                f"the property label is of type {column.dtype}, expected a whole number such as ushort"
            )
        return column.astype(np.int64)

    def _wanted(self, names: tuple[str, ...], what: str) -> list[NDArray[np.generic]]:
        missing = [name for name in names if name not in self.columns]
        if missing:
            raise self._file.error(
                f"its vertices have no {what}: {', '.join(missing)} missing, found the properties "
                f"{', '.join(self.columns) or '(none)'}"
            )
        return [self.columns[name] for name in names]


def read_vertices(root: Path, name: str, scene: str | None = None) -> PlyVertices:
    """Reads the vertices of a PLY file.

    Args:
        root: the dataset's folder.
        name: the file, relative to it.
        scene: the scene that an error names.

    Raises:
        DatasetInvalid: the file is missing, no PLY, of another format, without vertices, or ends in their middle.
    """
    file = _File(name, scene)
    try:
        with (root / name).open("rb") as stream:
            coding, elements = _header(stream, file)
            for element in elements:
                if element.name == "vertex":
                    return PlyVertices(_vertices(stream, element, coding, file), file)
                _skip(stream, element, coding, file)
    except OSError as error:
        raise file.error(f"it cannot be read ({error.strerror})") from error
    raise file.error(f"it has no element vertex, only: {', '.join(e.name for e in elements) or '(none)'}")


def _header(stream: BinaryIO, file: _File) -> tuple[str, list[_Element]]:
    if stream.readline(8).rstrip(b"\r\n") != b"ply":
        raise file.error("it does not begin with the line 'ply', so it is no PLY file")
    coding, elements = "", list[_Element]()
    for _ in range(_HEADER_LINES):
        line = stream.readline(_LINE_BYTES)
        if not line.endswith(b"\n"):
            raise file.error("it ends within its header (no line 'end_header'); fetch the file again")
        words = line.decode("ascii", errors="replace").split()
        match words:
            case ["end_header"]:
                if not coding:
                    raise file.error("its header has no line 'format'")
                return coding, elements
            case [] | ["comment" | "obj_info", *_]:
                continue
            case ["format", found, _] if found in _BYTE_ORDER:
                coding = found
            case ["element", found, count] if count.isdecimal():
                elements.append(_Element(found, int(count)))
            case ["property", "list", length, of, found] if elements and length in _TYPES and of in _TYPES:
                elements[-1].properties.append(_Property(found, _TYPES[of], _TYPES[length]))
            case ["property", of, found] if elements and of in _TYPES:
                elements[-1].properties.append(_Property(found, _TYPES[of]))
            case _:
                raise file.error(f"its header has the line {' '.join(words)[:80]!r}, which is none that PLY 1.0 has")
    raise file.error(f"its header is longer than {_HEADER_LINES} lines")


def _vertices(stream: BinaryIO, element: _Element, coding: str, file: _File) -> dict[str, NDArray[np.generic]]:
    names = [p.name for p in element.properties]
    if any(p.count_dtype for p in element.properties):
        raise file.error("its vertices have a list for a property, expected one number each")
    if len(set(names)) != len(names) or not names:
        raise file.error(f"its vertices have the properties {', '.join(names) or '(none)'}, expected each once")
    if coding == "ascii":
        return _text_vertices(stream, element, file)
    row = np.dtype([(p.name, _BYTE_ORDER[coding] + p.dtype) for p in element.properties])
    there = (os.fstat(stream.fileno()).st_size - stream.tell()) // row.itemsize
    if there < element.count:
        raise file.truncated(there, element.count)
    rows = np.frombuffer(stream.read(row.itemsize * element.count), row)
    return {p.name: rows[p.name].astype(np.dtype(p.dtype)) for p in element.properties}


def _text_vertices(stream: BinaryIO, element: _Element, file: _File) -> dict[str, NDArray[np.generic]]:
    lines = [line.split() for line in islice(stream, element.count)]
    if len(lines) != element.count:
        raise file.truncated(len(lines), element.count)
    width = len(element.properties)
    for number, words in enumerate(lines):
        if len(words) != width:
            raise file.error(f"vertex {number} has {len(words)} numbers, expected {width}; fetch the file again")
    try:
        values = np.array(lines, dtype="S").astype(np.float64).reshape(-1, width)
    except ValueError as error:
        raise file.error(f"a vertex holds something that is no number ({error})") from error
    columns: dict[str, NDArray[np.generic]] = {}
    for of, column in zip(element.properties, values.T, strict=True):
        dtype = np.dtype(of.dtype)
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            bad = ~((column >= limits.min) & (column <= limits.max) & (column == np.rint(column)))
            if bad.any():
                raise file.error(f"the property {of.name} has the value {column[bad][0]:g}, which is no {dtype}")
        with np.errstate(over="ignore"):
            columns[of.name] = column.astype(dtype)
    return columns


def _skip(stream: BinaryIO, element: _Element, coding: str, file: _File) -> None:
    """Moves past an element that stands before the vertices."""
    if coding == "ascii":
        got = sum(1 for _ in islice(stream, element.count))
        if got != element.count:
            raise file.error(f"it ends within its element {element.name} ({got} of {element.count} are there)")
        return
    for _ in range(element.count):
        for of in element.properties:
            items = 1
            if of.count_dtype is not None:
                length = np.dtype(_BYTE_ORDER[coding] + of.count_dtype)
                items = int(np.frombuffer(_exactly(stream, length.itemsize, element, file), length)[0])
            _exactly(stream, max(items, 0) * np.dtype(of.dtype).itemsize, element, file)


def _exactly(stream: BinaryIO, size: int, element: _Element, file: _File) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise file.error(f"it ends within its element {element.name}; fetch the file again")
    return content

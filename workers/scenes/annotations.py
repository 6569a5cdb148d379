"""One room of S3DIS: the text files of its `Annotations` folder as points, colours and labels.

A file is one object, named `<class>_<n>.txt`; a line is one point, `x y z r g b`. The room's own file beside the folder
holds the same points without their classes and is not read. Order: by file name, then as in the file. Classes that the
benchmark does not have count as clutter, as it scores them: stairs, and any other, which is then reported.

The release has a few lines that a stray byte spoils (reported: Area_5 hallway_6 and office_19, each in ceiling_1, and
Area_3 hallway_2). One that stands where a space was ("185\\x10187") is repaired, so that the room keeps the points
everybody scores; a line that no reading makes whole ("-9.1\\x100") is left out. Both are told, with file and line. A
file cut within its last number reads as whole: one whose last line does not end, where others of the room do, is told.
Knows one folder; knows no picture, no split and no store.
"""

from __future__ import annotations

import io
import re
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.errors import DatasetInvalid
from storage.labels import S3DIS13

F64 = NDArray[np.float64]
COLUMNS = 6
CLUTTER = S3DIS13.index("clutter")
REPAIRED, LEFT_OUT = "malformed line of points, repaired", "malformed line of points, left out"
CUT = "file that does not end as the others do, perhaps cut short"
_KNOWN_AS_CLUTTER = frozenset({"stairs"})
_BLOCK = 4_096
"""Lines looked at together once a file is known to hold a bad one."""
_LINES_A_FAULT, _MOST_FAULTS = 1_000, 10
"""A file may hold one bad line, another for every so many lines, and so many at most."""
_STRAY = re.compile(rb"[^\x20-\x7e\t\r\n]")


@dataclass(frozen=True, slots=True, eq=False)
class Room:
    """The points of a room."""

    points_m: NDArray[np.float32]
    """(N,3) metres, in the area's coordinates: those that the poses of 2D-3D-S are in."""
    colours: NDArray[np.uint8]
    """(N,3) RGB."""
    labels: NDArray[np.int16]
    """(N,) labels of S3DIS-13; every point has one."""
    notes: Mapping[str, int]
    """What was repaired, left out or taken for clutter -> how often."""


def annotation_files(folder: Path) -> list[str]:
    """Names of the objects' files in a room's `Annotations` folder, in the order of their points.

    Raises:
        OSError: the folder is missing or cannot be listed.
    """
    return sorted(path.name for path in folder.iterdir() if path.suffix == ".txt" and not path.name.startswith("."))


def label_of(file_name: str) -> tuple[int, str | None]:
    """The label of an object's file, and its class where the benchmark does not know it.

    Examples:
        >>> label_of("chair_12.txt"), label_of("stairs_1.txt"), label_of("lamp_2.txt")
        ((8, None), (12, None), (12, 'lamp'))
    """
    name = Path(file_name).stem.rpartition("_")[0] or Path(file_name).stem
    if name in S3DIS13.classes:
        return S3DIS13.index(name), None
    return CLUTTER, None if name in _KNOWN_AS_CLUTTER else name


def read_room(folder: Path, scene: str) -> Room:
    """Reads every object of a room.

    Args:
        folder: the room's `Annotations` folder.
        scene: the scene's id, for messages.

    Raises:
        DatasetInvalid: the folder is missing or holds no object; or a file cannot be read, is empty, ends within a
            line or holds more bad lines than the release's few. The error names the scene and the file.
    """
    where = f"{folder.parent.parent.name}/{folder.parent.name}/{folder.name}"
    try:
        names = annotation_files(folder)
    except OSError as error:
        raise DatasetInvalid(
            f"scene {scene}: {where} cannot be read ({error.strerror}); copy the room again, or remove its folder",
            scene=scene,
        ) from error
    if not names:
        raise DatasetInvalid(
            f"scene {scene}: {where} holds no file <class>_<n>.txt; copy the room again, or remove its folder",
            scene=scene,
        )
    notes: Counter[str] = Counter()
    parts, unended = [], []
    for name in names:
        try:
            content = (folder / name).read_bytes()
            points, colours = parse_points(content, notes, name)
        except OSError as error:
            raise DatasetInvalid(f"scene {scene}: {where}/{name} cannot be read ({error})", scene=scene) from error
        except ValueError as error:
            raise DatasetInvalid(f"scene {scene}: {where}/{name}: {error}", scene=scene) from error
        label, unknown = label_of(name)
        if unknown is not None:
            notes[f"object of the unknown class {unknown!r}, taken for clutter"] += 1
        parts.append((points, colours, np.full(len(points), label, np.int16)))
        if not content.endswith(b"\n"):
            unended.append(name)
    if len(unended) < len(names):
        notes.update(f"{CUT} ({name})" for name in unended)
    points, colours, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Room(points, colours, labels, dict(notes))


def parse_points(content: bytes, notes: Counter[str], name: str) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """(N,3) f32 metres and (N,3) u8 RGB of a file's lines `x y z r g b`.

    Args:
        content: the file.
        notes: where repaired and left-out lines are told of, each with its place.
        name: the file's, for those.

    Raises:
        ValueError: no point at all, the last line is cut short, or too many lines are bad.
    """
    if not content.strip():
        raise ValueError("the file is empty; expected lines 'x y z r g b', copy it again")
    rows = _table(content)
    if rows is None:
        rows = _line_by_line(content, notes, name)
    return rows[:, :3].astype(np.float32), rows[:, 3:].astype(np.uint8)


def _table(content: bytes) -> F64 | None:
    """(N,6) numbers of whole, valid lines; None where a single one is not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # bytes that are all white space: their shape tells
            rows: F64 = np.loadtxt(io.BytesIO(content), np.float64, comments=None, ndmin=2)
    except ValueError:
        return None
    return rows if rows.shape[1] == COLUMNS and bool(_valid(rows).all()) else None


def _valid(rows: F64) -> NDArray[np.bool_]:
    """Which rows are a finite place and three whole colours of 0..255."""
    colours = rows[:, 3:]
    with np.errstate(invalid="ignore"):
        whole = (colours >= 0) & (colours <= 255) & (colours == np.floor(colours))
    valid: NDArray[np.bool_] = np.isfinite(rows[:, :3]).all(axis=1) & whole.all(axis=1)
    return valid


def _line_by_line(content: bytes, notes: Counter[str], name: str) -> F64:
    """The slow path: blocks that are whole go through at once, the lines of the others one by one."""
    lines = [(number, line) for number, line in enumerate(content.split(b"\n"), 1) if line.strip()]
    allowed = min(1 + len(lines) // _LINES_A_FAULT, _MOST_FAULTS)
    tables, bad = [], 0
    for start in range(0, len(lines), _BLOCK):
        block = lines[start : start + _BLOCK]
        whole = _table(b"\n".join(line for _, line in block))
        if whole is not None:
            tables.append(whole)
            continue
        for number, line in block:
            row = _table(line)
            if row is None:
                row, bad = _repaired(line), bad + 1
                if number == lines[-1][0] and not content.endswith(b"\n"):
                    raise ValueError(f"the file ends within line {number}, {line[:60]!r}; copy it again")
                if bad > allowed:
                    raise ValueError(
                        f"line {number} is {line[:60]!r}, expected 'x y z r g b' with colours of 0..255; {bad} of "
                        f"{len(lines)} lines are bad so far and {allowed} are tolerated, copy the file again"
                    )
                notes[f"{LEFT_OUT if row is None else REPAIRED} ({name}, line {number})"] += 1
            if row is not None:
                tables.append(row)
    if not tables:
        raise ValueError("not one line is a point 'x y z r g b'; copy the file again")
    return np.concatenate(tables)


def _repaired(line: bytes) -> F64 | None:
    """A line whose stray byte stood for a space; None where that does not make it a point."""
    return _table(_STRAY.sub(b" ", line)) if _STRAY.search(line) else None

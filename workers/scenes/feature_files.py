"""Folders of somebody else's fused features: which file is of which scene, and how several of a scene are joined.

    <scene>_0.pt  <scene>_1.pt ..   OpenScene's: each a random subset of the scene's points; or one with all of them
    <scene>.pt                      the same, a scene's only file
    <scene>.npy                     (N,D), a row of zeros where a point has no embedding

Knows names and NumPy's files; a `.pt` is read by `workers.nets.openscene_files`. Knows no store.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import DatasetInvalid
from storage.keys import digest
from workers.scenes.digests import DigestCache

MAX_DIMENSION = 8192
"""Most values of an embedding that are believed."""

_SUFFIXES = (".pt", ".npy")
_ROWS_AT_ONCE = 16_384


@dataclass(frozen=True, slots=True)
class Fused:
    """Embeddings of some points of a scene."""

    point_index: NDArray[np.int64]
    """(M,) the point of each row, strictly rising."""
    embeddings: NDArray[np.floating]
    """(M,D), float16 or float32."""


def find(root: Path, scenes: Collection[str]) -> tuple[dict[str, list[Path]], list[str]]:
    """Scene -> its files in the order of their numbers; and the names of files that are of no scene.

    Raises:
        DatasetInvalid: the folder cannot be read; a scene has files of both kinds, or two whole ones.
    """
    try:
        files = sorted(path for path in root.iterdir() if path.suffix in _SUFFIXES and path.is_file())
    except OSError as error:
        raise DatasetInvalid(f"the folder {root} cannot be read: {error.strerror or error}") from error
    known = frozenset(scenes)
    found: dict[str, list[tuple[int, Path]]] = {}
    strangers = []
    for path in files:
        head, _, tail = path.stem.rpartition("_")
        if path.stem in known:
            found.setdefault(path.stem, []).append((-1, path))
        elif path.suffix == ".pt" and head in known and tail.isascii() and tail.isdigit():
            found.setdefault(head, []).append((int(tail), path))
        else:
            strangers.append(path.name)
    for scene, numbered in found.items():
        if len(numbered) > 1 and any(number < 0 for number, _ in numbered):
            names = ", ".join(path.name for _, path in numbered[:5])
            raise DatasetInvalid(
                f"scene {scene}: got {names} in {root}, expected either one whole file or numbered ones; "
                "move the others away",
                scene=scene,
            )
    return {scene: [path for _, path in sorted(numbered)] for scene, numbered in found.items()}, strangers


def fingerprints(root: Path, files: Mapping[str, Sequence[Path]], cache_dir: Path) -> dict[str, str]:
    """Scene -> digest of the names and the content of its files.

    Raises:
        DatasetInvalid: a file cannot be read; the error names the scene.
    """
    cache = DigestCache(root, cache_dir)
    found = {}
    for scene, paths in sorted(files.items()):
        try:
            found[scene] = digest([[path.name, cache.of(path.name)] for path in paths])
        except OSError as error:
            raise DatasetInvalid(f"scene {scene}: a file cannot be read: {error}", scene=scene) from error
    cache.save()
    return found


def read_npy(path: Path, num_points: int, dtype: type[np.floating] = np.float16) -> Fused:
    """A whole scene of NumPy's format, as a floating type; rows of zeros are points without an embedding.

    Raises:
        DatasetInvalid: no such array, or one of another number of points.
    """
    try:
        values: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DatasetInvalid(f"{path.name} cannot be read as NumPy's .npy: {error}") from error
    if values.ndim != 2 or len(values) != num_points:
        raise DatasetInvalid(
            f"{path.name}: got the shape {values.shape}, expected ({num_points}, D), a row for each point of the scene"
        )
    return with_rows(path.name, np.arange(num_points), values, dtype)


def with_rows(name: str, point_index: NDArray[np.int64], values: NDArray[Any], dtype: type[np.floating]) -> Fused:
    """Checked embeddings of points, as float16 or float32, without the rows that are all zeros.

    Args:
        name: of the file, for messages.
        point_index: (M,) strictly rising.
        values: (M,D) of any floating type; may be mapped from a file: it is read by pieces.
        dtype: the type that they are given in.

    Raises:
        DatasetInvalid: another type or shape, or values that are not finite in this type.
    """
    if values.dtype.kind != "f" or values.ndim != 2 or not 1 <= values.shape[1] <= MAX_DIMENSION:
        raise DatasetInvalid(
            f"{name}: got embeddings of type {values.dtype} and shape {values.shape}, expected floating numbers "
            f"(n, D), D up to {MAX_DIMENSION}"
        )
    embeddings = np.empty(values.shape, dtype)
    for start in range(0, len(values), _ROWS_AT_ONCE):
        piece = slice(start, start + _ROWS_AT_ONCE)
        with np.errstate(over="ignore", invalid="ignore"):
            embeddings[piece] = values[piece]
        finite = np.isfinite(embeddings[piece]).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            fault = f"row {row} of the embeddings holds a value that is not finite in {embeddings.dtype}"
            raise DatasetInvalid(f"{name}: {fault}")
    some = embeddings.any(axis=1)
    return Fused(point_index, embeddings) if some.all() else Fused(point_index[some], embeddings[some])


def join(scene: str, num_points: int, pieces: Iterable[tuple[str, Fused]]) -> Fused:
    """All points that any of a scene's files has, each once; no more than one file is held at a time.

    Args:
        scene: its id, for messages.
        num_points: points of the scene.
        pieces: name of a file and what is in it, made when it is asked for.

    Raises:
        DatasetInvalid: two files are of different dimensions, or differ in a point that both have: they were not
            drawn from one fusion.
    """
    joined: NDArray[np.floating] = np.empty((0, 0), np.float16)
    filled = np.zeros(num_points, bool)
    for name, piece in pieces:
        if not joined.size:
            joined = np.zeros((num_points, piece.embeddings.shape[1]), piece.embeddings.dtype)
        dimensions = {joined.shape[1], piece.embeddings.shape[1]}
        if len(dimensions) != 1:
            raise DatasetInvalid(
                f"scene {scene}: its files have embeddings of {sorted(dimensions)} values", scene=scene
            )
        if not _put(joined, filled, piece):
            raise DatasetInvalid(
                f"scene {scene}: {name} has other embeddings than the files before it for points that both have; "
                "import the files of one fusion at a time",
                scene=scene,
            )
        del piece  # before the next one is read
    point_index = np.flatnonzero(filled)
    for start in range(0, len(point_index), _ROWS_AT_ONCE):  # rows move up, over rows that have moved already
        rows = point_index[start : start + _ROWS_AT_ONCE]
        joined[start : start + len(rows)] = joined[rows]
    return Fused(point_index, joined[: len(point_index)])


def _put(joined: NDArray[np.floating], filled: NDArray[np.bool_], piece: Fused) -> bool:
    """Puts the rows of a file at their points; False where a point that is filled has another embedding."""
    for start in range(0, len(piece.point_index), _ROWS_AT_ONCE):
        points = piece.point_index[start : start + _ROWS_AT_ONCE]
        values, again = piece.embeddings[start : start + _ROWS_AT_ONCE], filled[points]
        if not np.array_equal(joined[points[again]], values[again]):
            return False
        joined[points] = values
    filled[piece.point_index] = True
    return True

"""Lifting: the mean, over the frames that see a point, of the embedding of the pixel it falls on.

Source: 3DSS-VLG section 3.1 (2D to 3D projection and multi-view fusion). Streams frame by frame; sums stay in float32
and only where points were seen. Knows no file, no encoder and no camera.

In shapes: N points of the scene, P points seen by one frame, M points seen by any, D dimension.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt16
from numpy.typing import DTypeLike, NDArray

_BLOCK = 4_096
"""Points of a block of sums; a block comes into being when one of its points is first seen."""

_MOST_VIEWS = int(np.iinfo(np.uint16).max)


@dataclass(frozen=True, slots=True)
class Lifted:
    """Embeddings of the covered points, by ascending point index."""

    embeddings: Float[NDArray[np.floating], "covered dim"]
    point_index: Int[NDArray[np.int64], "covered"]
    views: UInt16[NDArray[np.uint16], "points"]
    """Frames that saw each point of the scene; 0 where it is not covered."""


class Accumulator:
    """Sums the embeddings of points frame by frame; `mean` ends it.

    Memory: 4 * D bytes for each point of a block that was seen, at most 4 * N * D, and no second copy: `mean` lets go
    of each block as it is emitted.
    """

    def __init__(self, num_points: int, dimension: int) -> None:
        self._num_points = num_points
        self._dimension = dimension
        self._views_n = np.zeros(num_points, np.uint16)
        self._sums: list[NDArray[np.float32] | None] = [None] * -(-num_points // _BLOCK)
        self._ended = False

    def add(
        self, point_index: Int[NDArray[np.int64], "visible"], embeddings: Float[NDArray[np.floating], "visible dim"]
    ) -> None:
        """Adds what one frame sees.

        Args:
            point_index: (P,) strictly ascending, as `visibility.visible` gives it: a frame sees a point once.
            embeddings: (P,D), the embedding of each point's pixel; not normalised.

        Raises:
            ValueError: shapes that do not fit, indices out of range or not ascending, or more than 65,535 frames.
            RuntimeError: `mean` was called.
        """
        self._check(point_index, embeddings)
        if len(point_index) == 0:
            return
        first, last = int(point_index[0]) // _BLOCK, int(point_index[-1]) // _BLOCK
        bounds = np.searchsorted(point_index, np.arange(first, last + 2) * _BLOCK)
        for block, low, high in zip(range(first, last + 1), bounds[:-1], bounds[1:], strict=True):
            if low == high:
                continue
            sums = self._sums[block]
            if sums is None:
                sums = self._sums[block] = _zeros(min(_BLOCK, self._num_points - block * _BLOCK), self._dimension)
            sums[point_index[low:high] - block * _BLOCK] += embeddings[low:high]
        self._views_n[point_index] += np.uint16(1)

    def mean(self, dtype: DTypeLike = np.float16) -> Lifted:
        """The mean over views of every point that any frame saw; the sums are gone afterwards.

        No point seen gives empty arrays: the caller, who knows the scene's name, makes it an error.

        Args:
            dtype: of the embeddings; the mean is taken in float32 and rounded once. Beyond float16's range (65,504)
                a value becomes infinite, which no store accepts.

        Raises:
            RuntimeError: it was called before.
        """
        self._check_open()
        self._ended = True
        point_index = np.flatnonzero(self._views_n)
        embeddings = np.empty((len(point_index), self._dimension), dtype)
        start = 0
        for block, sums in enumerate(self._sums):
            if sums is None:
                continue
            views = self._views_n[block * _BLOCK : block * _BLOCK + len(sums)]
            seen = np.flatnonzero(views)
            with np.errstate(over="ignore"):
                embeddings[start : start + len(seen)] = sums[seen] / views[seen, None].astype(np.float32)
            start += len(seen)
            self._sums[block] = None
        return Lifted(embeddings, point_index, self._views_n)

    def _check_open(self) -> None:
        if self._ended:
            raise RuntimeError("this accumulator was ended by mean(); make a new one for another scene")

    def _check(self, point_index: NDArray[np.int64], embeddings: NDArray[np.floating]) -> None:
        self._check_open()
        if embeddings.shape != (len(point_index), self._dimension):
            expected = (len(point_index), self._dimension)
            raise ValueError(f"got embeddings of shape {embeddings.shape}, expected {expected}: a row a visible point")
        if len(point_index) == 0:
            return
        if point_index[0] < 0 or point_index[-1] >= self._num_points or not (np.diff(point_index) > 0).all():
            raise ValueError(
                f"got point indices from {point_index.min()} to {point_index.max()}; expected them strictly ascending "
                f"within the scene's {self._num_points} points"
            )
        if int(self._views_n[point_index].max()) == _MOST_VIEWS:
            raise ValueError(f"got a point seen by more than {_MOST_VIEWS} frames; take every so many frames")


def _zeros(rows: int, columns: int) -> NDArray[np.float32]:
    """A zero array in a memory map of its own: the system gets its pages back the moment it is let go."""
    return np.frombuffer(mmap.mmap(-1, rows * columns * 4), np.float32).reshape(rows, columns)

"""Embeddings as whole numbers of a byte with scales: about half the bytes of float16, and nearly the same directions.

A scale holds for SCALE_BLOCK columns of one row, so that a dimension that is larger than the others spoils but its own
block. Knows arrays alone.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

SCALE_BLOCK: Final = 32
"""Columns that share a scale; a part's attribute `scale_block` says it too."""

_LARGEST = 127
_ROWS = 4_096
"""Rows that are worked on at a time: what is held beside the arrays stays small."""


def encode(values: NDArray[np.float16]) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Embeddings as whole numbers, and their scales: a value is about its number times its block's scale.

    Args:
        values: (M,D), finite.

    Returns:
        (M,D) from -127 to 127, and (M,B) scales of B = D / SCALE_BLOCK blocks, the last one perhaps narrower.

    Examples:
        >>> numbers, scales = encode(np.array([[1.0, -0.5, 0.0]], np.float16))
        >>> numbers.tolist(), decode(numbers, scales).round(2).tolist()
        ([[127, -63, 0]], [[1.0, -0.5, 0.0]])
    """
    blocks = -(-values.shape[1] // SCALE_BLOCK)
    numbers = np.empty(values.shape, np.int8)
    scales = np.empty((len(values), blocks), np.float16)
    for start in range(0, len(values), _ROWS):
        rows = slice(start, start + _ROWS)
        part = values[rows].astype(np.float32)
        padded = np.pad(part, ((0, 0), (0, blocks * SCALE_BLOCK - part.shape[1])))
        scales[rows] = _scales(np.abs(padded).reshape(len(part), blocks, SCALE_BLOCK).max(axis=2))
        wide = _widened(scales[rows], part.shape[1])
        scaled = np.divide(part, wide, out=np.zeros_like(part), where=wide > 0)
        most = np.divide(np.finfo(np.float16).max, wide, out=np.zeros_like(part), where=wide > 0)
        most = np.minimum(np.floor(most), _LARGEST)  # so that no product is beyond float16
        numbers[rows] = np.clip(np.rint(scaled), -most, most)
    return numbers, scales


def decode(numbers: NDArray[np.int8], scales: NDArray[np.float16]) -> NDArray[np.float16]:
    """(M,D) the embeddings that numbers and scales stand for, each product rounded once."""
    values = np.empty(numbers.shape, np.float16)
    for start in range(0, len(numbers), _ROWS):
        rows = slice(start, start + _ROWS)
        values[rows] = numbers[rows] * _widened(scales[rows], numbers.shape[1])
    return values


def _scales(largest: NDArray[np.float32]) -> NDArray[np.float16]:
    """The least float16 scales whose largest number reaches these values."""
    scales = (largest / np.float32(_LARGEST)).astype(np.float16)
    short = scales.astype(np.float32) * np.float32(_LARGEST) < largest
    return np.where(short, np.nextafter(scales, np.float16(np.inf)), scales)


def _widened(scales: NDArray[np.float16], columns: int) -> NDArray[np.float32]:
    """(M,D) the scale of each value."""
    return np.repeat(scales.astype(np.float32), SCALE_BLOCK, axis=1)[:, :columns]

"""Whether values are finite, looked at while they are in the processor's cache. Knows arrays only."""

from __future__ import annotations

import numpy as np

from storage.artifacts.store import Array

_BYTES = 2**18
"""Bytes that are looked at at a time: what is made of them stays in the cache."""


_EXPONENT = np.uint16(0x7C00)


class NotFinite(ValueError):
    """A value that is a NaN or an infinity."""

    def __init__(self, row: int) -> None:
        super().__init__(f"row {row} holds a value that is not finite")
        self.row = row


def first_not_finite(values: Array) -> int | None:
    """The first row of an array that holds a NaN or an infinity, or None; integers are always finite."""
    if values.dtype.kind != "f" or values.size == 0:
        return None
    step = max(1, _BYTES * len(values) // values.nbytes)
    for start in range(0, len(values), step):
        block = values[start : start + step]
        if not _all_finite(block):
            finite = np.isfinite(block)
            return start + int(np.argmin(finite.reshape(len(block), -1).all(axis=1)))
    return None


def _all_finite(block: Array) -> bool:
    """Whether all values are; of float16, whose `isfinite` is slow, by the greatest exponent: all ones is no number."""
    if block.dtype != np.dtype("<f2"):
        return bool(np.isfinite(block).all())
    return bool((block.view(np.uint16) & _EXPONENT).max() != _EXPONENT)

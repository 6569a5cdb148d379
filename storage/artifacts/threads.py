"""Work on pieces of an array by several threads, where it is large enough to be worth it. Knows no array."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

THREADS = min(4, os.cpu_count() or 1)
"""Copying, hashing and writing let other threads run."""
_LARGE = 2**24
"""Bytes below which starting threads costs more than they save."""


def in_threads(work: Callable[[T], R], pieces: Sequence[T], num_bytes: int) -> list[R]:
    """What the work makes of each piece, in their order; the first error, where there are some.

    Args:
        work: runs in several threads at once where the bytes are many.
        pieces: what it is given, one at a time.
        num_bytes: bytes of all pieces together.
    """
    if num_bytes < _LARGE or len(pieces) < 2 or THREADS == 1:
        return [work(piece) for piece in pieces]
    with ThreadPoolExecutor(THREADS, thread_name_prefix="pieces") as pool:
        return list(pool.map(work, pieces))

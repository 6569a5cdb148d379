"""A page of a list, read by keyset: the cursor is the last id of the page before. Knows no table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")

MAX_LIMIT = 500
"""Most rows that a page may hold."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some rows of a list, and where the next ones begin."""

    items: tuple[T, ...]
    next: str | None
    """Cursor of the next page; None where this is the last."""


def page_of(rows: Sequence[T], limit: int, cursor_of: Callable[[T], str], read: Callable[[T], U]) -> Page[U]:
    """A page from `limit + 1` rows or fewer: one row more than the limit says that there is a next page."""
    kept = rows[:limit]
    following = cursor_of(kept[-1]) if len(rows) > limit and kept else None
    return Page(tuple(read(row) for row in kept), following)


def pieces(values: Collection[T]) -> Iterator[list[T]]:
    """The values some hundred at a time: as many as one statement may be asked about."""
    every = list(values)
    for first in range(0, len(every), MAX_LIMIT):
        yield every[first : first + MAX_LIMIT]


def clamp(limit: int) -> int:
    """A limit within 1..MAX_LIMIT."""
    return max(1, min(limit, MAX_LIMIT))

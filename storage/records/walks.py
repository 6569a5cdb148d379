"""Walks: one index read in its own order, a bounded number of rows a page. Knows SQL's ordering; no table's meaning.

A list is a walk along the index that gives its order, and a condition that each row is put to. The walk itself leaves
no row out: what it reads is what it gives, so the work of a page is bounded whatever the condition, the size of the
table and the planner's guesses. Where few rows fit, a page holds fewer of them and still says where to go on.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, literal, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from storage import keys
from storage.errors import InvalidInput

WORK = 10
"""Rows that a page may read for each row that it may hold, before the rows that it holds are read whole."""

_GROWTH = 4
"""How many times as many rows are walked at once where those before did not fill the page."""

_CLOCKS = timedelta(minutes=1)
"""How far the clock that older ids come from may have been from the database's, which says when things were made."""

Key = tuple[Any, ...]
"""Where a walk stands: the values of its order behind the fixed column."""


@dataclass(frozen=True, slots=True)
class Walk:
    """An index, and the stretch of it that is walked."""

    order: tuple[InstrumentedAttribute[Any], ...]
    """The index's columns; the last one tells rows apart."""
    fixed: Key = ()
    """The value of the first column, where one value of it is walked; empty where all are."""
    low: Key = ()
    """Smallest values of the next columns, inclusive; rows whose value is NULL lie outside."""
    high: Key = ()
    """Largest values of the next columns, inclusive."""
    descending: bool = True

    @property
    def free(self) -> tuple[InstrumentedAttribute[Any], ...]:
        """The columns that a key holds."""
        return self.order[len(self.fixed) :]

    def statement(self, after: Key | None, take: int, fits: ColumnElement[bool] | None) -> Select[Any]:
        """Selects the next `take` keys behind `after`, and as the last column whether the row fits.

        The fixed column is bounded from both sides and put in front of the order: an equality would let PostgreSQL
        walk another index in the same order and drop what does not match, at any cost its statistics did not foresee.
        """
        low, high = (*self.fixed, *self.low), (*self.fixed, *self.high)
        conditions = []
        if after is not None and self.descending:
            conditions.append(self._leading(len(self.order)) < self._values((*self.fixed, *after)))
        elif high:
            conditions.append(self._leading(len(high)) <= self._values(high))
        if after is not None and not self.descending:
            conditions.append(self._leading(len(self.order)) > self._values((*self.fixed, *after)))
        elif low:
            conditions.append(self._leading(len(low)) >= self._values(low))
        verdict = literal(1) if fits is None else case((fits, 1), else_=0)
        order = [column.desc() if self.descending else column.asc() for column in self.order]
        return select(*self.free, verdict).where(*conditions).order_by(*order).limit(take)

    def _leading(self, number: int) -> Any:
        """The first columns, as one value where they are several."""
        return self.order[0] if number == 1 else tuple_(*self.order[:number])

    def _values(self, values: Key) -> Any:
        """Values of the first columns, likewise."""
        bound = [literal(value, column.type) for value, column in zip(values, self.order, strict=False)]
        return bound[0] if len(bound) == 1 else tuple_(*bound)


def all_of(conditions: Sequence[ColumnElement[Any]]) -> ColumnElement[bool] | None:
    """The condition that all of some hold, tried in their order; None where there are none."""
    return and_(*conditions) if conditions else None


def keys_of_page(
    session: Session, walk: Walk, fits: ColumnElement[bool] | None, after: Key | None, limit: int, cost: int = 1
) -> tuple[list[Key], Key | None]:
    """The keys of a page, and where the next one begins; None where the walk has ended.

    Reads at most `WORK * limit` rows, and so may find fewer than `limit` before the end.

    Args:
        session: a transaction.
        walk: what is walked.
        fits: what a row must fulfil; None where all do.
        after: where the page before ended.
        limit: most rows of the page.
        cost: rows that are read to know whether one fits, itself included.
    """
    left = max(WORK * limit // cost, limit + 1)
    take = limit + 1
    found: list[Key] = []
    while True:
        take = min(left, take)
        rows = session.execute(walk.statement(after, take, fits)).all()
        for *key, verdict in rows:
            if not verdict:
                continue
            if len(found) == limit:
                return found, found[-1]
            found.append(tuple(key))
        if len(rows) < take:
            return found, None
        after, left, take = tuple(rows[-1][:-1]), left - take, _GROWTH * take
        if left <= 0 or len(found) == limit:
            return found, after


def cursor_of(name: str, key: Key | None) -> str | None:
    """The text that a page gives as its `next`; None where there is none.

    Args:
        name: the order that was walked.
        key: where it stands.

    Examples:
        >>> key_of(cursor_of("finished", (datetime(2026, 1, 31), "r1")) or "", "finished", (datetime, str))
        (datetime.datetime(2026, 1, 31, 0, 0), 'r1')
    """
    if key is None:
        return None
    values = [value.isoformat() if isinstance(value, datetime) else value for value in key]
    return base64.urlsafe_b64encode(json.dumps([name, *values]).encode()).decode().rstrip("=")


def key_of(cursor: str, name: str, types: Sequence[type]) -> Key:
    """Where the page that a cursor came from ended.

    Raises:
        InvalidInput: no page of a list in this order gave it.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        found, *values = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if found == name and len(values) == len(types):
            return tuple(_read(value, kind) for value, kind in zip(values, types, strict=True))
    except (binascii.Error, ValueError, TypeError, RecursionError):
        pass
    raise InvalidInput(
        f"got the cursor {cursor[:80]!r}, which no page of a list sorted by {name!r} gave; start again without one"
    )


def _read(value: object, kind: type) -> Any:
    """A value of a cursor, checked; what it names need not exist.

    Raises:
        ValueError, TypeError: it is of another type, or out of every range.
    """
    if kind is datetime and isinstance(value, str):
        moment = datetime.fromisoformat(value)
        if moment.utcoffset():
            raise ValueError(value)
        return moment
    if kind is float and isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    if kind is int and isinstance(value, int) and abs(value) < 1 << 31:
        return value
    if kind is str and isinstance(value, str) and value.isascii() and value.isprintable():
        return value
    raise TypeError(kind)


def id_before(prefix: str, moment: datetime) -> str:
    """What sorts before the ids of all that was made at a moment or later."""
    return keys.id_at(prefix, _moved(moment, -_CLOCKS))


def id_behind(prefix: str, moment: datetime) -> str:
    """What sorts behind the ids of all that was made before a moment."""
    return keys.id_at(prefix, _moved(moment, _CLOCKS))


def _moved(moment: datetime, by: timedelta) -> datetime:
    """A moment in UTC, moved as far as the calendar goes."""
    try:
        return moment + by
    except OverflowError:
        return datetime(9999, 12, 31, tzinfo=UTC) if moment.year > 5000 else datetime(1, 1, 1, tzinfo=UTC)

"""Group commit: what several threads ask for at once is written in one transaction. Knows no table.

Writers come one at a time, and a commit waits for the disk: a writer that finds others waiting makes theirs as well.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy.orm import Session

from storage.errors import DatabaseError
from storage.records.database import Database

MOST = 64
"""Requests that one transaction makes: other writers come in between."""

_Asked = TypeVar("_Asked")
_Made = TypeVar("_Made")


@dataclass(eq=False, slots=True)
class _Turn(Generic[_Asked, _Made]):
    """One request, and what came of it."""

    asked: _Asked
    made: _Made | None = None
    error: Exception | None = None
    is_done: bool = False


class GroupCommit(Generic[_Asked, _Made]):
    """Makes what many threads ask for. Whoever's request is wrong gets its error, and no other request fails by it.

    Where the database fails, all that wait hear it.
    """

    def __init__(self, db: Database, make: Callable[[Session, Sequence[_Asked]], Sequence[_Made]]) -> None:
        """Takes what makes requests.

        Args:
            db: the database.
            make: given an ordered write transaction and requests, makes all of them, in their order, or raises.
        """
        self._db = db
        self._make = make
        self._waiting: deque[_Turn[_Asked, _Made]] = deque()
        self._making = threading.Lock()

    def __call__(self, asked: _Asked) -> _Made:
        """What a request makes; raises as `make` does for it alone, and DatabaseError as `Database.write`."""
        turn: _Turn[_Asked, _Made] = _Turn(asked)
        self._waiting.append(turn)
        with self._making:  # whoever holds it may have made this one too
            if not turn.is_done:
                self._together([self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))])
            if not turn.is_done:  # more than MOST came before it
                self._waiting.remove(turn)
                self._together([turn])
        if turn.error is not None:
            raise turn.error
        return turn.made  # type: ignore[return-value]

    def _together(self, turns: Sequence[_Turn[_Asked, _Made]]) -> None:
        """Makes some requests in one transaction; where that fails, each in its own."""
        try:
            with self._db.write() as session:
                made = self._make(session, [turn.asked for turn in turns])
        except DatabaseError as error:
            _fail(turns, error)
        except Exception as error:  # noqa: BLE001 - each gets its own
            if len(turns) == 1:
                _fail(turns, error)
                return
            for turn in turns:
                self._together([turn])
        except BaseException as error:
            _fail(turns, DatabaseError(f"whoever was writing was stopped ({error!r}); send the request again"))
            raise
        else:
            for turn, one in zip(turns, made, strict=True):
                turn.made, turn.is_done = one, True


def _fail(turns: Sequence[_Turn[Any, Any]], error: Exception) -> None:
    """Ends turns with an error."""
    for turn in turns:
        turn.error, turn.is_done = error, True

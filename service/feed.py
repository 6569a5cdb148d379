"""Word that events were written: one look at the table a tick, however many streams wait. Knows no route.

Looking is what works for everybody: other processes of the service and worker hosts write events too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, deque
from itertools import takewhile

from service.schemas import Event
from storage.records import events
from storage.records.database import Database
from storage.records.pages import MAX_LIMIT

log = logging.getLogger("vlglab.feed")

KEPT = 5000
"""Events whose texts are kept for all streams that follow everything: none of those asks the table for them."""


def event_text(event: events.Event) -> str:
    """An event as it stands in a stream."""
    document = Event.model_validate(event, from_attributes=True).model_dump_json()
    return f"id: {event.id}\nevent: {event.kind}\ndata: {document}\n\n"


class Feed:
    """Tells waiting streams when there are new events."""

    def __init__(self, db: Database, every_s: float) -> None:
        """Args: the database, and the seconds between two looks at it."""
        self._db = db
        self._every_s = every_s
        self._changed = asyncio.Event()
        self._waiting = 0
        self.last = 0
        """Id of the last event that is known of."""
        self._since: int | None = None
        """The tail holds every event after the one with this id; None before the first look."""
        self._tail: deque[tuple[int, str]] = deque()
        self.streams: Counter[str] = Counter()
        """Caller -> streams that are being sent."""
        self.closed = False
        """True once the service stops: streams end then."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Looks until `stopping` is set; only while a stream waits. A database that is away is asked again."""
        while not stopping.is_set():
            if self._waiting:
                await self._look()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), self._every_s)
        self.close()

    def close(self) -> None:
        """Ends all streams: called in the loop's thread as soon as the service is told to stop."""
        self.closed = True
        self._wake()

    async def newer(self, than: int, timeout_s: float) -> bool:
        """Waits until there is an event after the one with the id `than`; False where none came in time."""
        self._waiting += 1
        try:
            async with asyncio.timeout(timeout_s):
                while not self.closed and self.last <= than:
                    await self._changed.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1
        return self.last > than

    def after(self, cursor: int) -> list[tuple[int, str]] | None:
        """(Id, text) of the events after `cursor` that are known of; None where the table must be read for them."""
        if self._since is None or cursor < self._since:
            return None
        new = takewhile(lambda entry: entry[0] > cursor, reversed(self._tail))
        return list(new)[::-1]

    async def _look(self) -> None:
        try:
            last, found = await asyncio.to_thread(self._read)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next look may go well
            log.warning("no look at the events: %s", error)
            return
        if found is None:
            self._since = last
            self._tail.clear()
        else:
            self._tail.extend(found)
        while len(self._tail) > KEPT:
            self._since = self._tail.popleft()[0]
        if last > self.last:
            self.last = last
            self._wake()

    def _read(self) -> tuple[int, list[tuple[int, str]] | None]:
        """The last event's id, and the texts of those after the last look; None in their place where they are many."""
        if self._since is not None:
            found = events.after(self._db, None, self.last, MAX_LIMIT)
            if len(found) < MAX_LIMIT:
                return (found[-1].id if found else self.last), [(event.id, event_text(event)) for event in found]
        return events.last(self._db), None

    def _wake(self) -> None:
        """Wakes all that wait; those that wait from now on wait for the next time."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

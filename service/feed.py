"""Word that events were written: one look at the table a tick, however many streams wait. Knows no route.

Looking is what works for everybody: other processes of the service and worker hosts write events too. What a look finds
is kept for all streams; those that follow one run or one experiment are woken by its events only.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import TypeAlias
from weakref import WeakValueDictionary

from service.schemas import Event
from storage.records import events
from storage.records.database import Database
from storage.records.pages import MAX_LIMIT

log = logging.getLogger("vlglab.feed")

KEPT = 5000
"""Events that are kept for all streams: none whose cursor is not older asks the table for them."""

_Topic: TypeAlias = tuple[str, str]
"""What streams wait for events of: a run, an experiment, or everything."""
_ALL: _Topic = ("", "")


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as streams need it."""

    id: int
    run_id: str
    experiment_id: str | None
    state: str
    """The run's state after it."""
    text: str
    """The event as it stands in a stream."""


@dataclass(frozen=True, slots=True)
class Only:
    """Which events a stream is of: all, or those of a run, of an experiment's runs, or of both."""

    run: str | None = None
    experiment: str | None = None

    @property
    def topic(self) -> _Topic:
        """What wakes the stream."""
        if self.run is not None:
            return ("run", self.run)
        return _ALL if self.experiment is None else ("experiment", self.experiment)

    def takes(self, entry: Entry) -> bool:
        """Whether an event is of the stream."""
        return self.run in (None, entry.run_id) and self.experiment in (None, entry.experiment_id)


EVERYTHING = Only()


def entry_of(event: events.Event, experiment_id: str | None = None) -> Entry:
    """An event's entry."""
    document = Event.model_validate(event, from_attributes=True).model_dump_json()
    text = f"id: {event.id}\nevent: {event.kind}\ndata: {document}\n\n"
    return Entry(event.id, event.run_id, experiment_id, event.state, text)


class Feed:
    """Tells waiting streams when there are new events."""

    def __init__(self, db: Database, every_s: float) -> None:
        """Args: the database, and the seconds between two looks at it."""
        self._db = db
        self._every_s = every_s
        self._changed: WeakValueDictionary[_Topic, asyncio.Event] = WeakValueDictionary()
        """What those wait for that wait; a topic goes with the last of them."""
        self._waiting = 0
        self.last = 0
        """Id of the last event that is known of."""
        self._since: int | None = None
        """The tail holds every event after the one with this id; None before the first look."""
        self._tail: deque[Entry] = deque()
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
        self._wake(list(self._changed))

    async def newer(self, than: int, timeout_s: float, only: Only = EVERYTHING) -> bool:
        """Waits until the table or the tail has events of a stream after the id `than`; False where none came in time.

        Where the tail does not reach back to `than`, any new event may be of the stream.
        """
        self._waiting += 1
        try:
            async with asyncio.timeout(timeout_s):
                while not self.closed and not self._may_have(than, only):
                    changed = self._changed.get(only.topic)
                    if changed is None:
                        changed = self._changed[only.topic] = asyncio.Event()
                    await changed.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1
        return self._may_have(than, only)

    def after(self, cursor: int, only: Only = EVERYTHING) -> list[Entry] | None:
        """A stream's events after `cursor` that are known of; None where the table must be read for them."""
        if self._since is None or cursor < self._since:
            return None
        new = takewhile(lambda entry: entry.id > cursor, reversed(self._tail))
        return [entry for entry in new if only.takes(entry)][::-1]

    def _may_have(self, than: int, only: Only) -> bool:
        """Whether there are events of a stream after the id `than`, as far as the tail tells."""
        return self.last > than and (only == EVERYTHING or self.after(than, only) != [])

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
            self._since = self._tail.popleft().id
        if last > self.last:
            self.last = last
            self._wake(list(self._changed) if found is None else _topics(found))

    def _read(self) -> tuple[int, list[Entry] | None]:
        """The last event's id, and those after the last look; None in their place where they are many."""
        if self._since is not None:
            found = events.after_with_experiments(self._db, self.last, MAX_LIMIT)
            if len(found) < MAX_LIMIT:
                return (found[-1][0].id if found else self.last), [entry_of(*one) for one in found]
        return events.last(self._db), None

    def _wake(self, topics: Iterable[_Topic]) -> None:
        """Wakes all that wait for these; those that wait from now on wait for the next time."""
        for topic in topics:
            changed = self._changed.pop(topic, None)
            if changed is not None:
                changed.set()


def _topics(entries: Iterable[Entry]) -> set[_Topic]:
    """Whom some events wake."""
    topics = {_ALL}
    for entry in entries:
        topics.add(("run", entry.run_id))
        if entry.experiment_id is not None:
            topics.add(("experiment", entry.experiment_id))
    return topics

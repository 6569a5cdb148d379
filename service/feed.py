"""Word that events were written: one look at the table a tick, however many streams wait. Knows no route.

Looking is what works for everybody: other processes of the service and worker hosts write events too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from storage.records import events
from storage.records.database import Database

log = logging.getLogger("vlglab.feed")


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

    async def _look(self) -> None:
        try:
            last = await asyncio.to_thread(events.last, self._db)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next look may go well
            log.warning("no look at the events: %s", error)
            return
        if last > self.last:
            self.last = last
            self._wake()

    def _wake(self) -> None:
        """Wakes all that wait; those that wait from now on wait for the next time."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

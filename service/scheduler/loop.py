"""The scheduler's loop: every tick it plans and ends the leases that ran out. Knows no route and starts no stage."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import partial

from service.scheduler.planner import plan
from service.ticking import look_again
from storage.errors import DatabaseError
from storage.records import events, lost_attempts, planning, revision
from storage.records.database import Database
from storage.settings import Settings

log = logging.getLogger("vlglab.scheduler")

MAX_ROUNDS = 100
"""Most times that one tick plans: each round may let the runs behind it go on."""


@dataclass(slots=True)
class Scheduler:
    """Ticks, and remembers what it has planned already: while no run changes its state there is nothing to plan."""

    db: Database
    settings: Settings
    _planned: int = -1
    """The last event when it planned without finding a move."""

    def tick(self) -> int:
        """`tick`, unless nothing has happened since the last one; returns the number of moves.

        Raises:
            WrongRevision: the database was upgraded or downgraded under this service, which then plans nothing.
        """
        with self.db.read() as session:
            revision.check(session)
        end_lapsed(self.db, self.settings)
        last = events.last(self.db)
        if last == self._planned:
            return 0
        moved = plan_all(self.db)
        self._planned = -1 if moved else last
        return moved


def tick(db: Database, settings: Settings) -> int:
    """Ends lapsed leases, then plans until nothing moves; returns the number of moves."""
    end_lapsed(db, settings)
    return plan_all(db)


def end_lapsed(db: Database, settings: Settings) -> None:
    """Ends the leases that ran out."""
    for run_id in lost_attempts.expire(db, settings.max_attempts):
        log.warning("the worker of the run %s is lost: its lease ran out", run_id, extra={"run_id": run_id})


def plan_all(db: Database) -> int:
    """Plans until nothing moves; returns the number of moves."""
    moved = 0
    for _ in range(MAX_ROUNDS):
        moves = planning.advance(db, plan)
        moved += len(moves)
        if not moves:
            break
    return moved


async def run(db: Database, settings: Settings, stopping: asyncio.Event) -> None:
    """Ticks until `stopping` is set. An error is logged and survived; the same one is logged once until it changes."""
    tick = partial(asyncio.to_thread, Scheduler(db, settings).tick)
    await look_again(tick, settings.tick_s, stopping, _tell)


def _tell(error: Exception, said: str) -> None:
    log.error("the scheduler met an error and goes on: %s", said, exc_info=_trace(error))


def _trace(error: Exception) -> Exception | None:
    """The error where its traceback helps: a database that is away needs none."""
    return None if isinstance(error, DatabaseError) else error

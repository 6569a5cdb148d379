"""The scheduler's loop: every tick it plans and ends the leases that ran out. Knows no route and starts no stage."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from service.scheduler.planner import plan
from service.ticking import look_again
from storage.errors import DatabaseError
from storage.records import events, lost_attempts, planning, revision
from storage.records.agenda import Agenda
from storage.records.database import Database
from storage.settings import Settings

log = logging.getLogger("vlglab.scheduler")

MAX_ROUNDS = 100
"""Most times that one tick plans: each round may let the runs behind it go on."""


ALL_S = 60.0
"""Seconds between two plans of all that waits. In between only runs are planned that the agenda says may move."""


@dataclass(slots=True)
class Scheduler:
    """Ticks, and remembers what it has planned: while no run changes its state or its key there is nothing to plan."""

    db: Database
    settings: Settings
    clock: Callable[[], float] = time.monotonic
    _agenda: Agenda = field(default_factory=Agenda)
    _planned: int = -1
    """The last event when it planned without finding a move."""
    _planned_all: float = -math.inf
    """When it last planned all that waits."""

    def tick(self) -> int:
        """`tick`, unless nothing has happened since the last one; returns the number of moves.

        Raises:
            WrongRevision: the database was upgraded or downgraded under this service, which then plans nothing.
        """
        with self.db.read() as session:
            revision.check(session)
        end_lapsed(self.db, self.settings)
        last, moment = events.last(self.db), self.clock()
        if moment - self._planned_all >= ALL_S:
            self._agenda.take_all()
            self._planned_all = moment
        elif last == self._planned and not self._agenda.holds:
            return 0
        moved = plan_all(self.db, self._agenda)
        self._planned = -1 if moved else last
        return moved


def tick(db: Database, settings: Settings) -> int:
    """Ends lapsed leases, then plans all that waits until nothing moves; returns the number of moves."""
    end_lapsed(db, settings)
    return plan_all(db, Agenda())


def end_lapsed(db: Database, settings: Settings) -> None:
    """Ends the leases that ran out."""
    for run_id in lost_attempts.expire(db, settings.max_attempts):
        log.warning("the worker of the run %s is lost: its lease ran out", run_id, extra={"run_id": run_id})


def plan_all(db: Database, agenda: Agenda) -> int:
    """Plans what is on the agenda, and what that lets go on, until nothing moves; returns the number of moves."""
    moved = 0
    for _ in range(MAX_ROUNDS):
        moves = planning.advance(db, plan, agenda)
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

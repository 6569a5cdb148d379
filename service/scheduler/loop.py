"""The scheduler's loop: every tick it plans and ends the leases that ran out. Knows no route and starts no stage."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from service.scheduler.planner import plan
from storage.errors import DatabaseError
from storage.records import leases, planning
from storage.records.database import Database
from storage.settings import Settings

log = logging.getLogger("vlglab.scheduler")

MAX_ROUNDS = 100
"""Most times that one tick plans: each round may let the runs behind it go on."""


def tick(db: Database, settings: Settings) -> int:
    """Ends lapsed leases, then plans until nothing moves; returns the number of moves."""
    for run_id in leases.expire(db, settings.max_attempts):
        log.warning("the worker of the run %s is lost: its lease ran out", run_id)
    moved = 0
    for _ in range(MAX_ROUNDS):
        moves = planning.advance(db, plan)
        moved += len(moves)
        if not moves:
            break
    return moved


async def run(db: Database, settings: Settings, stopping: asyncio.Event) -> None:
    """Ticks until `stopping` is set. An error is logged and survived; the same one is logged once until it changes."""
    last = ""
    while not stopping.is_set():
        try:
            await asyncio.to_thread(tick, db, settings)
            last = ""
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            if said != last:
                log.error("the scheduler met an error and goes on: %s", said, exc_info=_trace(error))
            last = said
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), settings.tick_s)


def _trace(error: Exception) -> Exception | None:
    """The error where its traceback helps: a database that is away needs none."""
    return None if isinstance(error, DatabaseError) else error

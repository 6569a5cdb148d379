"""The collector's tick: deletes what was marked long enough ago, and warns of a quota. Marks nothing."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import partial

from service.ticking import look_again
from storage.artifacts.store import ArtifactStore
from storage.records import part_index, quotas
from storage.records.collecting import Collector, Found
from storage.records.database import Database
from storage.records.quotas import Fill
from storage.settings import Settings

log = logging.getLogger("vlglab.collector")

TICK_S = 10.0
"""Seconds between two looks."""


@dataclass(slots=True)
class Collecting:
    """Looks now and then, and remembers what it has warned of."""

    db: Database
    store: ArtifactStore
    settings: Settings
    _warned: Fill = "no_quota"

    def tick(self) -> tuple[Found, ...]:
        """Copies what usage is counted from, warns once of each stage of a full store, and deletes what is due.

        Raises:
            StoreUnwritable: the store cannot be changed.
            DatabaseError: the database does not answer.
        """
        part_index.update(self.db, self.store)
        with self.db.read() as session:
            room = quotas.room(session)
        if room.warning and room.fill != self._warned:
            log.warning("%s", room.warning)
        self._warned = room.fill
        removed = Collector(self.db, self.store, self.settings.store_path).collect_due()
        for one in removed:
            log.info("collected the %s %s (%d bytes): %s", one.what, one.id, one.num_bytes, one.why)
        return removed


async def run(db: Database, store: ArtifactStore, settings: Settings, stopping: asyncio.Event) -> None:
    """Ticks until `stopping` is set. An error is logged and survived; the same one is logged once until it changes."""
    tick = partial(asyncio.to_thread, Collecting(db, store, settings).tick)
    await look_again(
        tick, TICK_S, stopping, lambda _, said: log.warning("the collector met an error and goes on: %s", said)
    )

"""The collector's tick: deletes what was marked long enough ago, and warns of a quota. Marks nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from service.ticking import look_again
from storage.artifacts.run_files import RunFiles
from storage.artifacts.store import ArtifactStore
from storage.records import part_index, quotas
from storage.records.collecting import Collector, Found
from storage.records.database import Database
from storage.records.quotas import Fill
from storage.settings import Settings

log = logging.getLogger("vlglab.collector")

TICK_S = 10.0
"""Seconds between two looks."""
WHOLE_LOOK_S = 600.0
"""Seconds between two looks at every artifact whose parts are not copied, however old."""
OVERLAP = timedelta(seconds=60)
"""How long the transaction that records an artifact may take."""


@dataclass(slots=True)
class Collecting:
    """Looks now and then, and remembers what it has warned of."""

    db: Database
    store: ArtifactStore
    settings: Settings
    files: RunFiles | None = None
    """Where logs and checkpoints of runs lie."""
    _warned: Fill = "no_quota"
    _looked_at: datetime | None = None
    """Artifacts that were recorded since then may not be copied yet."""
    _whole_look_at: float = 0.0

    def tick(self) -> tuple[Found, ...]:
        """Copies what usage is counted from, warns once of each stage of a full store, and deletes what is due.

        Raises:
            StoreUnwritable: the store cannot be changed.
            DatabaseError: the database does not answer.
        """
        self._copy_parts()
        with self.db.read() as session:
            room = quotas.room(session)
        if room.warning and room.fill != self._warned:
            log.warning("%s", room.warning)
        self._warned = room.fill
        removed = Collector(self.db, self.store, self.settings.store_path, self.files).collect_due()
        for one in removed:
            log.info("collected the %s %s (%d bytes): %s", one.what, one.id, one.num_bytes, one.why)
        return removed

    def _copy_parts(self) -> None:
        """Copies the parts of what was recorded since the last tick, and now and then of everything.

        Manifests that cannot be read (a store that is not mounted, say) would else be tried anew at every tick.
        """
        moment, began = time.monotonic(), self.db.now()
        since = None if moment >= self._whole_look_at else self._looked_at
        part_index.update(self.db, self.store, since)
        if since is None:
            self._whole_look_at = moment + WHOLE_LOOK_S
        self._looked_at = began - OVERLAP


async def run(db: Database, store: ArtifactStore, settings: Settings, files: RunFiles, stopping: asyncio.Event) -> None:
    """Ticks until `stopping` is set. An error is logged and survived; the same one is logged once until it changes."""
    tick = partial(asyncio.to_thread, Collecting(db, store, settings, files).tick)
    await look_again(
        tick, TICK_S, stopping, lambda _, said: log.warning("the collector met an error and goes on: %s", said)
    )

"""Sweeps the store on a host now and then, in a thread of its own: one that does not answer holds up no run."""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import dataclass

from storage.artifacts import choose
from storage.artifacts.run_files import RunFiles
from storage.errors import VlglabError
from storage.records import staging
from storage.records.database import Database
from storage.settings import Settings

EVERY_S = 60.0
"""Seconds between two sweeps."""
DROP_EVERY_S = 3600.0
"""Seconds between two looks at what lies on this host alone."""
CLOSE_S = 5.0
"""Seconds that a sweep may go on when the host stops."""

log = logging.getLogger("vlglab.host")


@dataclass(slots=True)
class Sweeper:
    """Removes what attempts that are over have left staged, and on this host alone."""

    db: Database
    config: Settings
    files: RunFiles
    """Logs and checkpoints of runs."""
    _last: float = -math.inf
    _dropped: float = -math.inf
    _thread: threading.Thread | None = None

    def look(self) -> None:
        """Begins a sweep where one is due and none goes on; called every tick."""
        goes_on = self._thread is not None and self._thread.is_alive()
        if goes_on or time.monotonic() - self._last <= EVERY_S:
            return
        self._last = time.monotonic()
        self._thread = threading.Thread(target=self.sweep, name="sweep", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Waits for the sweep that goes on, but not for long: the next host ends what it has begun."""
        if self._thread is not None:
            self._thread.join(CLOSE_S)

    def sweep(self) -> None:
        """Sweeps once; where the store cannot be swept, the next sweep may."""
        try:
            if self.files.are_sent and time.monotonic() - self._dropped > DROP_EVERY_S:
                self._dropped = time.monotonic()
                self._drop()
            removed = staging.sweep(self.db, choose.open_store(self.config))
        except (OSError, VlglabError) as error:
            log.warning("the store cannot be swept: %s", error)
            return
        if removed:
            log.info("swept what %d attempts had left staged", removed)

    def _drop(self) -> None:
        """Removes logs and checkpoints of runs that were deleted, or have ended well, elsewhere."""
        gone, ended = staging.needless(self.db, self.files.runs_here())
        self.files.drop(gone, ended)

"""Runs that somebody cancelled end in time: asked by their heartbeat, then by SIGTERM, then by SIGKILL.

A process that works hears of it by its heartbeat and stops by itself. This is for those that do not: stuck in a call,
without a heartbeat, deaf to signals, or left by a host that died. Knows neither stages nor what a run writes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from storage.records import cancellations, lost_attempts
from storage.records.database import Database
from workers.launchers.launcher import Launcher, Started, Stoppable

log = logging.getLogger("vlglab.host")

SIGNAL_AFTER_S = 1.5
"""Seconds that a cancelled run gets to stop by itself before it is sent SIGTERM."""
KILL_AFTER_S = 3.0
"""Seconds after which it is killed, its children included."""
OVER_S = 15.0
"""Seconds that a process may go on after its attempt has ended, before it is killed."""


@dataclass(slots=True)
class Stopper:
    """Watches what should end on one machine."""

    db: Database
    launcher: Launcher
    machine: str
    """The name that the machine's hosts register under."""
    max_attempts: int
    _since: dict[str, float] = field(default_factory=dict)
    """Token -> when it was first seen that it should end, on this process's clock."""
    _told: set[str] = field(default_factory=set)
    """Tokens whose processes were sent SIGTERM."""

    def look(self, running: Sequence[Started]) -> None:
        """Signals or kills what has had its time; called every tick.

        Args:
            running: what this host has started and still sees.
        """
        mine: Mapping[str, Started] = {started.claim.token: started for started in running}
        seen = cancellations.unwanted(self.db, self.machine, mine.keys())
        moment = time.monotonic()
        self._since = {token: self._since.get(token, moment) for token in (*seen.cancelled, *seen.over)}
        self._told &= self._since.keys()
        for token, run_id in seen.cancelled.items():
            self._press(token, run_id, mine.get(token), moment - self._since[token])
        for token in seen.over:
            if moment - self._since[token] > OVER_S:
                claim = mine[token].claim
                about = {"run_id": claim.run_id, "attempt": claim.attempt}
                log.warning("the process of %s outlived its attempt and is killed", claim.run_id, extra=about)
                mine[token].kill()

    def _press(self, token: str, run_id: str, process: Stoppable | None, waited_s: float) -> None:
        """Does what is due to a cancelled run that was seen `waited_s` ago."""
        kill = waited_s > KILL_AFTER_S
        if not kill and (waited_s <= SIGNAL_AFTER_S or token in self._told):
            return
        process = process or self.launcher.find(run_id)
        if not kill:
            self._told.add(token)
            if process is not None:
                process.terminate()
            return
        if process is not None:
            process.kill()
        why = f"it did not stop within {KILL_AFTER_S:g} s of being cancelled and was killed"
        if lost_attempts.abandon(self.db, token, why, self.max_attempts):
            said = "the run %s was killed: somebody cancelled it, and it did not stop"
            log.warning(said, run_id, extra={"run_id": run_id})

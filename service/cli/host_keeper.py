"""The watch over the worker host beside the service: one is started where none lives, and another when it dies.
A host that was told to drain is not followed by another.

Knows processes and pauses, and nothing of what a host does. Imports no worker.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field

from service.cli.host_process import EarlierHost, HostProcess, living_host, was_drained
from storage.errors import VlglabError
from storage.settings import Settings

log = logging.getLogger("vlglab.serve")

LOOK_S = 0.5
"""Seconds between two looks at the host's process."""
FIRST_PAUSE_S = 1.0
"""Seconds before another host is started in a dead one's place."""
LONGEST_PAUSE_S = 60.0
"""Most that this pause grows to while hosts die soon after they are started."""
CALM_S = 60.0
"""Seconds that a host must have lived for the pause to begin anew."""


@dataclass
class HostKeeper:
    """Keeps a worker host alive from `start` to `stop`, in a thread."""

    config: Settings
    first_pause_s: float = FIRST_PAUSE_S
    _own: HostProcess | None = None
    """The last host that was started here; None where one of an earlier service works on."""
    _drained: bool = False
    """Somebody told the host to end: no other is started in its place."""
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins the watch: takes over the host of an earlier service, or starts one."""
        self._thread = threading.Thread(target=self._keep, name="host-keeper", daemon=True)
        self._thread.start()

    def stop(self, *, end_host: bool) -> None:
        """Ends the watch, and where `end_host` says so the host that it started; one of an earlier service goes on."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        if end_host and self._own is not None:
            self._own.stop()

    def _keep(self) -> None:
        pause_s = 0.0
        while not self._stopping.wait(pause_s):
            began = time.monotonic()
            try:
                said = self._watch_one()
            except (VlglabError, OSError) as error:
                said = f"no worker host could be started ({error})"
            if self._stopping.is_set() or self._drained:
                return
            lived_s = time.monotonic() - began
            pause_s = next_pause(pause_s, lived_s, first_s=self.first_pause_s)
            log.warning("%s after %.1f s; another is started in %.1f s", said, lived_s, pause_s)

    def _watch_one(self) -> str:
        """Finds or starts a host, waits until it has ended, and says how; returns early when the watch ends."""
        self._own = None
        host: HostProcess | EarlierHost | None = living_host(self.config)
        if host is not None:
            log.info("the worker host of an earlier service (process %d) goes on", host.pid)
        elif self._stopping.is_set():
            return ""
        else:
            host = self._own = HostProcess.start(self.config)
        while not host.ended():
            if self._stopping.wait(LOOK_S):
                return ""
        self._drained = was_drained(self.config, host.pid)
        if self._drained:
            log.info("the worker host (process %d) is drained; the next start of the service starts another", host.pid)
            return ""
        return f"the worker host (process {host.pid}) has ended, {host.last_words()},"


def next_pause(
    last_s: float, lived_s: float, *, first_s: float = FIRST_PAUSE_S, longest_s: float = LONGEST_PAUSE_S
) -> float:
    """Seconds to wait before the next host is started.

    Args:
        last_s: the pause before the host that has died; 0 for the first.
        lived_s: how long that one lived, seconds.
        first_s: the shortest pause.
        longest_s: the longest.

    Examples:
        >>> [next_pause(0, 2), next_pause(1, 2), next_pause(32, 2), next_pause(60, 2), next_pause(60, 3600)]
        [1.0, 2.0, 60.0, 60.0, 1.0]
    """
    return first_s if lived_s >= CALM_S else min(max(2.0 * last_s, first_s), longest_s)

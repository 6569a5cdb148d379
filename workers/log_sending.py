"""Sends the logs of a host's runs while they grow, where other hosts cannot read this host's disk."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path

from storage.artifacts.run_files import RunFiles
from storage.errors import VlglabError

EVERY_S = 5.0
"""Seconds between two looks at the logs."""
CLOSE_S = 10.0
"""Seconds that the last sending may take when the host stops."""

log = logging.getLogger("vlglab.host")


class LogSender:
    """Sends logs from a thread of its own: a bucket that does not answer holds up nothing else."""

    def __init__(self, files: RunFiles) -> None:
        """Holds where logs lie and are sent to. On a disk that hosts share there is nothing to do, and no thread."""
        self._files = files
        self._growing: dict[Path, int] = {}
        """Log -> bytes that were sent."""
        self._over: set[Path] = set()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="logs", daemon=True) if files.are_sent else None
        if self._thread is not None:
            self._thread.start()

    @property
    def sends(self) -> bool:
        """Whether there is anything to do."""
        return self._files.are_sent

    def begins(self, run_id: str, attempt: int) -> None:
        """An attempt's process was started."""
        if self._thread is not None:
            self._growing.setdefault(self._files.log(run_id, attempt), 0)

    def ended(self, run_id: str, attempt: int) -> None:
        """An attempt's process is gone: its log grows no more."""
        if self._thread is not None:
            self._over.add(self._files.log(run_id, attempt))

    def take_over(self, begun: Mapping[tuple[str, int], bool]) -> None:
        """Sends what hosts that died had not: their runs' processes may have gone on, and may do so yet.

        Args:
            begun: run's id and number of the attempt -> whether it goes on; those whose logs lie elsewhere are left.
        """
        for (run_id, attempt), goes_on in begun.items():
            if not goes_on:
                self.ended(run_id, attempt)
            self.begins(run_id, attempt)

    def close(self) -> None:
        """Sends what is left and ends the thread."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(CLOSE_S)

    def _run(self) -> None:
        last = False
        while not last:
            last = self._closing.wait(EVERY_S)
            for path in list(self._growing):
                self._send(path)

    def _send(self, path: Path) -> None:
        """Sends a log that has grown; forgets one that is over and was sent whole."""
        is_over = path in self._over
        try:
            self._growing[path] = self._files.send_log(path, self._growing[path])
        except FileNotFoundError:
            is_over = True  # its run was deleted, or it lies at another host of the machine
        except (OSError, VlglabError) as error:
            log.warning("the log %s could not be sent and is sent later: %s", path.name, error)
            return
        if is_over:
            self._over.discard(path)
            del self._growing[path]

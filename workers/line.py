"""The line between a run and its records: heartbeats, metrics, progress, and the word to stop.

A thread keeps the lease; the stage only leaves values here, so that reporting costs it nothing.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import psutil

from storage.errors import DatabaseError, LeaseLost, RunCancelled, RunStopped, TimeLimitReached, VlglabError
from storage.records import leases
from storage.records.database import Database
from storage.records.features import Finding
from storage.settings import Settings

log = logging.getLogger("vlglab.run")

GRACE_S = 3.0
"""How long a stage may take to notice that it must stop before the process ends itself."""


class Line:
    """The reporter of one attempt. Use as a context manager around the work."""

    def __init__(self, db: Database, token: str, config: Settings, time_limit_s: float | None = None) -> None:
        """Args: the database, the attempt's fencing token, the deployment's settings, and how long it may take."""
        self._time_limit_s = time_limit_s
        self._began = time.monotonic()
        self.token = token
        self._db = db
        self._config = config
        self._lock = threading.Lock()
        self._points: list[tuple[str, int, float]] = []
        self._notes: list[str] = []
        self._progress: dict[str, Any] | None = None
        self._stop: RunStopped | TimeLimitReached | None = None
        self._stopped_at = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="heartbeat", daemon=True)
        self._process = psutil.Process()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if kind is not None and not isinstance(error, LeaseLost):
            try:
                self._send()
            except VlglabError as unsent:  # what the stage raised is what counts
                log.warning("the last metrics and notes are lost: %s", unsent)

    # ---- what the stage says

    def metric(self, name: str, step: int, value: float) -> None:
        """Records one point of a metric's history."""
        with self._lock:
            self._points.append((name, step, value))

    def progress(self, **progress: Any) -> None:
        """Replaces the run's progress."""
        with self._lock:
            self._progress = progress

    def note(self, message: str) -> None:
        """Adds a line to the run's events."""
        log.info("%s", message)
        with self._lock:
            self._notes.append(message)

    def verified(self, key: str, faults: Sequence[str], num_covered: int | None) -> None:
        """Records at once what a verification found."""
        leases.record_finding(self._db, self.token, key, Finding.of(faults, num_covered))

    def keep_room(self, parts: Mapping[str, int]) -> None:
        """Asks the records at once; see `Reporter.keep_room`."""
        leases.keep_room(self._db, self.token, parts)

    def check(self) -> None:
        """Raises what the run was stopped with, if it was."""
        if self._stop is not None:
            raise self._stop

    def stop(self, reason: str) -> None:
        """Tells the stage to stop and to give the run back."""
        self._halt(RunStopped(reason))

    def flush(self) -> None:
        """Ends the heartbeat and sends what is left, before the run's last write.

        Raises:
            LeaseLost: the run is no longer this attempt's.
        """
        self._ended.set()
        self._thread.join()
        self.check()
        self._send()

    # ---- the heartbeat

    def _keep(self) -> None:
        while not self._ended.wait(self._config.heartbeat_s):
            try:
                self._send()
            except LeaseLost as lost:
                self._halt(lost)
            except Exception as error:  # noqa: BLE001 - a heart that stops for one beat must not stop for good
                log.warning("no heartbeat: %s", error)
            if self._time_limit_s is not None and time.monotonic() - self._began > self._time_limit_s:
                self._halt(TimeLimitReached(f"it took more than {self._time_limit_s:g} s, its time limit"))
            if self._stop is not None and time.monotonic() - self._stopped_at > GRACE_S:
                self._end_now(self._stop)

    def _send(self) -> None:
        """Renews the lease and sends what has gathered."""
        with self._lock:
            points, self._points = self._points, []
            notes, self._notes = self._notes, []
            progress, self._progress = self._progress, None
        try:
            self._write(points, notes, progress)
        except DatabaseError:
            self._keep_for_the_next_beat(points, notes, progress)
            raise

    def _keep_for_the_next_beat(
        self, points: list[tuple[str, int, float]], notes: list[str], progress: dict[str, Any] | None
    ) -> None:
        """Puts back what could not be sent: `_write` has taken out the notes that were; points are written over."""
        with self._lock:
            self._points = points + self._points
            self._notes = notes + self._notes
            if self._progress is None:
                self._progress = progress

    def _write(self, points: list[tuple[str, int, float]], notes: list[str], progress: dict[str, Any] | None) -> None:
        rss = self._process.memory_info().rss
        if leases.beat(self._db, self.token, lease_s=self._config.lease_s, progress=progress, rss_bytes=rss):
            self._halt(RunCancelled("somebody cancelled the run"))
        if points:
            leases.append_metrics(self._db, self.token, points)
        while notes:
            leases.note(self._db, self.token, notes[0])
            del notes[0]

    def _halt(self, reason: RunStopped | TimeLimitReached) -> None:
        if self._stop is None:
            self._stopped_at = time.monotonic()
            self._stop = reason

    def _end_now(self, reason: RunStopped | TimeLimitReached) -> None:
        """Ends a process whose stage does not notice that it must stop; what is published stays as it is."""
        log.warning("the stage did not stop within %.0f s; ending the process: %s", GRACE_S, reason)
        try:
            if isinstance(reason, RunCancelled):
                leases.cancelled(self._db, self.token)
            elif isinstance(reason, TimeLimitReached):
                leases.fail(self._db, self.token, reason.code, reason.message)
            elif not isinstance(reason, LeaseLost):
                leases.release(self._db, self.token, reason.message)
        finally:
            os._exit(3)

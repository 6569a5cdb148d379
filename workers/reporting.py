"""What a run tells of itself while it runs: metrics, progress, notes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


class Reporter(Protocol):
    """The line back. Its methods return quickly; they may raise RunStopped."""

    def metric(self, name: str, step: int, value: float) -> None:
        """Records one point of a metric's history."""

    def progress(self, **progress: Any) -> None:
        """Replaces the run's progress: unit, done, total, and where known loss, eta_s, message."""

    def note(self, message: str) -> None:
        """Adds a line to the run's events, for people."""

    def verified(self, key: str, faults: Sequence[str], num_covered: int | None) -> None:
        """Records beside an artifact what its verification found.

        Args:
            key: of the artifact.
            faults: a sentence each; none where all is well.
            num_covered: points that have an embedding, None where they could not be counted.
        """

    def keep_room(self, parts: Mapping[str, int]) -> None:
        """Keeps room of the quota for all that the run will bring in (part's key -> bytes), until it ends.

        Raises:
            QuotaExceeded: the quota has not so much; nothing should be fetched.
        """

    def check(self) -> None:
        """Raises RunCancelled or LeaseLost when the run must stop."""


@dataclass(slots=True)
class Pace:
    """Reports progress through a known number of items, with the time left at the pace so far."""

    reporter: Reporter
    unit: str
    total: int
    done: int = 0
    skipped: int = 0
    """Items that cost nothing, because an earlier attempt had done them."""
    _start: float = field(default_factory=time.monotonic)

    def advance(self, *, free: bool = False, **extra: Any) -> None:
        """Counts one more item; `free` where it was there already; `extra` goes into the progress, such as loss."""
        self.done += 1
        self.skipped += free
        worked = self.done - self.skipped
        elapsed = time.monotonic() - self._start
        eta = elapsed / worked * (self.total - self.done) if worked else 0.0
        self.reporter.progress(unit=self.unit, done=self.done, total=self.total, eta_s=round(eta, 1), **extra)
        self.reporter.check()

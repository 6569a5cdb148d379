"""How many requests a caller may make. Knows no request and no token."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from service.problems import TooManyRequests

_MOST_CALLERS = 10_000
"""Buckets kept; beyond, all are forgotten, which lets everybody in once more."""


@dataclass(slots=True)
class Rate:
    """A bucket a caller that fills at a steady rate: short bursts pass, a flood does not."""

    per_s: float
    """Requests a second in the long run; 0 sets no limit."""
    _left: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Caller -> requests left, and when that was so."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, caller: str) -> None:
        """Counts one request.

        Raises:
            TooManyRequests: the caller's bucket is empty.
        """
        if not self.per_s:
            return
        moment, most = time.monotonic(), max(1.0, 2 * self.per_s)
        with self._lock:
            left, since = self._left.get(caller, (most, moment))
            left = min(most, left + (moment - since) * self.per_s)
            taken = left >= 1
            if caller not in self._left and len(self._left) >= _MOST_CALLERS:
                self._left.clear()
            self._left[caller] = (left - 1 if taken else left, moment)
        if not taken:
            raise TooManyRequests(
                f"got more than {self.per_s:g} requests a second; wait, ask for longer pages, or have an admin raise "
                "VLGLAB_REQUESTS_PER_S"
            )

"""When a request is sent again, and after how long: which calls are safe, and which faults pass. Knows no route."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

PASSING = frozenset({429, 502, 503, 504})
"""Statuses of answers that pass: this caller asked too often, or the service is away behind its proxy."""

_SAFE = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a safe call is sent again after a fault that passes, and how long is waited before each."""

    times: int = 4
    """How often at most; 0 for never."""
    first_s: float = 0.2
    """Longest pause before the first time; it doubles with each that follows."""
    longest_s: float = 5.0
    """Most that the pause grows to."""
    patience_s: float = 60.0
    """Seconds after the first try within which the last one begins; a longer Retry-After is not waited for."""

    def pause_s(self, number: int, elapsed_s: float, asked_s: float | None = None) -> float | None:
        """Seconds until a request is sent again; None where it is not.

        The pause is drawn between its half and its whole, so that callers who failed together come back apart.

        Args:
            number: how often it has been sent again already.
            elapsed_s: seconds since it was sent first.
            asked_s: seconds that the service asks to wait at least (Retry-After); None where it says nothing.

        Examples:
            >>> Retries(first_s=0, patience_s=9).pause_s(0, 0.0, asked_s=2)
            2.0
            >>> Retries(times=3).pause_s(3, 0.0) is Retries(patience_s=9).pause_s(0, 0.0, asked_s=10) is None
            True
        """
        if number >= self.times:
            return None
        whole = min(self.first_s * 2.0**number, self.longest_s)
        pause = whole * random.uniform(0.5, 1.0) + (asked_s or 0.0)
        return pause if elapsed_s + pause <= self.patience_s else None


USUAL = Retries()
"""What a client does unless told otherwise."""

NEVER = Retries(times=0)
"""Each request is sent once."""


def is_safe(method: str, *, has_key: bool) -> bool:
    """Whether a request may be sent twice: it changes nothing, or carries an Idempotency-Key.

    Examples:
        >>> is_safe("GET", has_key=False), is_safe("POST", has_key=True), is_safe("POST", has_key=False)
        (True, True, False)
    """
    return method in _SAFE or has_key


def retry_after_s(header: str | None) -> float | None:
    """Seconds that a Retry-After header asks to wait, given as seconds or as a date; None where it says neither.

    Examples:
        >>> retry_after_s("3"), retry_after_s("soon"), retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT")
        (3.0, None, 0.0)
    """
    if header is None:
        return None
    if header.strip().isascii() and header.strip().isdigit():
        return float(header)
    try:
        at = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())

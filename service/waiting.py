"""Waiting until runs have ended, while the service may be away for a short time. Knows how to ask, and no route."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from service.schemas import ExperimentDetail, Run
from storage.errors import ServiceUnreachable, WaitedTooLong

FINAL = frozenset({"succeeded", "cached", "failed", "cancelled"})
"""States that a run does not leave unless somebody has it retried, as they come over HTTP."""
PATIENCE_S = 30.0
"""Seconds that a service may be away, as while it restarts, before waiting is given up."""

_T = TypeVar("_T")
_Waited = TypeVar("_Waited", bound=Run | ExperimentDetail)


@dataclass
class Patient(Generic[_T]):
    """Calls `fetch`, answering with what it last gave while the service is away for a short time."""

    fetch: Callable[[], _T]
    patience_s: float = PATIENCE_S
    last: _T | None = None
    heard: float = field(default_factory=time.monotonic)

    def __call__(self) -> _T:
        """What was fetched, at most `patience_s` old.

        Raises:
            ServiceUnreachable: the service was away for longer, or at the first call.
        """
        try:
            self.last = self.fetch()
        except ServiceUnreachable:
            if self.last is None or time.monotonic() - self.heard > self.patience_s:
                raise
            return self.last
        self.heard = time.monotonic()
        return self.last


def readings(
    fetch: Callable[[], _T], ended: Callable[[_T], bool], *, timeout_s: float | None = None, poll_s: float = 0.5
) -> Iterator[_T]:
    """What is read again and again, until a reading says that it has ended.

    Args:
        fetch: reads it from the service.
        ended: whether a reading is the last.
        timeout_s: how long to go on at most; None for as long as it takes.
        poll_s: seconds between two readings.

    Raises:
        WaitedTooLong: it has not ended in time; it goes on.
        ServiceUnreachable: the service was away for longer than PATIENCE_S.
    """
    patient = Patient(fetch)
    limit_s = math.inf if timeout_s is None else timeout_s
    end = time.monotonic() + limit_s
    while True:
        found = patient()
        yield found
        if ended(found):
            return
        left_s = end - time.monotonic()
        if left_s <= 0:
            raise WaitedTooLong(f"what was waited for has not ended in {limit_s:g} s and goes on; wait for it again")
        time.sleep(min(poll_s, left_s))


def until_ended(
    fetch: Callable[[], _Waited],
    progress: Callable[[_Waited], None] | None = None,
    *,
    timeout_s: float | None = None,
    poll_s: float = 0.5,
) -> _Waited:
    """A run, or an experiment, once it has ended; as `readings`.

    Args:
        fetch: reads it from the service.
        progress: called with each reading that differs from the one before, the first and the last included.
        timeout_s: how long to wait at most; None for as long as it takes.
        poll_s: seconds between two readings.
    """
    before: _Waited | None = None
    for found in readings(fetch, has_ended, timeout_s=timeout_s, poll_s=poll_s):
        if progress is not None and found != before:
            progress(found)
        before = found
    assert before is not None, "there is always a first reading"
    return before


def has_ended(found: Run | ExperimentDetail) -> bool:
    """Whether a run, or every run of an experiment, is in a final state."""
    return all_ended([found] if isinstance(found, Run) else found.runs)


def all_ended(runs: Sequence[Run]) -> bool:
    """Whether every run is in a final state."""
    return all(run.state in FINAL for run in runs)

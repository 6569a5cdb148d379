"""The states of a run and every legal move between them: the only copy. Knows no table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from storage.errors import IllegalMove

RunState = Literal["queued", "ready", "running", "succeeded", "cached", "failed", "cancelled"]
"""queued: waits for its inputs; ready: a host may take it; running: a worker holds its lease; the rest are final."""

AttemptState = Literal["running", "succeeded", "cached", "failed", "cancelled", "released", "lost"]
"""How one attempt went; `released`: given back unharmed, `lost`: its lease ran out."""

OwnersEnd = Literal["succeeded", "failed", "cancelled"]
"""Final states that the owner of a run may give it, where its owner runs it."""

STATES: tuple[RunState, ...] = get_args(RunState)

FINAL: frozenset[RunState] = frozenset({"succeeded", "cached", "failed", "cancelled"})
"""States that change no more, unless somebody retries the run."""

RETRIABLE: frozenset[RunState] = frozenset({"failed", "cancelled"})
"""Final states that a retry, and nothing else, leads out of, back to `queued`."""

DONE: frozenset[RunState] = frozenset({"succeeded", "cached"})
"""Final states with outputs."""

LIVE: frozenset[RunState] = frozenset({"ready", "running"})
"""States in which a run stands for its key: a second run of the same key waits."""

LEGAL: Mapping[RunState, frozenset[RunState]] = {
    "queued": frozenset({"ready", "cached", "cancelled"}),
    "ready": frozenset({"running", "queued", "cancelled"}),
    "running": frozenset({"succeeded", "cached", "failed", "cancelled", "queued"}),
    "succeeded": frozenset(),
    "cached": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}
"""State -> the states that a run may go to from it."""


def check_move(run_id: str, state: RunState, to: RunState) -> None:
    """Checks that a run may go from one state to another.

    Raises:
        IllegalMove: it may not.

    Examples:
        >>> check_move("r1", "queued", "ready")
        >>> check_move("r1", "failed", "queued")
        Traceback (most recent call last):
        storage.errors.IllegalMove: the run r1 is failed and cannot become queued; that state is final
    """
    if to not in LEGAL[state]:
        ways = f"it can become: {', '.join(sorted(LEGAL[state]))}" if LEGAL[state] else "that state is final"
        raise IllegalMove(f"the run {run_id} is {state} and cannot become {to}; {ways}")


def check_retry(run_id: str, state: RunState) -> None:
    """Checks that a run may be queued again though it has ended.

    Raises:
        IllegalMove: it may not.

    Examples:
        >>> check_retry("r1", "failed")
        >>> check_retry("r1", "running")
        Traceback (most recent call last):
        storage.errors.IllegalMove: the run r1 is running; only runs that failed or were cancelled can be retried
    """
    if state not in RETRIABLE:
        raise IllegalMove(f"the run {run_id} is {state}; only runs that failed or were cancelled can be retried")

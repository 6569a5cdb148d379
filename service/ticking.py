"""Looking again and again until the service stops: what each of its background tasks does. Knows no task."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable


async def look_again(
    look: Callable[[], Awaitable[object]],
    every_s: float,
    stopping: asyncio.Event,
    tell: Callable[[Exception, str], None],
) -> None:
    """Looks until `stopping` is set. An error is told and survived; the same one is told once until it changes.

    Args:
        look: one look.
        every_s: seconds between two.
        stopping: set where it shall end.
        tell: logs an error, given it and its words.
    """
    last = ""
    while not stopping.is_set():
        try:
            await look()
            last = ""
        except Exception as error:  # noqa: BLE001 - whatever it is, the next look may go well
            said = f"{type(error).__name__}: {error}"
            if said != last:
                tell(error, said)
            last = said
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), every_s)

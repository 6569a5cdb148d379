"""Events as they happen: Server-Sent Events that a client can take up again where it lost them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse

from service import examples, problems
from service.access import Pass, ThePass
from service.dependencies import TheDatabase, TheFeed
from service.feed import Entry, Feed, Only, entry_of
from service.schemas import Event
from storage.errors import InvalidInput
from storage.records import events, experiments, runs
from storage.records.database import Database
from storage.records.states import FINAL

KEEP_ALIVE_S = 15.0
"""Seconds of silence after which a comment is sent, so that nobody between takes the line for dead."""
LOOK_AGAIN_S = 10.0
"""Seconds after which a stream that has something to send asks again whether its token is good: a revoked one hears no
more than this, and ends with the next comment at the latest."""
STREAMS = 200
"""Streams that a caller may hold at once."""
RETRY_MS = 1000
"""When a browser that lost the stream asks again."""
_AT_ONCE = 500

router = APIRouter(tags=["runs"], responses=problems.RESPONSES)

EXAMPLE = f"id: {examples.EVENT['id']}\nevent: state\ndata: {Event(**examples.EVENT).model_dump_json()}\n\n"


@router.get(
    "/events/stream",
    summary="Follow events",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-Sent Events; each event's id is where to go on from.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": EXAMPLE}},
        }
    },
)
def stream_events(
    db: TheDatabase,
    feed: TheFeed,
    shown: ThePass,
    run: Annotated[str | None, Query(description="Only this run's; the stream ends with the run.")] = None,
    experiment: Annotated[str | None, Query(description="Only those of an experiment's runs.")] = None,
    cursor: Annotated[int, Query(ge=0, le=2**53, description="Id of the last event that is known; 0 for all.")] = 0,
    last_event_id: Annotated[str | None, Header(description="What a browser sends in the cursor's place.")] = None,
) -> Response:
    """What has happened after `cursor`, then what happens, in the order in which it is committed; none is left out.

    Every event is sent as `event: state` or `event: note` with its id. A stream of one run ends with `event: end` when
    the run has ended; others last until somebody hangs up, the token is revoked or expires, or the service stops. A
    caller may hold so many streams at once (`TooManyRequests`).
    """
    if feed.streams[shown.caller] >= STREAMS:
        raise problems.TooManyRequests(
            f"got one more than the {STREAMS} streams of events that a caller may hold at once; hang up one, or follow "
            "an experiment in place of its runs"
        )
    if run is not None:
        runs.get(db, run)
    if experiment is not None:
        experiments.get(db, experiment)
    if last_event_id is not None:
        if not (last_event_id.isascii() and last_event_id.isdigit() and int(last_event_id) <= 2**53):
            raise InvalidInput(f"got the Last-Event-ID {last_event_id!r}, expected the id of an event, a whole number")
        cursor = int(last_event_id)
        if run is not None and _is_over(db, run, cursor):
            return Response(status_code=204)  # tells a browser that asks again after the end to ask no more
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    lines = _counted(_lines(db, feed, Only(run, experiment), cursor), feed, shown)
    return StreamingResponse(lines, media_type="text/event-stream", headers=headers)


def _is_over(db: Database, run_id: str, cursor: int) -> bool:
    """Whether a run has ended and its last event is known."""
    ended = runs.get(db, run_id).state in FINAL
    return ended and not events.after(db, run_id, cursor, 1)


async def _counted(lines: AsyncIterator[str], feed: Feed, shown: Pass) -> AsyncIterator[str]:
    """A caller's stream, as long as the caller may listen."""
    feed.streams[shown.caller] += 1
    looked = time.monotonic()
    try:
        async for text in lines:
            if time.monotonic() - looked >= LOOK_AGAIN_S:
                looked = time.monotonic()
                if not await asyncio.to_thread(shown.holds):
                    return
            yield text
    finally:
        feed.streams[shown.caller] -= 1


async def _lines(db: Database, feed: Feed, only: Only, cursor: int) -> AsyncIterator[str]:
    """The text of a stream, from the event after `cursor` on. The table is read only for what the feed's tail lacks."""
    yield f"retry: {RETRY_MS}\n\n"
    seen = cursor
    """Everything up to this event was sent, or is not of this stream: it goes on while others' events happen."""
    over: bool | None = None if only.run is not None else False
    """Whether the run of the stream had ended with the last event that was sent; None before that is known."""
    while not feed.closed:
        known = feed.last
        in_tail = None if over is None else feed.after(seen, only)
        if in_tail is not None:
            found = in_tail
        else:
            over, found = await asyncio.to_thread(_from_table, db, only, seen)
        if found:
            cursor = seen = found[-1].id
            over = only.run is not None and found[-1].state in FINAL
            yield "".join(entry.text for entry in found)
        if len(found) >= _AT_ONCE:
            continue
        if over:
            yield f"id: {cursor}\nevent: end\ndata: {{}}\n\n"
            return
        seen = max(known, seen)
        if not await feed.newer(seen, KEEP_ALIVE_S, only):
            yield ": still here\n\n"


def _from_table(db: Database, only: Only, cursor: int) -> tuple[bool, list[Entry]]:
    """Whether the run of a stream is over, where no event follows; and the first events of the stream after `cursor`.

    The state is read first: with no event after `cursor` in the second reading, it is still the run's.
    """
    over = only.run is not None and runs.get(db, only.run).state in FINAL
    found = events.after(db, only.run, cursor, _AT_ONCE, experiment_id=only.experiment)
    return over, [entry_of(event) for event in found]

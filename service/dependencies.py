"""What routes are given: the parts that `create_app` wired, found on the request's app."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import BackgroundTasks, Depends, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from service import examples
from service.feed import Feed
from service.known_tokens import KnownTokens
from service.measures import Measures
from service.rate import Rate
from service.schemas import DryRun as Plan
from storage.artifacts.run_files import RunFiles
from storage.artifacts.store import ArtifactStore
from storage.records.database import Database
from storage.records.group_commit import GroupCommit
from storage.records.runs import Run
from storage.records.submissions import Submission
from storage.settings import Settings
from storage.specs.plans import PlannedRun

THREADS = 8
"""Requests that are worked on at once: more would wait for each other, for the interpreter and for the database."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the service is made of."""

    settings: Settings
    db: Database
    store: ArtifactStore
    run_files: RunFiles
    rate: Rate
    feed: Feed
    measures: Measures
    tokens: KnownTokens
    create: GroupCommit[tuple[PlannedRun, Submission], tuple[Run, bool]]
    """Creates single runs, as `creating.create_each`; those that come at once in one transaction."""
    comparing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    """Held by whoever compares feature stores: one at a time, so that their memory is bounded."""
    fetching: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(THREADS // 2))
    """Held by whoever asks the store, for object storage may take long, or hang: half of the threads."""

    async def clear_store(self) -> None:
        """Removes for good what was withdrawn from the store."""
        async with self.fetching:
            await run_in_threadpool(self.store.clear)


def parts(request: Request) -> Parts:
    """The parts of the app that a request came to."""
    found = request.app.state.parts
    assert isinstance(found, Parts)
    return found


# These do nothing that waits: as coroutines they run where the request is, not in a thread each.


async def _parts(request: Request) -> Parts:
    return parts(request)


async def _settings(request: Request) -> Settings:
    return parts(request).settings


async def _db(request: Request) -> Database:
    return parts(request).db


async def _store(request: Request) -> AsyncIterator[ArtifactStore]:
    """The store, held until the route has made its answer: however many ask one that hangs, threads are left."""
    found = parts(request)
    async with found.fetching:
        yield found.store


async def _clear_after(request: Request, after: BackgroundTasks) -> Callable[[], None]:
    return lambda: after.add_task(parts(request).clear_store)


async def _run_files(request: Request) -> RunFiles:
    return parts(request).run_files


async def _feed(request: Request) -> Feed:
    return parts(request).feed


async def _measures(request: Request) -> Measures:
    return parts(request).measures


TheParts = Annotated[Parts, Depends(_parts)]
TheSettings = Annotated[Settings, Depends(_settings)]
TheDatabase = Annotated[Database, Depends(_db)]
TheStore = Annotated[ArtifactStore, Depends(_store, scope="function")]
"""Counts against `Parts.fetching`. Whoever asks for files of runs takes it too, or holds that itself."""
ClearAfter = Annotated[Callable[[], None], Depends(_clear_after)]
"""Called, it has what was withdrawn removed for good when the answer is sent."""
TheRunFiles = Annotated[RunFiles, Depends(_run_files)]
TheFeed = Annotated[Feed, Depends(_feed)]
TheMeasures = Annotated[Measures, Depends(_measures)]

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="A name of this request: sent again, it finds what the first made and makes nothing. 409: another"
        " request used it (`key_reused`), or what it made has been deleted (`key_spent`).",
        examples=["5f0c1d2e-sweep-3"],
    ),
]


def again(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """The answer to a request that was sent again under its Idempotency-Key, for the documentation."""
    return {200: {"model": model, "description": "A request with this Idempotency-Key made it before."}}


def again_or_plan(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """The same for a route that also answers dry runs."""
    content = {"application/json": {"example": examples.DRY_RUN}}
    said = "A request with this Idempotency-Key made it before; or a dry run's plan."
    return {200: {"model": model | Plan, "description": said, "content": content}}


Anew = Annotated[
    bool,
    Query(
        description="Begin anew and not from the last checkpoint; scenes that are written stay, for they are checked."
    ),
]
DryRun = Annotated[bool, Query(description="Only tell what would be computed and what it would take; 200, a plan.")]


def whole(answer: BaseModel, status: int = 200) -> Response:
    """An answer that is ready to send, where many are asked for: a model would be checked and laid out once more."""
    return Response(answer.model_dump_json(), status, media_type="application/json")


Cursor = Annotated[str | None, Query(description="`next` of the page before.", examples=["r0199f2a4c0de5e1a"])]
Limit = Annotated[int, Query(ge=1, le=500, description="Most items of a page.")]

"""The control plane: `create_app` wires its parts, the only place that does. Starts no stage; knows no command line."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse

from service import documentation, old_keys, problems
from service.access import OPEN, SCHEMES, admit, count
from service.dependencies import THREADS, Parts
from service.feed import Feed
from service.guard import Guard
from service.known_tokens import KnownTokens
from service.measures import Measures
from service.rate import Rate
from service.routes import (
    catalogue,
    datasets,
    experiments,
    features,
    health,
    hosts,
    keeping,
    removals,
    reruns,
    run_views,
    runs,
    store_files,
    streams,
    tokens,
    trainers,
    webhooks,
)
from service.scheduler import collecting, loop
from service.webhooks.sender import Sender
from storage.artifacts import choose
from storage.errors import InvalidInput
from storage.records import access_tokens, creating
from storage.records.database import Database
from storage.records.group_commit import GroupCommit
from storage.records.removals import Remover
from storage.settings import Settings, is_loopback

log = logging.getLogger("vlglab.service")

API = "/api/v1"
"""Prefix of every route but the probes."""

DESCRIPTION = """
The experiment service for 3D weakly supervised semantic segmentation with 2D vision-language guidance.

Submit an experiment, follow its runs, read back metrics and evaluations, and read published features from the store.
Lists are read by pages: pass `next` of one as `cursor` for the next. Every error is problem+json with a stable `code`.
"""


def create_app(settings: Settings) -> FastAPI:
    """The application over the database and the store that the settings name; its tables must exist (`migrations`).

    While it runs, background tasks plan runs, end leases that ran out, and tell webhooks of the ends of runs.

    Raises:
        DatabaseError: the database cannot be used as it is.
        InvalidInput: tokens are required and no admin has one, so that nobody could make any.
    """
    db = Database.open(settings.resolved_database_url)
    try:
        check_access(settings, db)
        rate, feed = Rate(settings.requests_per_s), Feed(db, settings.tick_s)
        store, run_files = choose.open_store(settings), choose.open_run_files(settings)
        measures = Measures(db, settings.store_path)
        create = GroupCommit(db, creating.create_each)
        parts = Parts(settings, db, store, run_files, rate, feed, measures, KnownTokens(db), create)
    except BaseException:
        db.close()
        raise
    app = FastAPI(
        title="vlglab",
        version=health.version(),
        description=DESCRIPTION.strip(),
        lifespan=_lifespan,
        dependencies=[Depends(admit)],
        docs_url=None,
        redoc_url=None,
        separate_input_output_schemas=False,
    )
    app.state.parts = parts
    app.add_middleware(Guard, max_body_bytes=settings.max_body_bytes, measures=parts.measures, count=count)
    problems.install(app)
    app.add_route(documentation.PATH, _documentation, include_in_schema=False)
    acting = (reruns, removals, hosts, webhooks, keeping)
    for module in (  # what is asked for most comes first: a request is held against one after the other
        run_views, runs, trainers, experiments, *acting, streams, datasets, features, store_files, catalogue, tokens,
        health,
    ):  # fmt: skip
        app.include_router(module.router, prefix=API)
    app.include_router(health.probes)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def check_access(settings: Settings, db: Database) -> None:
    """Checks that where tokens are required an admin has one.

    Raises:
        InvalidInput: none has.
        DatabaseError: the database cannot be asked, or has no tables yet.
    """
    if not settings.tokens_required or access_tokens.has_admin(db):
        return
    instead = "unset VLGLAB_REQUIRE_TOKENS" if is_loopback(settings.host) else "listen on a loopback address"
    raise InvalidInput(
        f"got the address {settings.host!r} to listen on, where tokens are required, and no admin has one; make one"
        f" with `vlglab db add-token NAME --role admin`, or {instead}, or, where everyone who reaches the service may"
        " do everything, set VLGLAB_ALLOW_ANYONE=1"
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Runs the scheduler, the feed of events and the sending to webhooks while the application serves."""
    parts: Parts = app.state.parts
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    stopping = asyncio.Event()
    tasks = (
        asyncio.create_task(loop.run(parts.db, parts.settings, stopping), name="scheduler"),
        asyncio.create_task(parts.feed.run(stopping), name="feed"),
        asyncio.create_task(
            collecting.run(parts.db, parts.store, parts.settings, parts.run_files, stopping), name="collector"
        ),
        asyncio.create_task(asyncio.to_thread(_finish_removals, parts), name="removals"),
        asyncio.create_task(Sender(parts.db, parts.settings).run(stopping), name="webhooks"),
        asyncio.create_task(old_keys.run(parts.db, stopping), name="old keys"),
    )
    try:
        yield
    finally:
        stopping.set()
        await asyncio.gather(*tasks)
        parts.db.close()


async def _documentation(request: Request) -> HTMLResponse:
    """The page that shows every route, with the policy that lets a browser load what it needs."""
    text = documentation.page(f"{request.scope.get('root_path', '')}/openapi.json", "vlglab - Swagger UI")
    return HTMLResponse(text, headers={"Content-Security-Policy": documentation.policy(text)})


def _finish_removals(parts: Parts) -> None:
    """Deletes to the end what an earlier service had begun to delete and did not live to."""
    try:
        if number := Remover(parts.db, parts.store, parts.run_files).finish_all():
            log.info("deleted %d runs and experiments to the end that an earlier service had begun to", number)
            parts.store.clear()
    except Exception as error:  # noqa: BLE001 - the next start tries again
        log.warning("what an earlier service had begun to delete is not deleted yet: %s", error)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The documentation, with the shape of every error, and what is answered without a token."""
    if app.openapi_schema is None:
        schema = FastAPI.openapi(app)
        problem = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schema["components"]["schemas"].update(problem.pop("$defs", {}), Problem=problem)
        schema["components"]["securitySchemes"] = SCHEMES
        for path, operations in schema["paths"].items():
            for operation in operations.values():
                operation["security"] = [] if path in OPEN else [{name: []} for name in SCHEMES]
        _close_names(schema)
        app.openapi_schema = schema
    return app.openapi_schema


def _close_names(schema: Any) -> None:
    """Says of every object whose names follow a pattern that it has no others: requests with others are refused."""
    if isinstance(schema, list):
        for each in schema:
            _close_names(each)
    elif isinstance(schema, dict):
        if "patternProperties" in schema:
            schema.setdefault("additionalProperties", False)
        for each in schema.values():
            _close_names(each)

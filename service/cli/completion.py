"""Names that a shell completes: runs, experiments and datasets, as the service has them; silent where it does not say.

A shell waits while this runs, so the service is asked once and has half a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import typer

from service.cli.console import first
from service.client import DEFAULT_URL, NEVER, Client
from storage.errors import VlglabError

ANSWER_S = 0.5
"""Seconds that the service gets to answer."""
MOST = 50
"""Names that are looked through, the newest."""


def runs(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids of runs that begin so, each with its name and state."""
    return _names(ctx, incomplete, lambda client: ((r.id, f"{r.name}, {r.state}") for r in first(client.runs(), MOST)))


def experiments(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids of experiments that begin so, each with its name and state."""
    return _names(
        ctx, incomplete, lambda client: ((e.id, f"{e.name}, {e.state}") for e in first(client.experiments(), MOST))
    )


def datasets(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Names of datasets that begin so, each with its kind."""
    return _names(ctx, incomplete, lambda client: ((d.name, d.kind) for d in first(client.datasets(), MOST)))


def features(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Keys of feature stores that begin so, each with its dataset and encoder."""
    return _names(
        ctx, incomplete, lambda client: ((f.key, f"{f.dataset}, {f.encoder}") for f in first(client.features(), MOST))
    )


def _names(
    ctx: typer.Context, incomplete: str, read: Callable[[Client], Iterable[tuple[str, str]]]
) -> list[tuple[str, str]]:
    """What begins so of what is read from the service that the command line names; nothing where that fails."""
    given = ctx.find_root().params
    try:
        with Client(
            given.get("url") or DEFAULT_URL, token=given.get("token"), timeout_s=ANSWER_S, retries=NEVER
        ) as client:
            return [(name, about) for name, about in read(client) if name.startswith(incomplete)]
    except VlglabError:
        return []

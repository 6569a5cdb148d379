"""A store that hangs holds up those who ask it, and nobody else."""

from __future__ import annotations

import importlib
import pkgutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from migrations.upgrade import upgrade
from service import dependencies, routes
from service.app import create_app
from service.dependencies import THREADS, Parts
from storage import keys
from storage.artifacts.store import ArtifactStore
from storage.artifacts.zarr_store import ZarrStore
from storage.records import runs
from storage.settings import Settings
from storage.specs import stages
from storage.specs.plans import PlannedRun
from tests.fixtures.publishing import leave
from tests.fixtures.waiting import wait_until
from tests.service.conftest import ADDRESS, HERE

ASKING = {
    ("GET", "/api/v1/artifacts/{key}"): {},
    ("GET", "/api/v1/artifacts/{key}/files/{name:path}"): {},
    ("GET", "/api/v1/features/{key}"): {},
    ("GET", "/api/v1/runs/{run_id}/files"): {},
    ("GET", "/api/v1/store/artifacts/{key}/manifest.json"): {},
    ("HEAD", "/api/v1/store/artifacts/{key}/manifest.json"): {},
    ("GET", "/api/v1/store/usage"): {},
    ("POST", "/api/v1/store/collect"): {"dry_run": True},
    ("DELETE", "/api/v1/artifacts/{key}"): {"dry_run": True},
    ("DELETE", "/api/v1/runs/{run_id}"): {"dry_run": True},
    ("DELETE", "/api/v1/experiments/{experiment_id}"): {"dry_run": True},
}
"""Every route that is given the store -> what else is asked."""


@contextmanager
def hangs(store: Hanging) -> Iterator[None]:
    """Has a store hang while the block lasts."""
    store.num_waiting = 0
    store.goes_on.clear()
    try:
        yield
    finally:
        store.goes_on.set()


class Hanging:
    """A store whose every call waits until it is let go."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self.goes_on = threading.Event()
        self.num_waiting = 0
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            with self._lock:
                self.num_waiting += 1
            self.goes_on.wait()
            return getattr(self._store, name)(*given, **named)

        return call


@pytest.fixture
def hanging(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    """The store of the service; it hangs when it is told to."""
    upgrade(settings.resolved_database_url)
    store = Hanging(ZarrStore(settings.store_path))
    store.goes_on.set()
    monkeypatch.setattr("service.app.choose.open_store", lambda _: store)
    yield store
    store.goes_on.set()


def asks_the_store(dependant: Dependant) -> bool:
    return dependant.call is dependencies._store or any(map(asks_the_store, dependant.dependencies))


def routes_that_ask() -> set[tuple[str, str]]:
    """Routes that are given the store."""
    modules = [
        importlib.import_module(found.name) for found in pkgutil.iter_modules(routes.__path__, "service.routes.")
    ]
    every = [route for module in modules if hasattr(module, "router") for route in module.router.routes]
    asking = [route for route in every if isinstance(route, APIRoute) and asks_the_store(route.dependant)]
    return {(method, f"/api/v1{route.path}") for route in asking for method in route.methods}


def test_routes_that_ask_a_store_that_hangs_leave_threads_for_the_others(settings: Settings, hanging: Hanging) -> None:
    app = create_app(settings)
    assert routes_that_ask() == set(ASKING), "a route that is given the store belongs into the table"
    with (
        TestClient(app, ADDRESS, client=HERE, raise_server_exceptions=False) as http,
        ThreadPoolExecutor(4 * THREADS) as pool,
    ):
        parts: Parts = app.state.parts
        key = leave(parts.db, ZarrStore(settings.store_path), "a")
        labels = stages.EmbedLabels(label_set="s3dis13")
        run = runs.create(parts.db, [PlannedRun("labels", labels)])[0]
        names = {"key": key, "run_id": run.id, "experiment_id": "x404", "name": "room.png"}
        part = keys.digest("a")
        asked = [
            (method, path.replace("{name:path}", "{name}").format(**names), params)
            for (method, path), params in ASKING.items()
        ]
        asked.append(("GET", f"/api/v1/store/parts/{part[:2]}/{part}/zarr.json", {}))

        with hangs(hanging):
            answers = [pool.submit(http.request, method, path, params=params) for method, path, params in 2 * asked]
            wait_until(lambda: hanging.num_waiting >= THREADS // 2, 30)
            for path in ("/api/v1/runs", f"/api/v1/runs/{run.id}", "/api/v1/artifacts", "/readyz"):
                assert pool.submit(http.get, path).result(timeout=30).status_code == 200
            assert not all(answer.done() for answer in answers)
        statuses = {answer.result(timeout=60).status_code for answer in answers}
    assert statuses <= {200, 404, 409}
    assert 200 in statuses


def test_a_deletion_that_clears_a_store_that_hangs_leaves_threads_for_the_others(
    settings: Settings, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was withdrawn is removed after the answer, by as many at once as may ask the store."""
    cleared = threading.Semaphore(0)
    monkeypatch.setattr(ZarrStore, "clear", lambda self: cleared.release())
    with (
        TestClient(create_app(settings), ADDRESS, client=HERE) as http,
        ThreadPoolExecutor(3 * THREADS) as pool,
    ):
        parts: Parts = http.app.state.parts  # type: ignore[attr-defined]
        with hangs(hanging):
            portal = http.portal
            assert portal is not None
            tasks = [pool.submit(portal.call, parts.clear_store) for _ in range(2 * THREADS)]
            wait_until(lambda: hanging.num_waiting >= THREADS // 2, 30)
            assert pool.submit(http.get, "/api/v1/runs").result(timeout=30).status_code == 200
            assert hanging.num_waiting < THREADS
        for task in tasks:
            task.result(timeout=60)
    assert all(cleared.acquire(blocking=False) for _ in tasks)

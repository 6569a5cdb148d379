"""Artifacts deleted by their key over HTTP and by the client; what deleted runs leave waits; and who may."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.client import Client
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import InUse
from storage.records import access_tokens, leases, pins
from storage.records.tables import FeatureTableRow
from tests.fixtures.publishing import leave
from tests.service.conftest import API
from tests.service.routes.test_acting import TEXT, delete


@pytest.fixture
def store(api: Any) -> ZarrStore:
    found: ZarrStore = api.parts.store
    return found


def test_an_artifact_is_marked_or_deleted_at_once_and_says_what_goes(api: Any, store: ZarrStore) -> None:
    db = api.parts.db
    first, second = leave(db, store, "a"), leave(db, store, "b")
    size = api.get(f"/artifacts/{first}")["num_bytes"]
    foreseen = delete(api, f"/artifacts/{first}", dry_run=True)
    of_runs = foreseen["runs"], foreseen["experiment"]
    assert (foreseen["dry_run"], foreseen["num_bytes"], of_runs) == (True, size, ([], None))
    assert api.get("/store/usage")["marked_bytes"] == 0
    done = delete(api, f"/artifacts/{first}")
    assert done["removed"] == foreseen["removed"] and done["due_at"] >= foreseen["due_at"]
    assert api.get("/store/usage")["marked_bytes"] == size
    assert api.get(f"/artifacts/{first}")["key"] == first
    gone = delete(api, f"/artifacts/{second}", at_once=True)
    assert (gone["due_at"], gone["num_bytes"]) == (None, size)
    api.get(f"/artifacts/{second}", status=404)
    assert not list((api.parts.settings.store_path / "staging").glob(".*")), "what was renamed away is removed"
    assert delete(api, f"/artifacts/{second}", status=404)["code"] == "not_found"
    pins.add(db, first, "", "x")
    assert delete(api, f"/artifacts/{first}", status=409)["code"] == "in_use"


def test_what_a_deleted_run_leaves_is_read_until_it_goes(api: Any, worker: Any) -> None:
    made = api.post("/runs", TEXT)
    claim, key = worker.claim(), "ab" * 16
    worker.publish(claim, key, "figures", {"a.png": b"x" * 100})
    leases.succeed(worker.db, claim.token, {"text_embeddings": key}, cached=False)
    done = delete(api, f"/runs/{made['id']}")
    assert [one["key"] for one in done["removed"]] == [key] and done["due_at"] is not None
    api.get(f"/runs/{made['id']}", status=404)
    assert api.http.get(f"{API}/artifacts/{key}/files/a.png").content == b"x" * 100


def test_a_client_deletes_and_hears_why_not(api: Any, store: ZarrStore) -> None:
    client = Client("http://127.0.0.1:8765")
    client._http = api.http
    key = leave(api.parts.db, store, "a")
    client.pin(key, "mine")
    with pytest.raises(InUse, match="pinned: mine"):
        client.delete_artifact(key)
    client.unpin(key)
    assert client.delete_artifact(key, dry_run=True).dry_run
    assert client.delete_artifact(key, at_once=True).removed[0].key == key


def test_only_who_published_it_and_admins_delete_an_artifact(guarded: TestClient) -> None:
    parts = guarded.app.state.parts  # type: ignore[attr-defined]
    who = {
        name: {"Authorization": f"Bearer {access_tokens.create(parts.db, name, role, None)[1]}"}  # type: ignore[arg-type]
        for name, role in (("ada", "submitter"), ("eve", "submitter"), ("bob", "reader"), ("max", "admin"))
    }
    hers, nobodys = leave(parts.db, parts.store, "a"), leave(parts.db, parts.store, "b")
    with parts.db.write() as session:
        session.get(FeatureTableRow, hers).owner = "ada"

    def status(name: str, key: str) -> int:
        return guarded.delete(f"{API}/artifacts/{key}?at_once=true", headers=who[name]).status_code

    assert [status(name, hers) for name in ("bob", "eve")] == [403, 403]
    assert [status(name, nobodys) for name in ("bob", "eve", "ada")] == [403, 403, 403]
    assert (status("ada", hers), status("max", nobodys)) == (200, 200)

"""The disk under control over HTTP, by the client and on the command line; and who may."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner, Result

from service import keeping_examples as examples
from service.app import create_app
from service.cli.console import Shell
from service.cli.entry import app
from service.client import Client
from service.keeping import Reading
from service.scheduler import collecting
from service.scheduler.collecting import Collecting
from storage.artifacts.store import ArtifactManifest
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import NotFound
from storage.records import access_tokens, part_index, policies, read_leases
from storage.records.database import Database
from storage.settings import Settings
from tests.fixtures.publishing import leave
from tests.service.conftest import ADDRESS, HERE
from tests.service.fake_api import FakeApi
from tests.service.test_cli import page


@pytest.fixture
def store(api: Any) -> ZarrStore:
    found: ZarrStore = api.parts.store
    return found


def collected(api: Any, **params: Any) -> dict[str, Any]:
    answer = api.http.post("/api/v1/store/collect", params=params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_store_is_told_of_marked_collected_and_told_of_again(api: Any, store: ZarrStore) -> None:
    key = leave(api.parts.db, store, "a", "b")
    size = api.get(f"/artifacts/{key}")["num_bytes"]
    assert api.get("/store/usage")["reclaimable_bytes"] == size
    dry = collected(api, dry_run=True)
    assert [(one["id"], one["code"], one["num_bytes"]) for one in dry["marked"]] == [(key, "unreferenced", size)]
    assert (dry["dry_run"], api.get("/store/usage")["marked_bytes"]) == (True, 0)
    assert collected(api)["removed"] == []
    found = api.get("/store/usage")
    assert (found["marked_bytes"], found["num_bytes"]) == (size, size)
    api.post("/store/policy", {"grace_s": 0}, status=200)
    with api.parts.db.write() as session:
        session.connection().exec_driver_sql("DELETE FROM collection_marks")
    assert [one["id"] for one in collected(api)["removed"]] == [key]
    assert api.get("/store/usage")["num_artifacts"] == 0
    assert api.get(f"/artifacts/{key}", status=404)["code"] == "not_found"


def test_files_of_a_run_that_is_gone_are_shown_and_collected(api: Any) -> None:
    log = api.parts.run_files.log("r0gone", 1)
    log.parent.mkdir(parents=True)
    log.write_text("late")
    (found,) = collected(api, dry_run=True)["marked"]
    assert (found["what"], found["id"], found["num_bytes"]) == ("run_files", "r0gone", 4)
    api.post("/store/policy", {"grace_s": 0}, status=200)
    assert [one["id"] for one in collected(api)["removed"]] == ["r0gone"]
    assert not log.exists()


def test_the_service_itself_deletes_what_is_due_and_marks_nothing(api: Any, store: ZarrStore) -> None:
    tick = Collecting(api.parts.db, store, api.parts.settings).tick
    policies.change(api.parts.db, "", grace_s=0)
    first = leave(api.parts.db, store, "a")
    assert tick() == ()
    policies.change(api.parts.db, "", grace_s=3600)
    collected(api)
    assert tick() == ()
    with api.parts.db.write() as session:
        session.connection().exec_driver_sql("UPDATE collection_marks SET due_at = '2020-01-01 00:00:00'")
    second = leave(api.parts.db, store, "b")
    tick()
    assert list(store.artifacts()) == [second] != [first]


def test_what_cannot_be_read_is_not_tried_at_every_tick(
    api: Any, store: ZarrStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    db: Database = api.parts.db
    gone = leave(db, store, "a")
    lies = store.artifact_path(gone)
    away = lies.with_name("away")
    lies.rename(away)
    asked: list[str] = []
    manifest = store.manifest

    def counted(key: str) -> ArtifactManifest | None:
        asked.append(key)
        return manifest(key)

    monkeypatch.setattr(store, "manifest", counted)
    monkeypatch.setattr(collecting, "OVERLAP", timedelta(0))
    ticking = Collecting(db, store, api.parts.settings)
    for _ in range(3):
        ticking.tick()
    assert asked == [gone]
    new = leave(db, store, "b")
    for _ in range(2):
        ticking.tick()
    assert asked == [gone, new]
    away.rename(lies)
    monkeypatch.setattr(ticking, "_whole_look_at", 0.0)
    ticking.tick()
    assert asked == [gone, new, gone]
    with db.read() as session:
        assert list(session.scalars(part_index.not_copied())) == []


def test_a_pin_is_its_owners_and_keeps_an_artifact(api: Any, store: ZarrStore) -> None:
    key = leave(api.parts.db, store, "a")
    made = api.post(f"/artifacts/{key}/pin", {"reason": "for the paper"})
    assert (made["reason"], made["until"], made["owner"]) == ("for the paper", None, "")
    again = api.post(f"/artifacts/{key}/pin", {"reason": "for the talk", "until": "2999-01-01T00:00:00+02:00"})
    assert (again["reason"], again["until"]) == ("for the talk", "2998-12-31T22:00:00Z")
    assert api.get("/pins")["items"] == [again]
    assert collected(api)["marked"] == []
    assert api.post(f"/artifacts/{key}/unpin", status=200) == again
    assert api.post(f"/artifacts/{key}/unpin", status=404)["code"] == "not_found"
    assert [one["id"] for one in collected(api)["marked"]] == [key]
    for body in (
        {},
        {"reason": ""},
        {"reason": "x", "until": "tomorrow"},
        {"reason": "x", "until": "2020-01-01T00:00:00"},
    ):
        assert api.post(f"/artifacts/{key}/pin", body, status=422)["code"] == "request_invalid"
    past = {"reason": "x", "until": "2020-01-01T00:00:00Z"}
    assert api.post(f"/artifacts/{key}/pin", past, status=422)["code"] == "invalid_input"
    assert api.post("/artifacts/a404/pin", {"reason": "x"}, status=404)["code"] == "not_found"


def test_a_lease_is_taken_renewed_and_released(api: Any, store: ZarrStore) -> None:
    key = leave(api.parts.db, store, "a")
    made = api.post(f"/artifacts/{key}/lease", {"seconds": 60})
    renewed = api.post(f"/leases/{made['id']}/renew", {}, status=200)
    assert renewed["until"] > made["until"]
    assert api.get("/leases")["items"] == [renewed]
    assert collected(api)["marked"] == []
    assert api.post(f"/leases/{made['id']}/release", status=200)["id"] == made["id"]
    assert api.get("/leases")["items"] == []
    assert api.post(f"/leases/{made['id']}/renew", {}, status=404)["code"] == "not_found"
    assert api.post(f"/artifacts/{key}/lease", {"seconds": 0}, status=422)["code"] == "request_invalid"
    assert api.post("/artifacts/a404/lease", {}, status=404)["code"] == "not_found"


def test_a_policy_is_changed_by_what_is_given(api: Any) -> None:
    assert api.get("/store/policy")["set_at"] is None
    made = api.post("/store/policy", {"quota_bytes": 5, "expiring": ["labels"]}, status=200)
    assert (made["quota_bytes"], made["expiring"], made["grace_s"]) == (5, ["labels"], 604800)
    assert api.post("/store/policy", {"unused_days": 3}, status=200)["quota_bytes"] == 5
    assert api.post("/store/policy", {"expiring": ["evaluation"]}, status=422)["code"] == "invalid_input"
    assert api.post("/store/policy", {"quota_bytes": -1}, status=422)["code"] == "request_invalid"


def test_a_run_that_waits_for_room_says_so(api: Any, store: ZarrStore) -> None:
    leave(api.parts.db, store, "a")
    policies.change(api.parts.db, "", quota_bytes=1)
    run = api.post("/runs", {"spec": {"stage": "embed_labels", "label_set": "s3dis13"}})["id"]
    deadline = threading.Event()
    for _ in range(500):
        found = api.get(f"/runs/{run}")
        if found["state"] == "ready":
            break
        deadline.wait(0.02)
    assert found["waiting_for"].startswith("room in the store: ")


# ---- who may


@pytest.fixture
def guarded(settings: Settings, database_url: str) -> Iterator[tuple[TestClient, dict[str, str]]]:
    """A service that asks for tokens, and the token of each role."""
    open_ = create_app(settings.model_copy(update={"database_url": database_url}))
    secrets = {role: access_tokens.create(open_.state.parts.db, role, role)[1] for role in access_tokens.ROLES}
    secrets["other"] = access_tokens.create(open_.state.parts.db, "other", "reader")[1]
    asks = settings.model_copy(update={"database_url": database_url, "require_tokens": True})
    open_.state.parts.db.close()
    with TestClient(create_app(asks), ADDRESS, client=HERE) as http:
        yield http, secrets


def test_readers_take_leases_submitters_pin_and_admins_collect(guarded: tuple[TestClient, dict[str, str]]) -> None:
    http, secrets = guarded
    parts = http.app.state.parts  # type: ignore[attr-defined]
    key = leave(parts.db, parts.store, "a")

    def ask(who: str, path: str, body: Any = None) -> Any:
        return http.post(f"/api/v1{path}", json=body, headers={"Authorization": f"Bearer {secrets[who]}"})

    lease = ask("reader", f"/artifacts/{key}/lease", {"seconds": 60})
    assert (lease.status_code, lease.json()["owner"]) == (201, "reader")
    for call in ("renew", "release"):
        assert ask("other", f"/leases/{lease.json()['id']}/{call}", {"seconds": 60}).status_code == 403, call
        assert ask("reader", f"/leases/{lease.json()['id']}/{call}", {"seconds": 60}).status_code == 200, call
    assert ask("reader", f"/artifacts/{key}/pin", {"reason": "x"}).status_code == 403
    assert ask("submitter", f"/artifacts/{key}/pin", {"reason": "x"}).status_code == 201
    assert ask("submitter", f"/artifacts/{key}/unpin?owner=admin").status_code == 403
    for path, body in (("/store/collect", None), ("/store/policy", {"grace_s": 0})):
        assert ask("submitter", path, body).status_code == 403, path
        assert ask("admin", path, body).status_code == 200, path
    assert ask("admin", f"/artifacts/{key}/unpin?owner=submitter").status_code == 200


# ---- the client


@pytest.fixture
def client(api: Any) -> Client:
    """A client that speaks to the service."""
    found = Client("http://127.0.0.1:8765")
    found._http = api.http
    return found


def until_lost(held: Reading) -> None:
    """Checks a lease for some seconds."""
    for _ in range(300):
        held.check()
        threading.Event().wait(0.02)


def test_a_client_reads_under_a_lease_that_it_renews(api: Any, store: ZarrStore, client: Client) -> None:
    key = leave(api.parts.db, store, "a")
    with client.reading(key, seconds=1) as held:
        first = held.lease.until
        pause = threading.Event()
        for _ in range(300):
            if held.lease.until > first:
                break
            pause.wait(0.02)
        assert held.lease.until > first
        held.check()
        assert [lease.id for lease in client.read_leases()] == [held.lease.id]
        read_leases.release(api.parts.db, held.lease.id)
        with pytest.raises(NotFound):
            until_lost(held)
    assert client.read_leases() == []
    with pytest.raises(NotFound), client.reading("a404"):
        raise AssertionError("there is nothing to read")


def test_a_client_pins_and_collects(api: Any, store: ZarrStore, client: Client) -> None:
    key = leave(api.parts.db, store, "a")
    assert client.pin(key, "mine").artifact_key == client.pins()[0].artifact_key == key
    assert client.collect(dry_run=True).marked == []
    client.unpin(key)
    assert [one.id for one in client.collect().marked] == [key]
    assert client.store_usage().marked_bytes > 0


# ---- the command line


def run(fake: FakeApi, *arguments: str, answer: str | None = None) -> Result:
    """A command as it is typed, with all that it prints kept apart."""
    with fake.client() as client:
        return CliRunner().invoke(app, list(arguments), obj=Shell(client), input=answer)


def test_gc_shows_what_would_go_and_asks_first(tmp_path: Path) -> None:
    answers = {("POST", "/api/v1/store/collect"): examples.COLLECTION}
    dry = FakeApi(answers)
    shown = run(dry, "features", "gc", "--dry-run")
    assert shown.exit_code == 0 and examples.PIN["artifact_key"] in shown.stderr and "180.0 MB" in shown.stderr
    assert [str(request.url.query, "ascii") for request in dry.requests] == ["dry_run=true"]
    refused = FakeApi(answers)
    assert run(refused, "features", "gc", answer="n\n").exit_code != 0
    assert [str(request.url.query, "ascii") for request in refused.requests] == ["dry_run=true"]
    done = FakeApi(answers)
    assert run(done, "features", "gc", "--yes").exit_code == 0
    assert [str(request.url.query, "ascii") for request in done.requests] == [""]


def test_a_policy_is_asked_for_as_people_write_sizes_and_days() -> None:
    fake = FakeApi(
        {("POST", "/api/v1/store/policy"): examples.POLICY, ("GET", "/api/v1/store/policy"): examples.POLICY}
    )
    options = ["--quota", "1.5TB", "--unused-days", "30", "--grace-days", "0.5", "--expiring", "labels"]
    assert run(fake, "features", "policy", *options).exit_code == 0
    assert fake.bodies() == [
        {"quota_bytes": 1500000000000, "unused_days": 30.0, "expiring": ["labels"], "grace_s": 43200.0}
    ]
    shown = run(fake, "features", "policy")
    assert "2.0 TB" in shown.stdout and "unused for 180 days" in shown.stdout
    assert run(fake, "features", "policy", "--quota", "much").exit_code == 2


def test_usage_and_pins_are_shown_to_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    fake = FakeApi({
        ("GET", "/api/v1/store/usage"): examples.USAGE,
        ("GET", "/api/v1/pins"): page(examples.PIN),
        ("GET", "/api/v1/leases"): page(examples.READ_LEASE),
    })  # fmt: skip
    shown = run(fake, "features", "usage")
    assert "1.9 TB in 2 artifacts" in shown.stdout and "2.0 TB (92% used)" in shown.stdout
    assert shown.stderr.startswith("warning: the store holds ")
    assert json.loads(run(fake, "features", "usage", "--json").stdout) == examples.USAGE
    assert examples.PIN["reason"] in run(fake, "features", "pins").stdout
    assert examples.READ_LEASE["id"] in run(fake, "features", "leases").stdout

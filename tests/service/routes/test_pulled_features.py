"""A pull by the real worker from another lab: what is shown of it, and what is said of what was here before."""

from __future__ import annotations

import io
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from rich.console import Console
from typer.testing import CliRunner

from service.cli.console import Shell
from service.cli.entry import app
from service.client import Client
from service.remote_stores import compare_with
from storage import keys
from storage.artifacts.manifests import encode_artifact
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import StoreCorrupt
from storage.records import artifact_sources
from storage.settings import Settings
from storage.specs import stages
from storage.targets import Sources
from tests.fixtures.lab_artifact import KEY, SCENES, publish
from tests.fixtures.lab_source import LabSource, lab_source
from tests.fixtures.waiting import wait_until
from tests.service.conftest import ADDRESS
from workers import source_leases, trial
from workers.context import Machine
from workers.copying import Copier
from workers.run import run_once


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """A run sets its own handler of SIGTERM; the tests' process gets back what it had."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", tick_s=0.02, pull_hosts=["127.0.0.1"])


@pytest.fixture
def there(tmp_path: Path) -> ZarrStore:
    store = ZarrStore(tmp_path / "there")
    publish(store, num_covered=60_000)
    return store


@pytest.fixture
def source(there: ZarrStore) -> Iterator[LabSource]:
    with lab_source(there.root) as serving:
        yield serving


@pytest.fixture
def pull(api: Any, worker: Any, source: LabSource, settings: Settings, database_url: str) -> Any:
    def made(**fields: Any) -> dict[str, Any]:
        spec = {"stage": "pull", "source": source.url, "artifact": KEY, **fields}
        run = api.post("/runs", {"spec": spec})
        claim = worker.claim()
        run_once(claim.run_id, claim.token, settings.model_copy(update={"database_url": database_url}))
        return dict(api.get(f"/runs/{run['id']}"))

    return made


def shown(api: Any, key: str) -> str:
    """What `vlglab features show` prints."""
    out = Console(file=io.StringIO(), width=400)
    with Client(ADDRESS, transport=api.transport()) as client:
        done = CliRunner().invoke(app, ["features", "show", key], obj=Shell(client, out=out))
    assert done.exit_code == 0 and isinstance(out.file, io.StringIO), done.output
    return out.file.getvalue()


def test_a_pulled_store_is_shown_with_how_it_was_made_and_where_it_is_from(
    api: Any, source: LabSource, pull: Any
) -> None:
    run = pull()
    assert run["state"] == "succeeded", run["reason"]
    expected = ({"x": 1}, {}, {"source": source.url, "artifact": KEY})
    found = api.get(f"/features/{KEY}")
    assert (found["spec"], found["inputs"], found["pulled_from"]) == expected
    assert "pulled_from" not in api.parts.store.manifest(KEY).attributes, "its bytes are as they were there"
    for line in (f"{source.url} ({KEY})", '{"x": 1}'):
        assert line in shown(api, KEY)
    api.post(f"/artifacts/{KEY}/pin", {"reason": "it stays"})
    assert api.http.delete(f"/api/v1/runs/{run['id']}").status_code in (200, 202)
    api.get(f"/runs/{run['id']}", 404)
    found = api.get(f"/features/{KEY}")
    assert (found["spec"], found["inputs"], found["pulled_from"]) == expected
    api.parts.store.artifact_path(KEY).unlink()
    assert api.get(f"/features/{KEY}")["spec"] is None


def test_what_a_pulled_store_was_made_from_is_recorded_with_it(api: Any, there: ZarrStore, pull: Any) -> None:
    manifest = there.manifest(KEY)
    assert manifest is not None
    scenes = "5c" * 16
    there.artifact_path(KEY).write_bytes(encode_artifact(replace(manifest, inputs={"scenes": scenes})))
    pull()
    with api.parts.db.read() as session:
        assert artifact_sources.made_from(session, scenes) == (KEY, "embeddings")


def test_the_spec_of_the_pull_is_never_taken_for_that_of_the_features(api: Any, pull: Any) -> None:
    pull()
    api.parts.store.artifact_path(KEY).unlink()
    found = api.get(f"/features/{KEY}")
    assert (found["spec"], found["inputs"], found["pulled_from"]["artifact"]) == (None, {}, KEY)


def test_some_scenes_cover_no_more_than_all_of_their_points(api: Any, pull: Any) -> None:
    (key,) = pull(scenes=[SCENES[1]])["outputs"].values()
    found = api.get(f"/features/{key}")
    assert (found["num_covered"], found["coverage"]) == (20_000, 1.0)
    assert found["pulled_from"]["artifact"] == KEY
    pull()
    assert api.get(f"/features/{KEY}")["num_covered"] == 60_000


def test_a_cached_pull_says_that_the_source_has_other_bytes(api: Any, there: ZarrStore, pull: Any) -> None:
    pull()
    again = pull(connections=1)
    assert again["state"] == "cached"
    path = there.artifact_path(KEY)
    path.write_bytes(path.read_bytes().replace(b'"x":1}', b'"x":2}'))
    again = pull(connections=2)
    assert again["state"] == "cached"
    told = [one["message"] for one in api.get(f"/runs/{again['id']}/events")["items"]]
    assert len([message for message in told if f"{KEY} with other bytes" in message]) == 1
    assert api.get(f"/features/{KEY}")["spec"] == {"x": 1}


@pytest.fixture
def served(api: Any) -> Iterator[str]:
    """The URL of this very service, as another lab reaches it."""
    server = uvicorn.Server(uvicorn.Config(api.http.app, port=0, lifespan="off", ws="none", log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize("damage", ["manifest", "gone", "shorter", "nothing"])
def test_what_is_damaged_at_a_service_is_named_by_the_lab_that_pulls_it(
    api: Any, pull: Any, served: str, tmp_path: Path, damage: str
) -> None:
    pull()
    store, own = api.parts.store, ZarrStore(tmp_path / "third")
    chunk = store.part_path(keys.digest([KEY, SCENES[2]])) / "embeddings/c/1/0"
    if damage == "manifest":
        path = store.artifact_path(KEY)
        path.write_bytes(path.read_bytes().replace(b'"x":1}', b'"x":2}'))
    elif damage == "gone":
        chunk.unlink()
    elif damage == "shorter":
        chunk.write_bytes(chunk.read_bytes()[:-9])
    spec = stages.parse({"stage": "pull", "source": served, "artifact": KEY})
    machine = Machine(scratch=own.root / "resume" / "r1", sources=Sources(("127.0.0.1",)))
    if damage == "nothing":
        assert trial.run_stage(spec, own, machine=machine).artifacts["embeddings"].key == KEY
        return
    began = time.monotonic()
    named = "the manifest of the artifact .* was changed" if damage == "manifest" else "embeddings/c/1/0 of the part"
    with pytest.raises(StoreCorrupt, match=named) as caught:
        trial.run_stage(spec, own, machine=machine)
    assert list(own.artifacts()) == [] and time.monotonic() - began < 10
    assert caught.value.scene == (None if damage == "manifest" else SCENES[2])


def test_what_a_service_has_is_compared_by_a_sample_of_its_rows(
    api: Any, pull: Any, served: str, tmp_path: Path
) -> None:
    pull()
    for factor, verdict, least in ((1.0, "same", None), (-1.0, "different", -1.0)):
        own = ZarrStore(tmp_path / verdict)
        publish(own, factor=factor)
        found = compare_with(own.root, served, (KEY, KEY), Sources(("127.0.0.1",)), rows=256)
        assert (found.verdict, found.cosines and found.cosines.least) == (verdict, least)
    assert [(one.num_rows, one.num_common) for one in found.compared] == [(256, 20_000)] * 3


def pulling(served: str, own: ZarrStore, watch: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Pulls from a service, and looks around while the parts are fetched."""
    fetch = Copier.fetch

    def watched(*given: Any) -> Any:
        watch()
        return fetch(*given)

    monkeypatch.setattr(Copier, "fetch", watched)
    spec = stages.parse({"stage": "pull", "source": served, "artifact": KEY})
    machine = Machine(scratch=own.root / "resume" / "r1", sources=Sources(("127.0.0.1",)))
    assert trial.run_stage(spec, own, machine=machine).artifacts["embeddings"].key == KEY


def test_the_source_keeps_what_is_pulled_from_it_while_it_is_pulled(
    api: Any, pull: Any, served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull()
    held: list[list[str]] = []
    pulling(served, ZarrStore(tmp_path / "third"), lambda: held.append(leases_of(api)), monkeypatch)
    assert (held, leases_of(api)) == ([[KEY]], [])


def test_a_lease_at_the_source_is_renewed_and_taken_anew_where_it_is_gone(
    api: Any, pull: Any, served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull()
    monkeypatch.setattr(source_leases, "RENEW_S", 0.05)

    def watch() -> None:
        (first,) = api.get("/leases")["items"]
        wait_until(lambda: api.get("/leases")["items"][0]["until"] > first["until"], within_s=20)
        api.post(f"/leases/{first['id']}/release", {}, 200)
        wait_until(lambda: [one["id"] for one in api.get("/leases")["items"]] not in ([], [first["id"]]), within_s=20)

    pulling(served, ZarrStore(tmp_path / "third"), watch, monkeypatch)
    assert leases_of(api) == []


def test_a_source_that_gives_no_lease_is_pulled_from_all_the_same(
    api: Any, pull: Any, served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull()
    monkeypatch.setattr(source_leases, "LEASE_S", -1.0)  # which every service refuses
    held: list[list[str]] = []
    pulling(served, ZarrStore(tmp_path / "third"), lambda: held.append(leases_of(api)), monkeypatch)
    assert (held, leases_of(api)) == ([[]], [])


def leases_of(api: Any) -> list[str]:
    """Keys of the artifacts that somebody reads under a lease."""
    return [lease["artifact_key"] for lease in api.get("/leases")["items"]]


def test_a_pull_of_another_digest_than_was_named_fails(api: Any, pull: Any) -> None:
    run = pull(manifest_digest="a" * 64)
    assert (run["state"], run["reason_code"]) == ("failed", "store_corrupt")
    assert "a" * 64 in run["reason"]
    api.get(f"/features/{KEY}", 404)

"""Acting over HTTP: plans beforehand, re-runs, deletions, hosts, retries anew, and who may."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.app import create_app
from service.client import Client
from service.schemas import RerunRequest
from storage.artifacts.run_files import RunFiles
from storage.errors import VlglabError
from storage.records import access_tokens, hosts, leases, runs
from storage.records.artifacts import ArtifactRow
from storage.records.claims import Claim
from storage.records.database import Database, now
from storage.records.tables import Base, RemovalRow
from storage.settings import Settings
from tests.fixtures.waiting import wait_until
from tests.service.conftest import ADDRESS, API, HERE, Api

TEXT = {"spec": {"stage": "embed_labels", "label_set": "s3dis13"}}
INGEST = {"name": "ingest", "spec": {"stage": "ingest", "label_set": "s3dis13"}, "dataset": "offices"}
LABEL = {
    "name": "label",
    "spec": {"stage": "pseudo_label"},
    "inputs": {
        "scenes": {"run": "ingest", "output": "scenes"},
        "embeddings": {"run": "extract", "output": "embeddings"},
        "text_embeddings": {"run": "text", "output": "text_embeddings"},
    },
}
EXTRACT = {
    "name": "extract",
    "spec": {"stage": "extract"},
    "inputs": {"scenes": {"run": "ingest", "output": "scenes"}},
    "dataset": "offices",
}
LIFT = {"name": "lift", "runs": [INGEST, EXTRACT, {**TEXT, "name": "text"}, LABEL]}


def delete(api: Api, path: str, status: int = 200, **params: Any) -> Any:
    response = api.http.delete(API + path, params=params)
    assert response.status_code == status, response.text
    return api.problem(response) if response.is_error else response.json()


def planned(api: Api, body: Any) -> dict[str, Any]:
    """The dry run of an experiment by run name, after checking that it wrote nothing."""
    before = rows(api.parts.db)
    response = api.http.post(f"{API}/experiments", params={"dry_run": "true"}, json=body)
    assert response.status_code == 200, response.text
    assert rows(api.parts.db) == before
    found: dict[str, Any] = response.json()
    return {**found, "runs": {run["name"]: run for run in found["runs"]}}


def rows(db: Database) -> dict[str, int]:
    with db.read() as session:
        return {t.name: len(session.execute(t.select()).all()) for t in Base.metadata.sorted_tables}


def record(worker: Any, claim: Claim, key: str, output: str) -> None:
    """Records an artifact of 1000 bytes that a run gives; outputs here are named by their kinds."""
    row = ArtifactRow(key, output, claim.stage, output, claim.run_id, "d", 1000, 1, 1)  # type: ignore[arg-type]
    leases.record_artifact(worker.db, claim.token, row)


# ---- plans beforehand


def test_a_plan_of_a_fresh_lab_says_that_all_is_to_be_computed_and_that_nobody_knows_how_long(
    api: Any, offices: str
) -> None:
    plan = planned(api, {"recipe": "3dss-vlg", "dataset": offices, "preset": "demo"})
    assert {run["outlook"] for run in plan["runs"].values()} == {"compute"}
    assert all(run["estimate"] is None for run in plan["runs"].values())
    assert (plan["num_to_compute"], plan["num_without_estimate"], plan["seconds"]) == (10, 10, 0)
    answer = api.http.post(f"{API}/runs", params={"dry_run": True}, json=TEXT)
    assert [run["outlook"] for run in answer.json()["runs"]] == ["compute"]


def test_a_plan_meets_the_errors_of_the_submission(api: Any, offices: str) -> None:
    for body, status in (
        ({"recipe": "3dss-vlg", "dataset": "nowhere"}, 422),
        ({"name": "x", "runs": [EXTRACT]}, 404),
        ({"name": "x", "runs": [{**TEXT, "spec": {"stage": "embed_labels"}}]}, 422),
    ):
        asked = {"dry_run": "true"}
        dry = api.http.post(f"{API}/experiments", params=asked, json=body)
        wet = api.http.post(f"{API}/experiments", json=body)
        assert (dry.status_code, dry.json()["detail"]) == (wet.status_code, wet.json()["detail"])
        assert dry.status_code == status or dry.status_code in (404, 422)


def test_a_plan_knows_what_is_published_and_what_past_runs_took(api: Any, worker: Any, offices: str) -> None:
    """Of four stages three have run; the fourth is known by its key alone, for it reads nothing outside the store."""
    api.post("/experiments", LIFT)
    outputs = {"ingest": ("scenes", "ground_truth"), "extract": ("embeddings",), "embed_labels": ("text_embeddings",)}
    for number in range(3):
        claim = worker.claim()
        given = {}
        for output in outputs[claim.stage]:
            key = f"{number}{output[0]}" * 16
            record(worker, claim, key, output)
            given[output] = key
        leases.succeed(worker.db, claim.token, given, cached=False)
    living = worker.claim()
    plan = planned(api, LIFT)["runs"]
    assert {name: run["outlook"] for name, run in plan.items()} == {
        "ingest": "likely_cached", "extract": "likely_cached", "text": "likely_cached", "label": "shared",
    }  # fmt: skip
    assert plan["label"]["why"] == f"the run {living.run_id} computes the same"
    key = plan["label"]["outputs"]["labels"]
    assert key and plan["label"]["estimate"] is None
    record(worker, living, key, "labels")
    leases.succeed(worker.db, living.token, {"labels": key}, cached=False)
    again = planned(api, LIFT)
    assert again["runs"]["label"]["outlook"] == "likely_cached", "what it reads may have changed"
    assert again["num_to_compute"] == 0
    read = api.get(f"/runs/{living.run_id}")["inputs"]
    source = {port: {"artifact": one["artifact_key"]} for port, one in read.items()}
    known = planned(api, {"name": "x", "runs": [{**LABEL, "inputs": source}]})["runs"]["label"]
    assert (known["outlook"], known["outputs"]) == ("cached", {"labels": key})
    other = {**LABEL, "inputs": source, "spec": {"stage": "pseudo_label", "filtering": False}}
    twice = planned(api, {"name": "x", "runs": [other, {**other, "name": "twin"}]})
    assert twice["runs"]["label"]["outlook"] == "compute"
    assert twice["runs"]["twin"]["why"] == "the run 'label' of this plan computes the same"
    told = twice["runs"]["label"]["estimate"]
    assert (told["past_runs"], told["alike"]) == (1, "stage") and told["seconds"] > 0
    new_ingest = {**INGEST, "spec": {**INGEST["spec"], "label_set": "scannet20"}}
    told = planned(api, {"name": "x", "runs": [new_ingest]})["runs"]["ingest"]["estimate"]
    assert (told["past_runs"], told["alike"], told["num_bytes"]) == (1, "stage", 2000)


# ---- re-runs


def test_a_rerun_is_a_new_run_with_changes_and_knows_its_old_one(api: Any, worker: Any, offices: str) -> None:
    wanted = {"priority": 3, "tags": ["a"], "gpus": 0, "memory_gb": 0.5, "notes": "n", "time_limit_s": 60}
    made = api.post("/experiments", {"name": "x", "runs": [INGEST, {**EXTRACT, **wanted}]})
    ingest, extract = made["runs"]
    new = api.post(f"/runs/{extract['id']}/rerun", {"changes": {"lifting.border_px": 3, "splits": ["train"]}})
    assert (new["rerun_of"], new["experiment_id"], new["state"]) == (extract["id"], None, "queued")
    assert new["spec"] == {
        **extract["spec"], "splits": ["train"], "lifting": {**extract["spec"]["lifting"], "border_px": 3}
    }  # fmt: skip
    assert new["inputs"]["scenes"]["run_id"] == ingest["id"]
    assert {name: new[name] for name in wanted} == wanted
    waiting_for = api.get(f"/runs/{new['id']}")["waiting_for"]
    assert waiting_for.startswith(f"its input 'scenes': the run {ingest['id']} is ")
    changed = {"name": "coarse", "priority": 1, "tags": [], "memory_gb": None}
    other = api.post(f"/runs/{extract['id']}/rerun", changed)
    assert {name: other[name] for name in changed} == changed
    assert other["spec"] == extract["spec"]


def test_the_client_unsets_what_was_wanted_and_leaves_what_it_does_not_say(api: Any, offices: str) -> None:
    wanted = {"priority": 3, "tags": ["a"], "gpus": 2, "memory_gb": 0.5, "notes": "n", "time_limit_s": 60.0}
    old = api.post("/runs", {**TEXT, **wanted})["id"]
    nothing: dict[str, Any] = {
        "priority": 0, "tags": [], "gpus": None, "memory_gb": None, "notes": "", "time_limit_s": None,
    }  # fmt: skip
    with Client(ADDRESS, transport=api.transport()) as client:
        for name in wanted:
            made = client.rerun(old, RerunRequest.model_validate({name: None}))
            assert {one: getattr(made, one) for one in wanted} == {**wanted, name: nothing[name]}
        same = client.rerun(old, RerunRequest())
        assert {one: getattr(same, one) for one in wanted} == wanted


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"border_px": 3}, "has no such field"),
        ({"stage": "ingest"}, "has no such field"),
        ({"lifting.border_px": -1}, "border_px"),
    ],
)
def test_a_rerun_with_a_change_that_cannot_be_is_refused(api: Any, offices: str, changes: Any, said: str) -> None:
    made = api.post("/experiments", {"name": "x", "runs": [INGEST, EXTRACT]})
    problem = api.post(f"/runs/{made['runs'][1]['id']}/rerun", {"changes": changes}, status=422)
    assert problem["code"] == "spec_invalid" and said in problem["detail"]
    assert len(api.get("/runs")["items"]) == 2


def test_a_rerun_under_a_key_is_made_once(api: Any) -> None:
    old = api.post("/runs", TEXT)
    headers = {"Idempotency-Key": "again-1"}
    url = f"{API}/runs/{old['id']}/rerun"
    first, second = (api.http.post(url, json={}, headers=headers) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"] != old["id"]
    third = api.http.post(f"{API}/runs/{first.json()['id']}/rerun", json={}, headers=headers)
    assert third.json()["code"] == "key_reused"
    assert api.post("/runs/r404/rerun", {}, status=404)["code"] == "not_found"


# ---- deletions


def test_deleting_a_run_answers_what_went_and_what_stays(api: Any, worker: Any) -> None:
    first, second = api.post("/runs", TEXT), None
    claim = worker.claim()
    shared, own = "ab" * 16, "cd" * 16
    for key in (shared, own):
        worker.publish(claim, key, "figures", {"a.png": b"x" * 100})
    leases.succeed(worker.db, claim.token, {"text_embeddings": shared, "more": own}, cached=False)
    second = api.post("/runs", {**TEXT, "name": "twin"})
    twin = worker.claim()
    leases.succeed(worker.db, twin.token, {"text_embeddings": shared}, cached=True)
    foreseen = delete(api, f"/runs/{first['id']}", dry_run=True, at_once=True)
    assert api.get(f"/runs/{first['id']}")["state"] == "succeeded"
    done = delete(api, f"/runs/{first['id']}", at_once=True)
    assert done == {**foreseen, "dry_run": False}
    assert [one["key"] for one in done["removed"]] == [own]
    assert [(one["key"], one["why"]) for one in done["kept"]] == [(shared, f"an output of the run {second['id']}")]
    assert done["num_bytes"] == done["removed"][0]["num_bytes"] > 100
    assert api.get(f"/artifacts/{own}", status=404) and api.get(f"/artifacts/{shared}")["run_id"] == first["id"]
    assert not list((api.parts.settings.store_path / "staging").glob(".*")), "what was renamed away is removed"
    delete(api, f"/runs/{first['id']}", status=404)
    assert delete(api, f"/runs/{second['id']}", at_once=True)["num_bytes"] > 100
    assert api.get("/runs")["items"] == []


def test_deleting_what_has_not_ended_is_refused(api: Any, offices: str) -> None:
    made = api.post("/experiments", {"recipe": "3dss-vlg", "dataset": offices})
    assert "cancel it first" in delete(api, f"/runs/{made['runs'][0]['id']}", status=409)["detail"]
    assert delete(api, f"/experiments/{made['id']}", status=409)["code"] == "illegal_move"
    api.post(f"/experiments/{made['id']}/cancel", status=200)
    assert len(delete(api, f"/experiments/{made['id']}")["runs"]) == 10
    assert api.get("/experiments")["items"] == [] == api.get("/runs")["items"]
    assert delete(api, f"/experiments/{made['id']}", status=404)["code"] == "not_found"


def test_a_new_service_ends_the_deletions_of_one_that_died(settings: Settings, database_url: str) -> None:
    config = settings.model_copy(update={"database_url": database_url})
    with TestClient(create_app(config), ADDRESS, client=HERE) as http:
        made = http.post(f"{API}/runs", json=TEXT).json()
        assert http.post(f"{API}/runs/{made['id']}/cancel").status_code == 200
        db = http.app.state.parts.db  # type: ignore[attr-defined]
        with db.write() as session:
            session.add(RemovalRow(what="run", id=made["id"], at=now(session)))
    with TestClient(create_app(config), ADDRESS, client=HERE) as http:
        wait_until(lambda: http.get(f"{API}/runs/{made['id']}").status_code == 404, within_s=60)


# ---- hosts, requests, retries


def test_hosts_are_paused_resumed_and_drained(api: Any) -> None:
    host = hosts.register(api.parts.db, "lab", 7, 2, [0, 1], memory_gb=64.0)
    (shown,) = api.get("/hosts")["items"]
    assert (shown["mode"], shown["memory_gb"], shown["alive"]) == ("active", 64.0, True)
    for verb, mode in (("pause", "paused"), ("drain", "draining"), ("resume", "active")):
        assert api.post(f"/hosts/{host}/{verb}", status=200)["mode"] == mode
        assert api.get("/hosts")["items"][0]["mode"] == mode
    hosts.retire(api.parts.db, host)
    assert "start another" in api.post(f"/hosts/{host}/resume", status=409)["detail"]
    assert api.post("/hosts/h404/pause", status=404)["code"] == "not_found"


def test_what_runs_of_an_experiment_ask_for(api: Any, offices: str) -> None:
    """GPUs that are wanted of a whole experiment are wanted of the stages that use any."""
    made = api.post(
        "/experiments", {"recipe": "3dss-vlg", "dataset": offices, "gpus": 2, "memory_gb": 24, "preset": "demo"}
    )
    gpus = {run["name"]: run["gpus"] for run in made["runs"]}
    assert gpus == {**gpus, "ingest": None, "extract": 2, "distill": 2, "evaluate": None}
    assert {run["memory_gb"] for run in made["runs"]} == {24}
    assert api.post("/runs", {**TEXT, "gpus": 1})["gpus"] == 1
    for wrong in ({"gpus": -1}, {"memory_gb": 0}):
        api.post("/runs", {**TEXT, **wrong}, status=422)


def test_a_ready_run_says_why_nobody_takes_it(api: Any) -> None:
    made = api.post("/runs", {**TEXT, "gpus": 8})
    hosts.register(api.parts.db, "lab", 7, 2, [0, 1])

    def said() -> str:
        return str(api.get(f"/runs/{made['id']}")["waiting_for"])

    wait_until(lambda: "none of the 1 that live has that (lab: 2 GPUs)" in said(), within_s=60)


def test_a_ready_run_says_that_no_host_takes_its_stage(api: Any) -> None:
    made = api.post("/runs", TEXT)
    hosts.register(api.parts.db, "lab", 7, 2, [], stages=["verify", "extract"])
    assert api.get("/hosts")["items"][0]["stages"] == ["extract", "verify"]

    def said() -> str:
        return str(api.get(f"/runs/{made['id']}")["waiting_for"])

    wait_until(lambda: said().startswith("a worker host that takes embed_labels"), within_s=60)


@pytest.mark.parametrize("what", ["runs", "experiments"])
def test_a_retry_anew_goes_on_from_no_earlier_checkpoint(api: Any, worker: Any, what: str, tmp_path: Path) -> None:
    made = api.post("/experiments", {"name": "x", "runs": [TEXT]})
    run_id, which = made["runs"][0]["id"], made["id"] if what == "experiments" else made["runs"][0]["id"]
    places = []
    for anew in (None, "true", "false", "true"):
        claim = worker.claim()
        leases.fail(worker.db, claim.token, "c", "m")
        run = runs.get(worker.db, run_id)
        places.append(RunFiles(tmp_path).resume(run_id, run.anew_after))
        params = {} if anew is None else {"anew": anew}
        assert api.http.post(f"{API}/{what}/{which}/retry", params=params).status_code == 200
    assert places[0] == places[1] != places[2] == places[3]
    assert runs.get(worker.db, run_id).anew_after == 4


# ---- who may


def test_only_owners_and_admins_delete_and_only_admins_pause_hosts(guarded: TestClient) -> None:
    db: Database = guarded.app.state.parts.db  # type: ignore[attr-defined]
    who = {
        name: {"Authorization": f"Bearer {access_tokens.create(db, name, role, None)[1]}"}  # type: ignore[arg-type]
        for name, role in (("ada", "submitter"), ("eve", "submitter"), ("bob", "reader"), ("max", "admin"))
    }
    host = hosts.register(db, "lab", 7, 2, [])
    made = guarded.post(f"{API}/runs", json=TEXT, headers=who["ada"]).json()
    guarded.post(f"{API}/runs/{made['id']}/cancel", headers=who["ada"])
    for name in ("eve", "bob"):
        assert guarded.delete(f"{API}/runs/{made['id']}", headers=who[name]).status_code == 403
        for verb in ("pause", "resume", "drain"):
            assert guarded.post(f"{API}/hosts/{host}/{verb}", headers=who[name]).status_code == 403
    rerun = guarded.post(f"{API}/runs/{made['id']}/rerun", json={}, headers=who["eve"])
    assert (rerun.status_code, rerun.json()["owner"]) == (201, "eve")
    assert guarded.delete(f"{API}/runs/{made['id']}", headers=who["ada"]).status_code == 200
    assert guarded.post(f"{API}/runs/{rerun.json()['id']}/cancel", headers=who["max"]).status_code == 200
    assert guarded.delete(f"{API}/runs/{rerun.json()['id']}", headers=who["max"]).status_code == 200
    assert guarded.post(f"{API}/hosts/{host}/pause", headers=who["max"]).json()["mode"] == "paused"
    with pytest.raises(VlglabError):
        hosts.set_mode(db, "h404", "paused")

"""Looking at runs over HTTP: lists with filters, sorts and chosen fields, comparisons, lineage and attempts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from benchmarks.populate import experiment_id, made_at, populate, run_id
from service.client import Client
from storage.errors import InvalidInput, UnknownName
from storage.records import leases
from tests.fixtures.waiting import wait_until

LABELS = {"spec": {"stage": "embed_labels", "label_set": "s3dis13"}}


def test_lists_take_every_filter_and_sort(api: Any) -> None:
    populate(api.parts.db, 60, 5)

    def numbers(**query: Any) -> list[int]:
        return [run["spec"]["seed"] for run in api.get("/runs", **query)["items"]]

    whole = list(range(60))
    moment = made_at(30).isoformat()
    assert numbers() == whole[::-1]
    assert numbers(sort="oldest", limit=3) == [0, 1, 2]
    assert numbers(created_before=moment) == whole[29::-1]
    assert numbers(created_after=moment, sort="oldest") == whole[30:]
    assert numbers(text="HALF the") == [3]
    assert numbers(experiment=experiment_id(25)) == list(range(29, 19, -1))
    assert numbers(metric=["miou>20%", "miou.ours<0.5"], stage="evaluate") == [8]
    assert numbers(metric="loss>=0", sort="highest:miou") == [18, 8]
    assert numbers(state="failed", finished_after=made_at(0).isoformat(), sort="finished")[0] == 2
    assert numbers(finished_before=made_at(0).isoformat()) == []


def test_a_list_of_chosen_fields(api: Any) -> None:
    made = api.post("/runs", LABELS)
    wait_until(lambda: api.get(f"/runs/{made['id']}")["state"] == "ready", 30)  # and stays, for nobody claims it
    (only,) = api.get("/runs", fields="state, created_at,tags")["items"]
    assert set(only) == {"id", "state", "created_at", "tags"}
    assert only == {name: api.get(f"/runs/{made['id']}")[name] for name in only}
    problem = api.get("/runs", status=422, fields="id,stat")
    assert problem["code"] == "unknown_name"
    assert "state" in problem["detail"]


@pytest.mark.parametrize(
    "query",
    [
        {"sort": "best"}, {"sort": "highest:"}, {"metric": "loss"}, {"metric": ["a<1"] * 5}, {"text": ""},
        {"created_after": "yesterday"}, {"finished_before": "0.5"},
        {"created_before": "2026-01-31T00:00:00"}, {"cursor": "r0199f2a4c0de5e1a"},
        {"state": "dead"}, {"limit": 501}, {"fields": "token"},
    ],
)  # fmt: skip
def test_what_a_list_refuses(api: Any, query: dict[str, Any]) -> None:
    assert api.get("/runs", status=422, **query)["detail"]


@pytest.mark.parametrize(
    ("moment", "status"),
    [
        ("0001-01-01T00:00:00Z", 200), ("9999-12-31T23:59:59Z", 200),
        ("0001-01-01T00:00:00+14:00", 422), ("9999-12-31T23:59:59-14:00", 422),
    ],
)  # fmt: skip
def test_the_ends_of_the_calendar(api: Any, moment: str, status: int) -> None:
    api.post("/runs", LABELS)
    for name in ("created_after", "created_before", "finished_after", "finished_before"):
        for sort in ("newest", "finished"):
            answer = api.http.get("/api/v1/runs", params={name: moment, "sort": sort})
            assert answer.status_code == status, answer.text


def test_experiments_are_narrowed_and_sorted(api: Any) -> None:
    populate(api.parts.db, 60, 5)

    def ids(**query: Any) -> list[str]:
        return [found["id"] for found in api.get("/experiments", **query)["items"]]

    every = [experiment_id(index) for index in range(0, 60, 10)]
    assert ids() == every[::-1]
    assert ids(sort="oldest", limit=2) == every[:2]
    assert ids(owner="bob") == [every[5], every[1]]
    assert ids(recipe="ablation-a", owner="ada", sort="oldest") == [every[0], every[3]]
    assert ids(text="SWEEP 3") == [every[3]]
    assert ids(created_after=made_at(10).isoformat(), created_before=made_at(30).isoformat()) == [every[2], every[1]]
    api.get("/experiments", status=422, sort="finished")


def test_runs_side_by_side(api: Any) -> None:
    populate(api.parts.db, 60, 5)
    pair = [run_id(55), run_id(45)]
    found = api.get("/runs/compare", id=pair)
    assert [run["id"] for run in found["runs"]] == pair
    assert found["spec"]["epochs"] == {pair[0]: 0, pair[1]: 1}
    assert found["metrics"]["loss"].keys() == set(pair)
    scored = api.get("/runs/compare", id=[run_id(8), run_id(18)])
    assert {one["run_id"]: one["evaluated_by"] for one in scored["evaluations"]} == {
        run_id(8): run_id(8), run_id(18): run_id(18),
    }  # fmt: skip
    assert scored["evaluations"][0]["iou"].keys() == {"wall", "floor"}
    assert api.get("/runs/compare", status=422, id=pair[:1])["code"] == "request_invalid"
    assert api.get("/runs/compare", status=404, id=[pair[0], "r404"])["code"] == "not_found"


def test_comparing_is_no_run_s_path(api: Any) -> None:
    answer = api.http.options("/api/v1/runs/compare")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


def test_lineage_and_attempts_of_a_run(api: Any, worker: Any) -> None:
    made = api.post("/runs", LABELS)
    claim = worker.claim()
    leases.fail(worker.db, claim.token, "training_failed", "no luck", None)
    (attempt,) = api.get(f"/runs/{made['id']}/attempts")["items"]
    assert (attempt["number"], attempt["state"], attempt["reason"]) == (1, "failed", "no luck")
    assert claim.token not in str(attempt)
    alone = api.get(f"/runs/{made['id']}/lineage")
    assert [run["id"] for run in alone["runs"]] == [made["id"]]
    assert alone["whole"] is True
    for rest in ("lineage", "attempts"):
        assert api.get(f"/runs/r404/{rest}", status=404)["code"] == "not_found"
    api.get(f"/runs/{made['id']}/lineage", status=422, depth=0)


def test_the_client_reads_all_of_it(api: Any) -> None:
    populate(api.parts.db, 60, 5)
    transport = httpx.MockTransport(lambda request: _passed_on(api, request))
    with Client("http://127.0.0.1:8765", transport=transport) as client:
        since = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=250)
        assert [run.id for run in client.runs(created_after=since, sort="oldest")] == [
            run_id(index) for index in range(50, 60)
        ]
        assert [run.id for run in client.runs(text="Half", metric=["loss>0"])] == [run_id(3)]
        part = next(iter(client.run_parts(["state", "priority"])))
        assert part.model_dump() == {"id": run_id(59), "state": "running", "priority": 59 * 13 % 7 - 3}
        assert len(client.compare([run_id(5), run_id(15)]).runs) == 2
        assert {run.distance for run in client.lineage(run_id(15), depth=2).runs} == {-2, -1, 0, 1, 2}
        assert client.attempts(run_id(5)) == []
        assert [one.id for one in client.experiments(owner="bob", sort="oldest")] == [
            experiment_id(10),
            experiment_id(50),
        ]
        with pytest.raises(UnknownName):
            next(iter(client.run_parts(["stat"])))
        with pytest.raises(InvalidInput):
            next(iter(client.runs(metric=["loss"])))


def _passed_on(api: Any, request: httpx.Request) -> httpx.Response:
    answer = api.http.get(request.url.raw_path.decode())
    return httpx.Response(answer.status_code, content=answer.content, headers={"Content-Type": "application/json"})

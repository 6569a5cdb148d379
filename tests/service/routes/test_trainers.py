"""External runs over HTTP: one from its submission to its end, the forms of a batch, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from service import examples
from service.schemas.metrics import MAX_POINTS_A_CALL
from storage.records import leases

EXTERNAL = {"name": "mine", "spec": {"stage": "external", "parameters": {"rate": 0.1}}}


@pytest.fixture
def run(api: Any) -> str:
    """The id of an external run that was started as it was submitted."""
    return str(api.post("/runs", {**EXTERNAL, "lease_s": 600})["id"])


def values(api: Any, run: str) -> list[tuple[str, int, float | None]]:
    return [(p["name"], p["step"], p["value"]) for p in api.get(f"/runs/{run}/metrics")["items"]]


def test_a_run_from_its_submission_to_its_end(api: Any) -> None:
    made = api.post("/runs", EXTERNAL)
    assert made["state"] == "queued"
    begun = api.post(f"/runs/{made['id']}/start", {"lease_s": 60}, status=200)
    assert (begun["state"], begun["attempt"]) == ("running", 1)
    assert api.post(f"/runs/{made['id']}/start", {}, status=409)["code"] == "illegal_move"
    progress = {"unit": "epoch", "done": 1.0, "total": 2.0}
    held = api.post(f"/runs/{made['id']}/beat", {"attempt": 1, "progress": progress}, status=200)
    assert (held["run_id"], held["attempt"]) == (made["id"], 1) and held["lease_until"] > begun["started_at"]
    api.post(f"/runs/{made['id']}/metrics", {"steps": [0], "columns": {"loss": [0.5]}}, status=200)
    body = {"attempt": 1, "state": "failed", "reason": "no luck"}
    for _ in range(2):
        ended = api.post(f"/runs/{made['id']}/finish", body, status=200)
        assert (ended["state"], ended["reason"], ended["reason_code"]) == ("failed", "no luck", "trainer_failed")
    assert api.post(f"/runs/{made['id']}/beat", {}, status=409)["code"] == "lease_lost"
    again = api.post(f"/runs/{made['id']}/retry", status=200)
    assert again["state"] == "queued"
    assert api.post(f"/runs/{made['id']}/start", {}, status=200)["attempt"] == 2
    assert api.post(f"/runs/{made['id']}/cancel", status=200)["state"] == "cancelled"
    assert api.post(f"/runs/{made['id']}/beat", {}, status=409)["code"] == "cancelled"


@pytest.mark.parametrize(
    "batch",
    [
        {"steps": [0, 1], "columns": {"loss": [0.5, None], "lr": [1, 2]}},
        {"series": {"loss": {"steps": [0, 1], "values": [0.5, None]}, "lr": {"steps": [0, 1], "values": [1, 2]}}},
        {
            "points": [
                {"name": "loss", "step": 0, "value": 0.5},
                {"name": "loss", "step": 1},
                {"name": "lr", "step": 0, "value": 1},
                {"name": "lr", "step": 1, "value": 2},
            ]
        },
    ],
    ids=["table", "series", "points"],
)
def test_a_batch_may_have_three_forms_and_be_sent_again(api: Any, run: str, batch: dict[str, Any]) -> None:
    for _ in range(2):
        api.post(f"/runs/{run}/metrics", {"attempt": 1, **batch}, status=200)
        assert values(api, run) == [("loss", 0, 0.5), ("lr", 0, 1), ("loss", 1, None), ("lr", 1, 2)]


@pytest.mark.parametrize(
    "batch",
    [
        {"steps": [0, 1], "columns": {"loss": [0.5]}},
        {"steps": [0]},
        {"series": {"loss": {"steps": [0], "values": []}}},
        {"steps": [0], "columns": {"": [1.0]}},
        {"steps": [0], "columns": {"a\0b": [1.0]}},
        {"steps": [2**60], "columns": {"loss": [1.0]}},
        {"steps": [0], "columns": {"loss": ["much"]}},
        {"points": [{"step": 0, "value": 1.0}]},
        {"attempt": 0, "steps": [0], "columns": {"loss": [1.0]}},
        {"series": {"loss": {"steps": list(range(MAX_POINTS_A_CALL + 1)), "values": [0] * (MAX_POINTS_A_CALL + 1)}}},
    ],
    ids=["short", "no columns", "empty", "no name", "NUL", "huge step", "text", "nameless", "attempt 0", "too many"],
)
def test_a_wrong_batch_is_refused_whole(api: Any, run: str, batch: dict[str, Any]) -> None:
    assert api.post(f"/runs/{run}/metrics", batch, status=422)["code"] == "request_invalid"
    assert values(api, run) == []


def test_what_is_a_workers_is_refused(api: Any, worker: Any) -> None:
    made = api.post("/runs", {"spec": {"stage": "embed_labels", "label_set": "s3dis13"}})
    assert worker.claim().run_id == made["id"]
    batch = {"steps": [0], "columns": {"loss": [0.5]}}
    assert api.post(f"/runs/{made['id']}/metrics", batch, status=409)["code"] == "illegal_move"
    wrong = {"spec": {"stage": "embed_labels", "label_set": "s3dis13"}, "lease_s": 60}
    assert api.post("/runs", wrong, status=422)["code"] == "spec_invalid"


@pytest.mark.parametrize("call", ["start", "beat", "metrics", "finish"])
def test_a_run_that_is_not_there(api: Any, call: str) -> None:
    body = {"state": "failed"} if call == "finish" else {}
    assert api.post(f"/runs/r0/{call}", body, status=404)["code"] == "not_found"


def test_an_experiment_of_external_runs_is_started_at_once(api: Any) -> None:
    runs = [{**EXTERNAL, "name": f"n{n}", "lease_s": 60, "tags": ["b", "a"]} for n in range(30)]
    made = api.post("/experiments", {"name": "sweep", "runs": runs, "tags": ["all"]})
    assert [run["name"] for run in made["runs"]] == [run["name"] for run in runs]
    assert {(run["state"], run["attempt"], tuple(run["tags"])) for run in made["runs"]} == {
        ("running", 1, ("a", "all", "b"))
    }
    assert made["runs"] == api.get(f"/experiments/{made['id']}")["runs"]
    for run in made["runs"][:2]:
        assert run == api.get(f"/runs/{run['id']}")


def test_a_chart_has_the_same_points_as_the_history(api: Any, worker: Any) -> None:
    made = api.post("/runs", {"spec": {"stage": "embed_labels", "label_set": "s3dis13"}})
    claim = worker.claim()
    leases.append_metrics(worker.db, claim.token, [("loss", s, 1 / (s + 1)) for s in range(100)] + [("lr", 7, 0.1)])
    chart = api.get(f"/runs/{made['id']}/metrics", name="loss", buckets=4)
    assert (chart["first"], chart["last"], chart["width"]) == (0, 99, 25)
    (loss,) = chart["series"]
    assert loss["num_points"] == 100 and loss["first_step"] == [0, 25, 50, 75] and loss["last_step"][-1] == 99
    assert loss["first"] == loss["max"] == [1.0, 1 / 26, 1 / 51, 1 / 76]
    assert loss["last"] == loss["min"] == [1 / 25, 1 / 50, 1 / 75, 1 / 100]
    part = api.get(f"/runs/{made['id']}/metrics", buckets=500, first=5, last=8)
    assert [(s["name"], s["first_step"]) for s in part["series"]] == [("loss", [5, 6, 7, 8]), ("lr", [7])]
    items = api.get(f"/runs/{made['id']}/metrics", first=5, last=8)["items"]
    assert [p["value"] for p in items if p["name"] == "loss"] == part["series"][0]["first"]
    assert api.get(f"/runs/{made['id']}/metrics", buckets=5, first=1000)["series"] == []
    assert api.get("/runs/r0/metrics", status=404, buckets=5)["code"] == "not_found"
    assert api.get(f"/runs/{made['id']}/metrics", status=422, buckets=0)["code"] == "request_invalid"


def test_the_examples_are_accepted(api: Any) -> None:
    run = api.post("/runs", examples.EXTERNAL_REQUEST)["id"]
    for batch in (examples.METRIC_BATCH, examples.METRIC_BATCH_OF_SERIES, examples.METRIC_BATCH_OF_POINTS):
        api.post(f"/runs/{run}/metrics", batch, status=200)
    api.post(f"/runs/{run}/beat", examples.BEAT_REQUEST, status=200)
    api.post(f"/runs/{run}/finish", examples.FINISH_REQUEST, status=200)

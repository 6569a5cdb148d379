"""Reading and cancelling runs while a worker is at them."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from service import log_reading
from service.dependencies import THREADS
from storage.artifacts.run_files import RunFiles
from storage.artifacts.run_logs import Log
from storage.records import leases
from storage.records.evaluations import EvaluationRow
from tests.fixtures.waiting import wait_until

LABELS = {"spec": {"stage": "embed_labels", "label_set": "s3dis13"}}


def test_a_run_shows_what_its_worker_reports(api: Any, worker: Any) -> None:
    made = api.post("/runs", LABELS)
    claim = worker.claim()
    code = {"version": "0.1.0", "commit": "abc", "dirty": True}
    leases.start(worker.db, claim.token, pid=7, host="lab", device="cpu", code=code, environment={"python": "3.11"})
    progress = {"unit": "epoch", "done": 3, "total": 8, "loss": 0.5, "eta_s": 12.5}
    leases.beat(worker.db, claim.token, lease_s=60, progress=progress, rss_bytes=1000)
    leases.append_metrics(worker.db, claim.token, [("loss", s, 1 / (s + 1)) for s in range(4)] + [("lr", 0, 0.1)])
    leases.note(worker.db, claim.token, "left out 2 frames")
    run = api.get(f"/runs/{made['id']}")
    assert (run["state"], run["host"], run["device"], run["code"]) == ("running", "lab", "cpu", code)
    assert run["progress"] == {**progress, "message": None}
    assert run["peak_rss_bytes"] == 1000
    points = api.get(f"/runs/{made['id']}/metrics", name="loss", limit=2)["items"]
    assert [(p["step"], p["value"]) for p in points] == [(2, 1 / 3), (3, 0.25)]
    assert len(api.get(f"/runs/{made['id']}/metrics")["items"]) == 5
    whole = api.get(f"/runs/{made['id']}/events")
    assert [e["state"] for e in whole["items"]] == ["queued", "ready", "running", "running", "running"]
    assert whole["items"][-1]["message"] == "left out 2 frames"
    part = api.get(f"/runs/{made['id']}/events", limit=2)
    rest = api.get(f"/runs/{made['id']}/events", cursor=part["next"])
    assert part["items"] + rest["items"] == whole["items"]
    assert api.get(f"/runs/{made['id']}/events", cursor=rest["next"]) == {"items": [], "next": rest["next"]}
    assert [h["name"] for h in api.get("/hosts")["items"]] == ["here"]


def test_a_failure_tells_scene_and_reason(api: Any, worker: Any) -> None:
    made = api.post("/runs", LABELS)
    claim = worker.claim()
    leases.fail(worker.db, claim.token, "frame_invalid", "frame 12: corrupt JPEG", "scene0000_00")
    run = api.get(f"/runs/{made['id']}")
    assert (run["state"], run["reason_code"], run["scene"]) == ("failed", "frame_invalid", "scene0000_00")
    assert run["reason"] == "frame 12: corrupt JPEG"
    assert api.post(f"/runs/{made['id']}/cancel", status=409)["code"] == "illegal_move"


def test_cancelling(api: Any, worker: Any) -> None:
    made = api.post("/runs", LABELS)
    claim = worker.claim()
    assert api.post(f"/runs/{made['id']}/cancel", status=200)["cancel_requested"] is True
    assert leases.beat(worker.db, claim.token, lease_s=60)
    leases.cancelled(worker.db, claim.token)
    assert api.get(f"/runs/{made['id']}")["state"] == "cancelled"


def test_cancelling_an_experiment(api: Any, offices: str) -> None:
    made = api.post("/experiments", {"recipe": "3dss-vlg", "dataset": offices})
    done = api.post(f"/experiments/{made['id']}/cancel", status=200)
    assert (done["state"], done["states"]) == ("cancelled", {"cancelled": 10})
    assert api.post(f"/experiments/{made['id']}/cancel", status=409)["code"] == "illegal_move"


def test_lists_by_pages_and_filters(api: Any, offices: str) -> None:
    made = api.post("/experiments", {"recipe": "3dss-vlg", "dataset": offices})
    api.post("/runs", LABELS)
    seen: list[str] = []
    cursor = None
    while True:
        page = api.get("/runs", limit=4, **({"cursor": cursor} if cursor else {}))
        seen += [run["id"] for run in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert len(seen) == 11
    assert seen == sorted(seen, reverse=True)
    assert {r["name"] for r in api.get("/runs", stage="pseudo_label")["items"]} == {"pseudo_label", "label_text"}
    assert len(api.get("/runs", experiment=made["id"])["items"]) == 10
    assert {r["name"] for r in api.get("/runs", dataset=offices)["items"]} == {"ingest", "extract"}
    assert api.get("/runs", state="failed")["items"] == []
    assert "state" in api.get("/runs", status=422, state="dead")["detail"]


@pytest.mark.parametrize("rest", ["", "/metrics", "/logs", "/events", "/evaluations", "/files"])
def test_a_run_that_is_not_there(api: Any, rest: str) -> None:
    problem = api.get(f"/runs/r404{rest}", status=404)
    assert problem["code"] == "not_found"
    assert "r404" in problem["detail"]


def test_an_experiment_that_is_not_there(api: Any) -> None:
    for path in ("/experiments/e404", "/experiments/e404/evaluations"):
        assert api.get(path, status=404)["code"] == "not_found"
    assert api.post("/experiments/e404/cancel", status=404)["code"] == "not_found"


def test_a_log_is_read_piece_by_piece(api: Any, worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = api.post("/runs", LABELS)
    url = f"/api/v1/runs/{made['id']}/logs"
    before = api.http.get(url)
    assert (before.status_code, before.text, before.headers["X-Next-Offset"]) == (200, "", "0")
    claim = worker.claim()
    path = RunFiles(worker.parts.settings.store_path).log(claim.run_id, claim.attempt)
    path.parent.mkdir(parents=True)
    whole = "mIoU 43 % – µ größer\n日本語 😀\n" * 3
    path.write_bytes(whole.encode())
    assert api.http.get(url).text == whole
    assert api.http.get(url, params={"tail": 20}).text == "日本語 😀\n"
    assert api.http.get(url, params={"tail": 20}).headers["X-Next-Offset"] == str(len(whole.encode()))
    assert "leave the other out" in api.get(url.removeprefix("/api/v1"), status=422, tail=20, offset=1)["detail"]
    monkeypatch.setattr(log_reading, "LOG_BYTES", 7)
    text, offset = "", 0
    while True:
        piece = api.http.get(url, params={"offset": offset})
        assert piece.headers["content-type"] == "text/plain; charset=utf-8"
        assert "\ufffd" not in piece.text
        following = int(piece.headers["X-Next-Offset"])
        if following == offset:
            break
        text, offset = text + piece.text, following
    assert text == whole
    with path.open("ab") as log:
        log.write("ö".encode()[:1])
    half = api.http.get(url, params={"offset": offset})
    assert (half.text, half.headers["X-Next-Offset"]) == ("", str(offset))
    assert api.http.get(url, params={"attempt": 1}).status_code == 200
    assert api.get(f"/runs/{made['id']}/logs", status=404, attempt=2)["code"] == "not_found"


def test_a_bucket_that_does_not_answer_for_logs_leaves_threads_to_other_requests(
    api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = api.post("/runs", LABELS)
    asked, answers = list[str](), threading.Event()
    opened = RunFiles.open_log

    def hang(self: RunFiles, run_id: str, attempt: int) -> Log:
        asked.append(run_id)
        answers.wait(20)
        return opened(self, run_id, attempt)

    monkeypatch.setattr(RunFiles, "open_log", hang)
    monkeypatch.setattr(RunFiles, "are_sent", True)
    with ThreadPoolExecutor(2 * THREADS) as pool:
        try:
            logs = [pool.submit(api.http.get, f"/api/v1/runs/{made['id']}/logs") for _ in range(2 * THREADS)]
            wait_until(lambda: len(asked) == THREADS // 2, within_s=20)
            began = time.monotonic()
            assert api.get(f"/runs/{made['id']}")["id"] == made["id"]
            assert time.monotonic() - began < 10, "it did not wait for the bucket"
        finally:
            answers.set()
        assert {log.result().status_code for log in logs} == {200}


def test_bytes_that_are_no_text_do_not_stop_a_log(api: Any, worker: Any) -> None:
    made = api.post("/runs", LABELS)
    claim = worker.claim()
    path = RunFiles(worker.parts.settings.store_path).log(claim.run_id, claim.attempt)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\xff\xfe\x80\x80\x80\x80\x80")
    answer = api.http.get(f"/api/v1/runs/{made['id']}/logs")
    assert answer.headers["X-Next-Offset"] == "7"


def test_evaluations_of_a_run_and_its_experiment(api: Any, worker: Any) -> None:
    made = api.post("/experiments", {"name": "x", "runs": [LABELS]})
    claim = worker.claim()
    worker.publish(claim, "e" * 32, "figures", {"a.png": b"x"})
    classes = [{"name": "wall", "iou": 0.25, "accuracy": None, "num_points": 4}]
    rows = [EvaluationRow("ours", "covered", 0.25, 0.5, 4, classes, [[1, 3]], None)]
    worker.score(claim, "e" * 32, rows)
    leases.succeed(worker.db, claim.token, {"text_embeddings": "e" * 32}, cached=False)
    (found,) = api.get(f"/runs/{claim.run_id}/evaluations")["items"]
    assert (found["prediction"], found["subset"], found["miou"], found["macc"]) == ("ours", "covered", 0.25, 0.5)
    assert (found["classes"], found["confusion"], found["run_name"]) == (classes, [[1, 3]], "embed_labels")
    assert api.get(f"/experiments/{made['id']}/evaluations")["items"] == [found]

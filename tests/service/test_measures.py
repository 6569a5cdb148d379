"""What Prometheus reads, by its own parser, against what a test did."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from storage.records import leases, policies, webhooks
from storage.records.states import STATES

LABELS = {"spec": {"stage": "embed_labels", "label_set": "s3dis13"}}
PAGE = Path(__file__).resolve().parents[2] / "docs" / "operating.md"
Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(api: Any) -> Samples:
    answer = api.http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def test_the_lab_as_it_stands(api: Any, worker: Any) -> None:
    assert {state: value(scrape(api), "vlglab_runs", state=state) for state in STATES} == dict.fromkeys(STATES, 0)
    for _ in range(3):
        api.post("/runs", {**LABELS, "name": "text"})
    first = worker.claim()
    leases.fail(worker.db, first.token, "x", "y")
    second = worker.claim()
    worker.publish(second, "a" * 32, "checkpoint", files={"x.bin": b"123"})
    seen = scrape(api)
    assert value(seen, "vlglab_runs", state="failed") == 1
    assert value(seen, "vlglab_runs", state="running") == 1
    assert value(seen, "vlglab_runs", state="succeeded") == 0
    assert value(seen, "vlglab_hosts") == 1 and value(seen, "vlglab_slots") == 64
    assert value(seen, "vlglab_artifacts") == 1 and value(seen, "vlglab_artifact_bytes") >= 3
    assert value(seen, "vlglab_events_total") >= 7
    assert value(seen, "vlglab_oldest_ready_seconds") >= 0


def test_what_waits_for_webhooks(api: Any, worker: Any) -> None:
    assert value(scrape(api), "vlglab_webhooks_waiting") == 0
    webhooks.add(worker.db, "https://hooks.example.org/", ["failed"], "ada", "salt", "a key that nobody has")
    for _ in range(3):
        api.post("/runs", LABELS)
        leases.fail(worker.db, worker.claim().token, "x", "y")
    assert value(scrape(api), "vlglab_webhooks_waiting") == 3


def test_the_room_that_the_store_has(api: Any, worker: Any, tmp_path: Path) -> None:
    seen = scrape(api)
    free = shutil.disk_usage(tmp_path).free
    assert abs(value(seen, "vlglab_store_disk_free_bytes") - free) < 1e9
    assert not any("quota" in name for name, _ in seen)
    api.post("/runs", LABELS)
    made = worker.publish(worker.claim(), "a" * 32, "checkpoint", files={"x.bin": b"123"})
    policies.change(worker.db, "ada", quota_bytes=made.num_bytes + 1000)
    seen = scrape(api)
    assert value(seen, "vlglab_store_quota_bytes") == made.num_bytes + 1000
    assert value(seen, "vlglab_store_quota_free_bytes") == 1000
    policies.change(worker.db, "ada", quota_bytes=1)
    assert value(scrape(api), "vlglab_store_quota_free_bytes") == 0


def test_events_are_counted_on_where_the_last_are_deleted(api: Any) -> None:
    run_id = api.post("/runs", LABELS)["id"]
    api.post(f"/runs/{run_id}/cancel", status=200)
    before = value(scrape(api), "vlglab_events_total")
    assert before >= 2
    assert api.http.delete(f"/api/v1/runs/{run_id}").status_code == 200
    assert value(scrape(api), "vlglab_events_total") == before
    api.post("/runs", LABELS)
    assert value(scrape(api), "vlglab_events_total") > before


def test_every_series_is_documented(api: Any) -> None:
    policies.change(api.parts.db, "ada", quota_bytes=1)
    api.get("/runs")
    seen = {re.sub("_(bucket|count|sum)$", "", name) for name, _ in scrape(api) if not name.endswith("_created")}
    (section,) = re.findall(r"(?ms)^## Metrics$(.*?)^## ", PAGE.read_text(encoding="utf-8"))
    assert set(re.findall(r"`(vlglab_\w+)`", section)) == seen


def test_answers_are_counted_by_route_and_never_by_id(api: Any) -> None:
    for run_id in ("r1", "r2", "r3"):
        api.get(f"/runs/{run_id}", status=404)
    api.get("/runs")
    api.http.get("/nowhere/at/all")
    for word in ("SPAM1", "SPAM2"):
        api.http.request(word, "/api/v1/runs")
    seen = scrape(api)
    route = "/runs/{run_id}"
    assert value(seen, "vlglab_http_answers_total", method="GET", route=route, status="404") == 3
    assert value(seen, "vlglab_http_answers_total", method="GET", route="/runs", status="200") == 1
    assert value(seen, "vlglab_http_answers_total", method="GET", route="(none)", status="404") == 1
    assert value(seen, "vlglab_http_request_seconds_count", method="GET", route=route) == 3
    assert value(seen, "vlglab_http_answers_total", method="(other)", route="/runs", status="405") == 2
    assert not any("r1" in str(labels) or "SPAM" in str(labels) for _, labels in seen)

"""What Prometheus reads, by its own parser, against what a test did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from storage.records import leases
from storage.records.states import STATES

LABELS = {"spec": {"stage": "embed_labels", "label_set": "s3dis13"}}
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

"""`vlglab runs external | start | log | finish | metrics`."""

from __future__ import annotations

import json

import httpx
import pytest

from service import examples
from tests.service.fake_api import FakeApi
from tests.service.test_cli import vlglab

RUN = {**examples.RUN, "id": "r1"}


def test_a_script_makes_a_run_logs_and_ends_it() -> None:
    api = FakeApi(
        {
            ("POST", "/api/v1/runs"): httpx.Response(201, json=RUN),
            ("POST", "/api/v1/runs/r1/metrics"): examples.HELD,
            ("POST", "/api/v1/runs/r1/start"): {**RUN, "attempt": 2},
            ("POST", "/api/v1/runs/r1/finish"): {**RUN, "state": "failed"},
        }
    )
    result, out = vlglab(api, "runs", "external", "mine", "--set", "rate=0.1", "--set", "net=abc", "--lease", "60")
    assert (result.exit_code, out) == (0, "r1\n")
    vlglab(api, "runs", "log", "r1", "loss=0.5", "lr=1", "--step", "7", "--attempt", "1")
    _, said = vlglab(api, "runs", "start", "r1")
    assert "attempt 2" in said
    _, said = vlglab(api, "runs", "finish", "r1", "failed", "--reason", "no luck")
    assert said == "r1 is failed\n"
    made, logged, started, ended = api.bodies()
    assert made["spec"]["parameters"] == {"rate": 0.1, "net": "abc"} and made["lease_s"] == 60
    assert logged["attempt"] == 1
    assert logged["points"] == [{"name": "loss", "step": 7, "value": 0.5}, {"name": "lr", "step": 7, "value": 1.0}]
    assert started == {"lease_s": 300}
    assert ended == {"state": "failed", "reason": "no luck", "attempt": None}


@pytest.mark.parametrize(
    "arguments",
    [["log", "r1", "loss=much", "--step", "1"], ["log", "r1", "loss", "--step", "1"], ["finish", "r1", "x"]],
)
def test_what_makes_no_sense_is_refused_before_it_is_sent(arguments: list[str]) -> None:
    api = FakeApi({})
    result, _ = vlglab(api, "runs", *arguments)
    assert result.exit_code == 2 and api.requests == []


def test_metrics_are_shown_by_buckets() -> None:
    api = FakeApi({("GET", "/api/v1/runs/r1/metrics"): examples.METRIC_CHART})
    _, table = vlglab(api, "runs", "metrics", "r1", "--name", "loss", "--buckets", "2", "--first", "0")
    assert dict(api.requests[0].url.params) == {"name": "loss", "buckets": "2", "first": "0"}
    assert "0-9999" in table and "0.29" in table
    _, text = vlglab(api, "runs", "metrics", "r1", "--json")
    assert json.loads(text) == examples.METRIC_CHART

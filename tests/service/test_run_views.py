"""The commands that look at many runs: what they ask for, and what they print."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from service import examples
from tests.service.fake_api import FakeApi
from tests.service.test_cli import page, vlglab

RUNS = ("GET", "/api/v1/runs")


def test_a_list_is_asked_for_as_it_was_narrowed() -> None:
    api = FakeApi({RUNS: page(examples.RUN)})
    before = datetime.now(UTC)
    result, _ = vlglab(
        api, "runs", "list", "--text", "not finite", "--metric", "miou>30%", "--metric", "loss<1", "--since", "2d",
        "--finished-until", "2026-01-31T12:00:00Z", "--sort", "lowest:loss",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    asked = api.requests[0].url.params
    assert asked.get_list("metric") == ["miou>30%", "loss<1"]
    assert (asked["text"], asked["sort"]) == ("not finite", "lowest:loss")
    assert asked["finished_before"] == "2026-01-31T12:00:00+00:00"
    since = datetime.fromisoformat(asked["created_after"]) + timedelta(days=2)
    assert before <= since <= datetime.now(UTC)


def test_chosen_fields_are_columns() -> None:
    part = {"id": "r1", "state": "failed", "reason": "[red] not finite", "priority": None, "tags": ["a"]}
    api = FakeApi({RUNS: page(part)})
    _, table = vlglab(api, "runs", "list", "--fields", "state, reason,priority,tags")
    assert api.requests[0].url.params["fields"] == "state,reason,priority,tags"
    assert "[red] not finite" in table
    assert '["a"]' in table
    _, text = vlglab(api, "runs", "list", "--fields", "state", "--json")
    assert json.loads(text) == [part]


@pytest.mark.parametrize("when", ["yesterday", "2x", "2026-13-01", "999999999w"])
def test_times_that_are_none(when: str) -> None:
    result, _ = vlglab(FakeApi({}), "runs", "list", "--since", when)
    assert result.exit_code == 2
    assert "expected how long ago" in result.stderr


def test_experiments_are_narrowed() -> None:
    api = FakeApi({("GET", "/api/v1/experiments"): page(examples.EXPERIMENT)})
    _, table = vlglab(
        api, "experiments", "list", "--owner", "ada", "--recipe", "cam", "--text", "x", "--sort", "oldest"
    )
    assert examples.EXPERIMENT["id"] in table
    assert dict(api.requests[0].url.params) == {"owner": "ada", "recipe": "cam", "text": "x", "sort": "oldest"}


def test_a_comparison_has_a_column_a_run() -> None:
    api = FakeApi({("GET", "/api/v1/runs/compare"): examples.COMPARISON})
    first, second = (run["id"] for run in examples.COMPARISON["runs"])
    _, out = vlglab(api, "runs", "compare", first, second)
    assert api.requests[0].url.params.get_list("id") == [first, second]
    lines = [line.split() for line in out.splitlines()]
    assert ["voxel_m", "0.05", "0.02"] in lines
    assert ["loss", "0.31", "0.28"] in lines
    assert ["ours,", "all:", "wall", "60.0"] in lines
    _, text = vlglab(api, "runs", "compare", first, second, "--json")
    assert json.loads(text)["spec"] == examples.COMPARISON["spec"]


def test_a_lineage_is_shown_from_its_sources_down() -> None:
    path = f"/api/v1/runs/{examples.LINEAGE['run_id']}/lineage"
    api = FakeApi({("GET", path): {**examples.LINEAGE, "whole": False}})
    _, out = vlglab(api, "runs", "lineage", examples.LINEAGE["run_id"], "--depth", "3")
    assert api.requests[0].url.params["depth"] == "3"
    source, itself = (line for line in out.splitlines() if line.startswith("r0"))
    assert "-1" in source
    assert "this run" in itself
    assert f"scenes of {examples.LINEAGE['links'][0]['source_id']}" in itself
    assert "there is more" in out


def test_attempts_are_listed() -> None:
    api = FakeApi({("GET", "/api/v1/runs/r1/attempts"): {"items": [examples.ATTEMPT]}})
    _, out = vlglab(api, "runs", "attempts", "r1")
    assert "its process has ended without a word" in out
    _, text = vlglab(api, "runs", "attempts", "r1", "--json")
    assert json.loads(text)[0]["state"] == "lost"

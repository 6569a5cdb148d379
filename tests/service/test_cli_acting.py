"""The command line that acts: what it sends, what it asks, and what it prints."""

from __future__ import annotations

import io
import json
from typing import Any

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from service import examples, keeping_examples
from service.cli.console import Shell
from service.cli.entry import app
from tests.service.fake_api import FakeApi

RUN = "/api/v1/runs/r1"
EXPERIMENT = "/api/v1/experiments/e1"
ARTIFACT = "/api/v1/artifacts/k1"
OF_ARTIFACT = {**keeping_examples.REMOVAL, "runs": []}
OF_EXPERIMENT = {**keeping_examples.REMOVAL, "experiment": "e1", "runs": ["r1", "r2"]}


def vlglab(api: FakeApi, *arguments: str, given: str = "") -> tuple[Result, str, str]:
    """Runs a command against a fake service; the result, and what it printed on stdout and on stderr."""
    out, err = io.StringIO(), io.StringIO()
    with api.client() as client:
        consoles = [Console(file=file, width=200, force_terminal=False) for file in (out, err)]
        result = CliRunner().invoke(app, list(arguments), obj=Shell(client, *consoles), input=given)
    return result, result.stdout + out.getvalue(), result.stderr + err.getvalue()


def sent(api: FakeApi) -> list[tuple[str, str, dict[str, str]]]:
    return [(request.method, request.url.path, dict(request.url.params)) for request in api.requests]


@pytest.mark.parametrize(
    ("group", "path", "which", "answer"),
    [
        ("runs", RUN, "r1", keeping_examples.REMOVAL),
        ("experiments", EXPERIMENT, "e1", OF_EXPERIMENT),
        ("features", ARTIFACT, "k1", OF_ARTIFACT),
    ],
)
def test_deleting_shows_what_goes_and_asks_first(group: str, path: str, which: str, answer: Any) -> None:
    api = FakeApi({("DELETE", path): answer})
    result, _, err = vlglab(api, group, "delete", which, given="n\n")
    assert result.exit_code != 0
    assert sent(api) == [("DELETE", path, {"dry_run": "true"})], "nothing is deleted without a yes"
    assert "goes" in err and "43.0 MB" in err and "an input of the run r0199f2a4c0dd2b3c" in err
    result, out, _ = vlglab(api, group, "delete", which, given="y\n")
    assert result.exit_code == 0
    assert sent(api)[-1] == ("DELETE", path, {})
    assert "1 artifacts (43.0 MB) go at 2026-02-07" in out and out.rstrip().endswith("1 stay")
    said = {"runs": "the run ", "experiments": "the experiment e1 with its 2 runs", "features": "the artifact k1"}
    assert f"deleted {said[group]}" in out


def test_deleting_with_yes_asks_nothing_and_a_dry_run_deletes_nothing() -> None:
    api = FakeApi({("DELETE", RUN): keeping_examples.REMOVAL})
    result, out, _ = vlglab(api, "runs", "delete", "r1", "--yes", "--json")
    assert (result.exit_code, sent(api)) == (0, [("DELETE", RUN, {})])
    assert json.loads(out) == keeping_examples.REMOVAL
    api.requests.clear()
    result, out, _ = vlglab(api, "runs", "delete", "r1", "--dry-run", "--yes", "--json")
    assert (result.exit_code, sent(api)) == (0, [("DELETE", RUN, {"dry_run": "true"})])


def test_bytes_are_freed_at_once_where_that_is_asked_for() -> None:
    api = FakeApi({("DELETE", ARTIFACT): {**OF_ARTIFACT, "due_at": None}})
    result, out, _ = vlglab(api, "features", "delete", "k1", "--at-once", given="y\n")
    assert (result.exit_code, sent(api)) == (
        0,
        [("DELETE", ARTIFACT, {"dry_run": "true", "at_once": "true"}), ("DELETE", ARTIFACT, {"at_once": "true"})],
    )
    assert "1 artifacts (43.0 MB) are gone" in out


def test_a_rerun_sends_its_changes_as_values_and_prints_the_new_id() -> None:
    api = FakeApi({("POST", f"{RUN}/rerun"): {**examples.RUN, "id": "r2"}})
    result, out, _ = vlglab(
        api, "runs", "rerun", "r1", "--set", "training.optimiser.epochs=8", "--set", "network.arch=MinkUNet14A",
        "--tag", "finer", "--once", "k-1",
    )  # fmt: skip
    assert (result.exit_code, out.strip()) == (0, "r2")
    changes = {"training.optimiser.epochs": 8, "network.arch": "MinkUNet14A"}
    assert api.bodies() == [{"changes": changes, "tags": ["finer"]}]
    assert api.requests[0].headers["Idempotency-Key"] == "k-1"


def test_a_dry_run_of_an_experiment_prints_a_table_and_submits_nothing() -> None:
    unknown = {**examples.PLANNED_WORK, "name": "report", "estimate": None, "outlook": "likely_cached"}
    plan = {
        **examples.DRY_RUN,
        "runs": [examples.PLANNED_WORK, unknown],
        "num_to_compute": 2,
        "num_without_estimate": 1,
    }
    api = FakeApi({("POST", "/api/v1/experiments"): plan})
    asked = (
        "experiments",
        "submit",
        "3dss-vlg",
        "--dataset",
        "offices",
        "--gpus",
        "2",
        "--memory-gb",
        "24",
        "--dry-run",
    )
    result, out, _ = vlglab(api, *asked)
    assert result.exit_code == 0, result.stderr
    assert sent(api) == [("POST", "/api/v1/experiments", {"dry_run": "true"})]
    (body,) = api.bodies()
    assert (body["gpus"], body["memory_gb"]) == (2, 24)
    lines = out.splitlines()
    assert "2 min 32 s" in lines[1] and "43.0 MB" in lines[1] and "7 of the same spec" in lines[1]
    assert "likely cached" in lines[2]
    assert lines[-1] == (
        "2 of 2 runs to compute, one after another about 2 min 32 s, 43.0 MB; for 1 of them there is no past run to"
        " tell from; nothing was submitted"
    )
    _, out, _ = vlglab(api, *asked, "--json")
    assert json.loads(out)["num_to_compute"] == 2


@pytest.mark.parametrize(("anew", "params"), [((), {}), (("--anew",), {"anew": "true"})])
def test_a_retry_may_begin_anew(anew: tuple[str, ...], params: dict[str, str]) -> None:
    detail = {**examples.EXPERIMENT, "id": "e1"}
    api = FakeApi({("POST", f"{RUN}/retry"): examples.RUN, ("POST", f"{EXPERIMENT}/retry"): detail})
    for group, which, path in (("runs", "r1", RUN), ("experiments", "e1", EXPERIMENT)):
        result, _, _ = vlglab(api, group, "retry", which, *anew)
        assert result.exit_code == 0
        assert sent(api)[-1] == ("POST", f"{path}/retry", params)


def test_hosts_are_listed_and_told_what_to_do() -> None:
    gone = {**examples.HOST, "id": "h2", "alive": False, "retired_at": "2026-01-31T12:00:00Z"}

    def listed(request: httpx.Request) -> Any:
        everyone = [examples.HOST, gone] if "alive" not in request.url.params else [examples.HOST]
        return {"items": everyone, "next": "more" if "cursor" not in request.url.params else None}

    answers: dict[tuple[str, str], Any] = {("GET", "/api/v1/hosts"): listed}
    answers |= {
        ("POST", f"/api/v1/hosts/h1/{verb}"): {**examples.HOST, "id": "h1"} for verb in ("pause", "resume", "drain")
    }
    api = FakeApi(answers)
    _, out, _ = vlglab(api, "hosts", "list")
    assert "laptop" in out and "16.4 GB" in out and "active" in out and "h2" not in out
    assert [dict(asked.url.params) for asked in api.requests] == [
        {"alive": "true"},
        {"alive": "true", "cursor": "more"},
    ]
    _, out, _ = vlglab(api, "hosts", "list", "--all", "--limit", "2")
    assert "ended" in out
    assert len(api.requests) == 3, "two are on the first page"
    for verb, said in (("pause", "vlglab hosts resume h1"), ("resume", "claims runs again"), ("drain", "ends once")):
        result, out, _ = vlglab(api, "hosts", verb, "h1")
        assert result.exit_code == 0 and said in out
    _, out, _ = vlglab(api, "hosts", "pause", "h1", "--json")
    assert json.loads(out)["id"] == "h1"


def test_a_run_that_waits_says_what_for() -> None:
    run = {**examples.RUN, "state": "ready", "progress": None, "waiting_for": "a worker host: none lives"}
    api = FakeApi({("GET", RUN): run})
    _, out, _ = vlglab(api, "runs", "show", "r1")
    assert "a worker host: none lives" in out

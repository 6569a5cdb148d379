"""The command line: what it sends, what it prints, and how it fails."""

from __future__ import annotations

import io
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from service import examples, log_reading, schemas
from service.cli.console import Shell
from service.cli.entry import app
from storage.artifacts.run_logs import LogHere
from storage.settings import Settings, settings
from tests.service.fake_api import FakeApi, refusal

DETAIL = {**examples.EXPERIMENT, "runs": [examples.RUN]}


def page(*items: Any) -> dict[str, Any]:
    return {"items": list(items), "next": None}


def vlglab(api: FakeApi, *arguments: str) -> tuple[Result, str]:
    """Runs a command against a fake service; the result, and all that it printed on stdout."""
    out = io.StringIO()
    with api.client() as client:
        shell = Shell(client, out=Console(file=out, width=200, force_terminal=False))
        result = CliRunner().invoke(app, list(arguments), obj=shell)
    return result, result.stdout + out.getvalue()


def test_submitting_sends_overrides_as_values_and_prints_the_id() -> None:
    api = FakeApi({("POST", "/api/v1/experiments"): DETAIL})
    result, out = vlglab(
        api, "experiments", "submit", "3dss-vlg", "--dataset", "offices", "--preset", "demo", "--seed", "3",
        "--set", "distill.voxel_m=0.04", "--set", 'predict.splits=["test"]',
        "--set", "distill.network.arch=MinkUNet18A",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert out.strip() == examples.EXPERIMENT["id"]
    (body,) = api.bodies()
    assert body["seed"] == 3
    assert body["overrides"] == {
        "distill.voxel_m": 0.04,
        "predict.splits": ["test"],
        "distill.network.arch": "MinkUNet18A",
    }


@pytest.mark.parametrize(("state", "status"), [("succeeded", 0), ("cached", 0), ("failed", 1), ("cancelled", 1)])
def test_watching_an_experiment_ends_with_the_runs_and_tells_how(state: str, status: int) -> None:
    run = {**examples.RUN, "state": state, "reason": "no point is visible", "ended_at": "2026-01-31T12:01:30Z"}
    api = FakeApi(
        {
            ("POST", "/api/v1/experiments"): DETAIL,
            ("GET", f"/api/v1/experiments/{DETAIL['id']}"): [
                httpx.Response(200, json={**DETAIL, "runs": [{**examples.RUN, "state": "queued", "started_at": None}]}),
                httpx.Response(200, json={**DETAIL, "runs": [run]}),
            ],
            ("GET", f"/api/v1/experiments/{examples.EXPERIMENT['id']}/evaluations"): page(),
        }
    )
    result, out = vlglab(api, "experiments", "submit", "3dss-vlg", "--dataset", "offices", "--watch")
    assert result.exit_code == status
    lines = out.splitlines()
    assert lines[1].split() == ["distill", "queued"]
    assert f"{state} after 1 min 30 s" in lines[2]
    assert ("no point is visible" in lines[2]) == (status == 1)


def test_adding_a_dataset_makes_the_path_absolute_and_nests_options(tmp_path: Any) -> None:
    api = FakeApi({("POST", "/api/v1/datasets"): examples.DATASET})
    result, _ = vlglab(
        api, "datasets", "add", "offices", "--kind", "synthrooms", "--label-set", "s3dis13",
        "--option", "train_rooms=4", "--option", "views.count=2", "--option", "views.width=64",
        "--path", f"{tmp_path}/a/../b",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    (body,) = api.bodies()
    assert body["options"] == {"train_rooms": 4, "views": {"count": 2, "width": 64}}
    assert body["path"] == f"{tmp_path.resolve()}/b"


def test_lists_print_tables_and_with_json_what_the_service_said() -> None:
    api = FakeApi({("GET", "/api/v1/runs"): page(examples.RUN)})
    _, table = vlglab(api, "runs", "list", "--state", "running", "--stage", "distill")
    assert examples.RUN["id"] in table
    assert dict(api.requests[0].url.params) == {"state": "running", "stage": "distill"}
    _, text = vlglab(api, "runs", "list", "--json")
    (item,) = json.loads(text)
    assert {name: item[name] for name in ("id", "state", "spec", "outputs")} == {
        name: examples.RUN[name] for name in ("id", "state", "spec", "outputs")
    }


def test_a_run_is_shown_with_its_reason_and_scene() -> None:
    run = {
        **examples.RUN,
        "state": "failed",
        "reason_code": "frame_invalid",
        "reason": "[red] is no tag",
        "scene": "a1",
    }
    _, out = vlglab(FakeApi({("GET", "/api/v1/runs/r1"): run}), "runs", "show", "r1")
    assert "frame_invalid" in out
    assert "[red] is no tag" in out, "what the service says is text, not markup"
    assert "a1" in out


def test_following_a_log_prints_each_byte_once_and_ends_with_the_run() -> None:
    log = b"one\ntwo\nthree\n"
    asked: list[int] = []

    def read(request: httpx.Request) -> httpx.Response:
        offset = int(request.url.params["offset"])
        asked.append(offset)
        until = min(offset + 5, len(log))
        return httpx.Response(200, content=log[offset:until], headers={"X-Next-Offset": str(until)})

    states = ["running", "running", "succeeded"]
    api = FakeApi(
        {
            ("GET", "/api/v1/runs/r1/logs"): read,
            ("GET", "/api/v1/runs/r1"): [httpx.Response(200, json={**examples.RUN, "state": s}) for s in states],
        }
    )
    result, out = vlglab(api, "runs", "logs", "r1", "--follow")
    assert result.exit_code == 0, result.stderr
    assert out.encode() == log
    assert asked == [0, 5, 10, 14]


def test_following_a_log_begins_anew_with_the_next_attempt() -> None:
    logs = {"1": b"lost\n", "2": b"found\n"}

    def read(request: httpx.Request) -> httpx.Response:
        log = logs[request.url.params["attempt"]]
        return httpx.Response(
            200, content=log[int(request.url.params["offset"]) :], headers={"X-Next-Offset": str(len(log))}
        )

    states = [{"attempt": 1, "state": "running"}, {"attempt": 2, "state": "running"}, {"attempt": 2, "state": "failed"}]
    api = FakeApi(
        {
            ("GET", "/api/v1/runs/r1/logs"): read,
            ("GET", "/api/v1/runs/r1"): [httpx.Response(200, json={**examples.RUN, **state}) for state in states],
        }
    )
    _, out = vlglab(api, "runs", "logs", "r1", "-f")
    assert out == "lost\nfound\n"


@pytest.mark.parametrize(
    ("log", "lines", "shown"),
    [
        (b"one\ntwo\nthree\n", 2, b"two\nthree\n"),
        (b"one\ntwo\rthree", 1, b"two\rthree"),
        (b"one\ntwo\n", 0, b""),
        (b"one\ntwo\n", 9, b"one\ntwo\n"),
        (b"", 3, b""),
        (b"%s\n" % (b"x" * 5000) * 4, 2, b"%s\n" % (b"x" * 5000) * 2),
        (b"short\n" + b"y" * 9000 + b"\n", 1, b"y" * 9000 + b"\n"),
    ],
)
@pytest.mark.parametrize("follow", [(), ("--follow",)], ids=["", "follow"])
def test_a_log_is_shown_from_its_last_lines_on(
    tmp_path: Path, log: bytes, lines: int, shown: bytes, follow: tuple[str, ...]
) -> None:
    path = tmp_path / "1.log"
    path.write_bytes(log)

    def read(request: httpx.Request) -> httpx.Response:
        asked = request.url.params
        start = log_reading.tail_start(LogHere(path), int(asked["tail"])) if "tail" in asked else int(asked["offset"])
        piece = log_reading.read(LogHere(path), start)
        return httpx.Response(200, content=piece, headers={"X-Next-Offset": str(start + len(piece))})

    run = httpx.Response(200, json={**examples.RUN, "state": "succeeded"})
    api = FakeApi({("GET", "/api/v1/runs/r1/logs"): read, ("GET", "/api/v1/runs/r1"): [run]})
    result, out = vlglab(api, "runs", "logs", "r1", "--tail", str(lines), *follow)
    assert result.exit_code == 0, result.stderr
    assert out.encode() == shown


def test_without_follow_a_log_is_read_to_its_present_end() -> None:
    answer = httpx.Response(200, content=b"abc", headers={"X-Next-Offset": "3"})
    end = httpx.Response(200, content=b"", headers={"X-Next-Offset": "3"})
    api = FakeApi({("GET", "/api/v1/runs/r1/logs"): [answer, end]})
    _, out = vlglab(api, "runs", "logs", "r1", "--attempt", "2")
    assert out == "abc"
    assert {request.url.params["attempt"] for request in api.requests} == {"2"}


@pytest.mark.parametrize(
    ("arguments", "code", "status"),
    [
        (["runs", "show", "nope"], "not_found", 5),
        (["datasets", "check", "nope"], "unknown_name", 5),
        (["experiments", "submit", "3dss-vgl", "--dataset", "offices"], "unknown_name", 5),
        (["experiments", "submit", "x", "--dataset", "o", "--set", "nonsense"], "invalid_input", 2),
        (["experiments", "submit", "x", "--dataset", "o", "--name", ""], "request_invalid", 2),
        (["datasets", "add", "a", "--kind", "video", "--label-set", "s3dis13"], "request_invalid", 2),
        (
            [
                "datasets",
                "add",
                "a",
                "--kind",
                "rgbd",
                "--label-set",
                "s3dis13",
                "--option",
                "a=1",
                "--option",
                "a.b=1",
            ],
            "invalid_input",
            2,
        ),
    ],
)
def test_errors_are_one_line_on_stderr_with_the_code(arguments: list[str], code: str, status: int) -> None:
    api = FakeApi({("POST", "/api/v1/experiments"): refusal(422, "unknown_name", "the nearest known are: 3dss-vlg")})
    result, out = vlglab(api, *arguments)
    assert result.exit_code == status
    assert out == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("vlglab: ")
    assert line.endswith(f"[{code}]")


def test_usage_errors_have_a_status_of_their_own() -> None:
    result, _ = vlglab(FakeApi({}), "runs", "show")
    assert result.exit_code == 2


def test_cancelling_says_what_became_of_the_run() -> None:
    api = FakeApi({("POST", "/api/v1/runs/r1/cancel"): {**examples.RUN, "id": "r1", "cancel_requested": True}})
    _, out = vlglab(api, "runs", "cancel", "r1")
    assert out.strip() == "r1 is stopping"


def test_features_and_datasets_are_listed() -> None:
    api = FakeApi(
        {("GET", "/api/v1/features"): page(examples.FEATURE), ("GET", "/api/v1/datasets"): page(examples.DATASET)}
    )
    _, features = vlglab(api, "features", "list")
    assert examples.FEATURE["key"] in features
    assert "stand-in" in features
    _, datasets = vlglab(api, "datasets", "list")
    assert examples.DATASET["name"] in datasets


EVENTS = [{**examples.EVENT, "id": number, "run_id": run} for number, run in ((3, "r1"), (4, "r2"), (7, "r1"))]


def of_run(run: str) -> Any:
    """Pages of a run's events, the last one empty."""

    def answer(request: httpx.Request) -> httpx.Response:
        after = int(request.url.params["cursor"])
        items = [event for event in EVENTS if event["run_id"] == run and event["id"] > after]
        return httpx.Response(200, json={"items": items, "next": str(items[-1]["id"] if items else after)})

    return answer


def two_runs(first: str, second: str) -> dict[str, Any]:
    runs = [{**examples.RUN, "id": "r1", "state": first}, {**examples.RUN, "id": "r2", "state": second}]
    return {**examples.EXPERIMENT, "id": "e1", "runs": runs}


def test_an_experiment_s_events_are_those_of_its_runs_in_the_order_in_which_they_happened() -> None:
    lists = {("GET", f"/api/v1/runs/{run}/events"): of_run(run) for run in ("r1", "r2")}
    api = FakeApi({("GET", "/api/v1/experiments/e1"): two_runs("succeeded", "failed"), **lists})
    _, text = vlglab(api, "experiments", "events", "e1", "--json")
    assert [event["id"] for event in json.loads(text)] == [3, 4, 7]
    _, text = vlglab(api, "experiments", "events", "e1", "--after", "3", "--follow", "--json")
    assert [json.loads(line)["id"] for line in text.splitlines()] == [4, 7], "all have ended: nothing is waited for"
    _, text = vlglab(api, "experiments", "events", "e1")
    assert [line.split()[0] for line in text.splitlines()] == ["id", "3", "4", "7"]


def test_following_an_experiment_ends_when_all_its_runs_have_whatever_ended_once_before() -> None:
    states = ["failed", "queued", "running", "succeeded"]
    events = [
        {**examples.EVENT, "id": number, "run_id": "r1", "state": state} for number, state in enumerate(states, 1)
    ]
    lines = [f"id: {one['id']}\nevent: state\ndata: {schemas.Event(**one).model_dump_json()}\n\n" for one in events]
    reads = [httpx.Response(200, json=two_runs(state, "cached")) for state in ("running", "running", "failed")]
    api = FakeApi(
        {
            ("GET", "/api/v1/experiments/e1"): reads,
            ("GET", "/api/v1/events/stream"): httpx.Response(200, text="".join(lines)),
        }
    )
    result, text = vlglab(api, "experiments", "events", "e1", "--follow", "--json")
    assert result.exit_code == 0, result.output
    assert [json.loads(line)["state"] for line in text.splitlines()] == states


def test_a_run_is_submitted_from_a_file_or_from_stdin_once(tmp_path: Any) -> None:
    asked = {"spec": {"stage": "embed_labels", "label_set": "s3dis13"}, "tags": ["a"]}
    (tmp_path / "run.json").write_text(json.dumps(asked))
    api = FakeApi({("POST", "/api/v1/runs"): examples.RUN})
    result, out = vlglab(api, "runs", "submit", str(tmp_path / "run.json"), "--once", "mine")
    assert result.exit_code == 0, result.output
    assert out.strip() == examples.RUN["id"]
    assert f"vlglab runs watch {examples.RUN['id']}" in result.stderr
    assert {name: api.bodies()[0][name] for name in asked} == asked
    assert api.requests[0].headers["Idempotency-Key"] == "mine"
    for file in (tmp_path / "none.json", tmp_path):
        result, out = vlglab(api, "runs", "submit", str(file))
        assert (result.exit_code, out) == (2, ""), "a file that cannot be read is a fault of the request"


def test_a_plan_of_runs_is_submitted_as_an_experiment_and_followed(tmp_path: Any) -> None:
    (tmp_path / "plan.json").write_text(json.dumps(examples.RUN_LIST_REQUEST))
    api = FakeApi(
        {
            ("POST", "/api/v1/experiments"): DETAIL,
            ("GET", f"/api/v1/experiments/{DETAIL['id']}"): two_runs("cached", "failed"),
        }
    )
    result, out = vlglab(api, "experiments", "submit-plan", str(tmp_path / "plan.json"), "--watch", "--json")
    assert result.exit_code == 1
    assert [json.loads(line)["id"] for line in out.splitlines()] == [DETAIL["id"], "r1", "r2"]
    assert [one["name"] for one in api.bodies()[0]["runs"]] == ["ingest", "extract"]
    assert "vlglab runs logs r2" in result.stderr


def test_waiting_ends_with_a_status_of_its_own_where_the_time_is_up() -> None:
    api = FakeApi({("GET", "/api/v1/runs/r1"): {**examples.RUN, "id": "r1", "state": "running"}})
    result, out = vlglab(api, "runs", "watch", "r1", "--timeout", "0.01", "--json")
    assert result.exit_code == 7
    assert [json.loads(line)["state"] for line in out.splitlines()] == ["running"]


def test_the_settings_are_shown_with_their_defaults_and_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLGLAB_DATABASE_URL", "postgresql://eve:p@ss:w@rd@db.lab:5432/vlglab")
    monkeypatch.setenv("VLGLAB_API_TOKEN", "vlglab_0123456789")
    monkeypatch.setenv("VLGLAB_HOME", "/srv/lab")
    settings.cache_clear()
    for more in ((), ("--json",)):
        _, out = vlglab(FakeApi({}), "config", *more)
        assert "postgresql://eve:***@db.lab:5432/vlglab" in out
        assert "p@ss" not in out and "w@rd" not in out and "0123456789" not in out
    shown = json.loads(out)
    settings.cache_clear()
    assert {f"VLGLAB_{name.upper()}" for name in Settings.model_fields} <= set(shown)
    assert shown["VLGLAB_STORE_URL"] == "file:///srv/lab/store"
    assert shown["VLGLAB_API_TOKEN"] == "***"


@pytest.mark.parametrize(("command", "path"), [("runs submit", "runs"), ("experiments submit-plan", "experiments")])
def test_a_dry_run_of_a_file_shows_what_would_be_computed_and_submits_nothing(
    tmp_path: Path, command: str, path: str
) -> None:
    asked = examples.RUN_LIST_REQUEST if path == "experiments" else {"spec": {"stage": "embed_labels"}}
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    api = FakeApi({("POST", f"/api/v1/{path}"): examples.DRY_RUN})
    result, out = vlglab(api, *command.split(), str(tmp_path / "asked.json"), "--dry-run")
    assert result.exit_code == 0, result.output
    assert "nothing was submitted" in out
    _, out = vlglab(api, *command.split(), str(tmp_path / "asked.json"), "--dry-run", "--json")
    assert json.loads(out)["runs"]
    assert [request.url.params.get("dry_run") for request in api.requests] == ["true", "true"]


def test_an_experiment_that_is_deleted_while_it_is_watched_is_not_found(tmp_path: Path) -> None:
    """Neither an experiment that is gone nor one whose runs went just before it has ended well."""
    running = httpx.Response(200, json=DETAIL)
    gone = refusal(404, "not_found", "there is no experiment 'e1'; `vlglab experiments list` shows those there are")
    (tmp_path / "plan.json").write_text(json.dumps(examples.RUN_LIST_REQUEST))
    for last, said in ((gone, "there is no experiment"), (httpx.Response(200, json={**DETAIL, "runs": []}), "deleted")):
        for words in (
            ("experiments", "watch", DETAIL["id"]),
            ("experiments", "submit-plan", str(tmp_path / "plan.json"), "--watch"),
        ):
            for json_too in ((), ("--json",)):
                api = FakeApi(
                    {
                        ("POST", "/api/v1/experiments"): DETAIL,
                        ("GET", f"/api/v1/experiments/{DETAIL['id']}"): [running, last],
                    }
                )
                result, _ = vlglab(api, *words, *json_too)
                assert result.exit_code == 5, result.output
                assert said in result.stderr and "[not_found]" in result.stderr


def test_a_rerun_unsets_what_was_wanted_of_the_old_one() -> None:
    api = FakeApi({("POST", "/api/v1/runs/r1/rerun"): examples.RUN})
    unset = [f"--unset={name}" for name in ("priority", "tags", "notes", "time_limit_s", "gpus", "memory_gb")]
    result, _ = vlglab(api, "runs", "rerun", "r1", "--set", "voxel_m=null", *unset)
    assert result.exit_code == 0, result.output
    nothing = dict.fromkeys(("priority", "tags", "notes", "time_limit_s", "gpus", "memory_gb"))
    assert api.bodies() == [{"changes": {"voxel_m": None}, **nothing}]
    result, _ = vlglab(api, "runs", "rerun", "r1", "--gpus", "1", "--unset", "gpus")
    assert result.exit_code == 2 and "got gpus both with a value and in --unset" in result.stderr
    result, _ = vlglab(api, "runs", "rerun", "r1", "--unset", "spec")
    assert result.exit_code == 2
    assert len(api.requests) == 1


def test_a_rerun_is_given_what_is_wanted_of_it_and_nothing_else() -> None:
    api = FakeApi({("POST", "/api/v1/runs/r1/rerun"): examples.RUN})
    wanted = ["--priority", "7", "--notes", "again", "--time-limit", "60", "--gpus", "0", "--memory-gb", "1.5"]
    result, _ = vlglab(api, "runs", "rerun", "r1", *wanted)
    assert result.exit_code == 0, result.output
    vlglab(api, "runs", "rerun", "r1")
    asked = {"priority": 7, "notes": "again", "time_limit_s": 60, "gpus": 0, "memory_gb": 1.5}
    assert api.bodies() == [{"changes": {}, **asked}, {"changes": {}}]


@pytest.mark.parametrize("words", [("--version", "--json"), ("--json", "--version")])
def test_the_version_is_json_when_asked(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"version": version("vlglab")}
    assert CliRunner().invoke(app, ["--version"]).stdout == version("vlglab") + "\n"


def test_json_before_a_command_is_refused_and_says_where_it_goes() -> None:
    result, out = vlglab(FakeApi({}), "--json", "runs", "list")
    assert (result.exit_code, out) == (2, "")
    assert "vlglab runs list --json" in result.stderr

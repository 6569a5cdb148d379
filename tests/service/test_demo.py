"""The demo: its tables against values read by eye, its words where there is no score, and its own service's life."""

from __future__ import annotations

import io
import os
import re
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from rich.console import Console

from service import examples, schemas
from service.cli import demo, local_service, run_table, scores, watching
from service.cli.local_service import LocalService
from storage.errors import DatasetInvalid, ServiceUnreachable
from tests.service.fake_api import FakeApi

NOW = datetime(2026, 1, 31, 12, 0, 30, tzinfo=UTC)


def run(**changes: Any) -> schemas.Run:
    return schemas.Run.model_validate({**examples.RUN, **changes})


def evaluation(prediction: str, subset: str, miou: float | None, **changes: Any) -> schemas.Evaluation:
    classes = [
        {"name": "ceiling", "iou": miou, "accuracy": miou, "num_points": 10},
        {"name": "beam", "iou": None, "accuracy": None, "num_points": 0},
    ]
    row = {**examples.EVALUATION, "prediction": prediction, "subset": subset, "miou": miou, "classes": classes}
    return schemas.Evaluation.model_validate({**row, "macc": None if miou is None else miou / 2, **changes})


def printed(*renderables: Any, width: int = 80) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=False)
    for renderable in renderables:
        console.print(renderable)
    return out.getvalue()


SIX = [
    evaluation("ours", "covered", 0.5012),
    evaluation("ours", "all", 0.4999),
    evaluation("2d_text", "all", 0.3),
    evaluation("2d_text", "covered", 0.31),
    evaluation("2d_filtered", "covered", 0.4),
    evaluation("2d_filtered", "all", 0.39),
]


def numbers(line: str) -> list[str]:
    return re.findall(r"\d+\.\d|(?<=\s)-(?=\s|$)", line)


def test_the_summary_has_a_row_a_prediction_and_both_sets_of_points() -> None:
    lines = printed(scores.summary_table(SIX)).splitlines()
    rows = {name: next(line for line in lines if start in line) for name, start in
            (("2d_text", "text alone"), ("2d_filtered", "filtered"), ("ours", "(ours)"))}  # fmt: skip
    assert numbers(rows["2d_text"]) == ["31.0", "30.0", "15.5", "15.0"]
    assert numbers(rows["2d_filtered"])[:2] == ["40.0", "39.0"]
    assert numbers(rows["ours"]) == ["50.1", "50.0", "25.1", "25.0"]
    assert lines.index(rows["2d_text"]) < lines.index(rows["2d_filtered"]) < lines.index(rows["ours"])


def test_the_class_table_fits_eighty_columns_and_marks_undefined_classes() -> None:
    text = printed(scores.class_table(SIX))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in text
    ceiling = next(line for line in lines if "ceiling" in line)
    assert numbers(ceiling) == ["31.0", "30.0", "40.0", "39.0", "50.1", "50.0"]
    beam = next(line for line in lines if "beam" in line)
    assert numbers(beam) == ["-"] * 6
    assert numbers(next(line for line in lines if "mIoU" in line)) == ["31.0", "30.0", "40.0", "39.0", "50.1", "50.0"]


def test_without_ground_truth_there_is_a_statement_and_no_number() -> None:
    rows = [evaluation("ours", "all", None, classes=[], num_points=0, note="no ground truth: nothing can be scored")]
    assert scores.without_scores(rows) == "no ground truth: nothing can be scored"
    assert scores.without_scores(SIX) is None
    assert scores.without_scores([evaluation("ours", "all", None, note=None)]) == scores.NO_GROUND_TRUTH


def test_the_live_table_shows_progress_loss_and_time_left_in_eighty_columns() -> None:
    progress = {"unit": "epoch", "done": 3, "total": 4, "loss": 0.123456, "eta_s": 75}
    text = printed(
        run_table.live_table(
            [
                run(name="pseudo_label", state="cached", progress=None, started_at=None),
                run(name="distill", state="running", progress=progress, started_at=NOW - timedelta(seconds=20)),
                run(name="predict", state="queued", progress=None, started_at=None),
            ],
            NOW,
        )
    )
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    (distill,) = [line for line in lines if "distill" in line]
    for word in ("running", "3/4 epoch", "0.1235", "1 min 15 s", "20.0 s"):
        assert word in distill
    assert [word for word in lines[-1].split() if word] == ["predict", "queued"]


def test_off_a_terminal_each_change_of_state_is_one_line() -> None:
    steps = [
        [run(id="r1", name="ingest", state="queued", progress=None), run(id="r2", name="extract", state="queued")],
        [run(id="r1", name="ingest", state="running"), run(id="r2", name="extract", state="queued")],
        [run(id="r1", name="ingest", state="running"), run(id="r2", name="extract", state="queued")],
        [
            run(id="r1", name="ingest", state="failed", reason="a [bold]depth map[/] is missing", scene="room_3"),
            run(id="r2", name="extract", state="cancelled", reason="an input failed", started_at=None),
        ],
    ]
    out = io.StringIO()
    watching.follow(lambda: steps.pop(0), Console(file=out, width=40, force_terminal=False), poll_s=0)
    lines = [line.split(maxsplit=2) for line in out.getvalue().splitlines()]
    assert [line[:2] for line in lines] == [
        ["ingest", "queued"],
        ["extract", "queued"],
        ["ingest", "running"],
        ["ingest", "failed"],
        ["extract", "cancelled:"],
    ]
    assert lines[3][2].endswith("a [bold]depth map[/] is missing (scene room_3)")


def test_following_forgives_a_short_absence_of_the_service_and_no_first_failure() -> None:
    answers: list[Any] = [[run(state="running")], ServiceUnreachable("away"), [run(state="succeeded")]]

    def fetch() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    console = Console(file=io.StringIO(), force_terminal=False)
    assert [one.state for one in watching.follow(fetch, console, poll_s=0)] == ["succeeded"]
    answers.append(ServiceUnreachable("away"))
    with pytest.raises(ServiceUnreachable):
        watching.follow(fetch, console, poll_s=0)


def test_a_terminal_gets_the_live_table() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True)
    watching.follow(lambda: [run(state="succeeded", ended_at=NOW)], console, poll_s=0)
    assert "succeeded" in out.getvalue()
    assert "\x1b[" in out.getvalue()


def test_results_name_the_picture_the_clouds_the_stand_in_and_the_store(tmp_path: Path) -> None:
    picture = b"\x89PNG not really"
    files = [
        {**examples.FILE, "artifact_key": "f" * 32, "name": "segmentation.png"},
        {
            **examples.FILE,
            "artifact_key": "f" * 32,
            "name": "room_ours.ply",
            "path": "/lab/store/parts/ff/f/room_ours.ply",
        },
    ]
    title = "mini encoder (a small stand-in)"
    api = FakeApi(
        {
            ("GET", "/api/v1/experiments/e1/evaluations"): {
                "items": [row.model_dump(mode="json") for row in SIX], "next": None},
            ("GET", "/api/v1/artifacts/emb"): {**examples.ARTIFACT_DETAIL, "attributes": {"encoder_title": title}},
            ("GET", "/api/v1/runs/r9/files"): {"items": files, "next": None},
            ("GET", f"/api/v1/artifacts/{'f' * 32}/files/segmentation.png"): lambda _: httpx.Response(
                200, content=picture),
        }
    )  # fmt: skip
    out = io.StringIO()
    runs = [run(name="extract", outputs={"embeddings": "emb"}), run(id="r9", name="report")]
    with api.client() as client:
        demo.show_results(Console(file=out, width=80, force_terminal=False), client, "e1", runs, tmp_path)
    assert (tmp_path / "demo.png").read_bytes() == picture
    for words in (str(tmp_path / "demo.png"), "/lab/store/parts/ff/f (1 coloured", title, str(tmp_path / "vlglab.db")):
        assert words in out.getvalue()


def test_a_failure_shows_the_reason_and_the_end_of_the_log_of_what_failed_itself() -> None:
    log = "".join(f"line {number}\n" for number in range(100))
    api = FakeApi({("GET", "/api/v1/runs/r1/logs"): lambda _: httpx.Response(200, text=log)})
    out = io.StringIO()
    runs = [
        run(id="r1", name="extract", state="failed", reason="frame 7 has no pose", scene="lounge"),
        run(id="r2", name="predict", state="cancelled", reason_code="input_failed", reason="extract failed"),
    ]
    with api.client() as client:
        demo.show_failures(Console(file=out, width=80, force_terminal=False), client, runs)
    text = out.getvalue()
    assert "frame 7 has no pose" in text
    assert "lounge" in text
    assert "line 99" in text
    assert "line 70" not in text
    assert "predict" not in text


def test_memory_of_hosts_and_time_are_told() -> None:
    out = io.StringIO()
    host = schemas.Host.model_validate({**examples.HOST, "peak_rss_bytes": 3_100_000_000})
    demo.show_costs(Console(file=out, width=80), [host], 312.0)
    assert "5 min 12 s" in out.getvalue()
    assert "3.1 GB" in out.getvalue()


def test_a_capture_is_registered_under_its_folders_name(tmp_path: Path) -> None:
    (tmp_path / "My Lounge_2").mkdir()
    request = demo.dataset_request(demo.DemoOptions(data=tmp_path / "My Lounge_2"))
    assert (request.name, request.kind, request.label_set) == ("my-lounge-2", "rgbd", "scannet20")
    assert request.path == str((tmp_path / "My Lounge_2").resolve())
    with pytest.raises(DatasetInvalid, match="no folder"):
        demo.dataset_request(demo.DemoOptions(data=tmp_path / "absent"))


def test_the_demos_service_lives_in_its_own_home_whatever_the_callers_environment(tmp_path: Path) -> None:
    base = {"PATH": "/bin", "VLGLAB_DATABASE_URL": "postgresql://prod/lab", "VLGLAB_HOME": "/prod", "VLGLAB_SLOTS": "4"}
    environment = local_service.environment(base, tmp_path, [tmp_path / "data"])
    assert environment["VLGLAB_HOME"] == str(tmp_path)
    assert environment["VLGLAB_DATASET_ROOTS"] == f'["{tmp_path}/data"]'
    assert environment["VLGLAB_SLOTS"] == "4"
    assert "VLGLAB_DATABASE_URL" not in environment


def program(path: Path, text: str) -> list[str]:
    """A program to start in the service's place."""
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return [str(path)]


def test_a_service_that_dies_at_once_is_reported_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = program(tmp_path / "serve", "import sys; print('the disk is full'); sys.exit(3)")
    monkeypatch.setattr(local_service, "command", lambda: command)
    with pytest.raises(ServiceUnreachable, match=r"status 3(.|\n)*the disk is full"), LocalService(tmp_path / "home"):
        pass


def test_stopping_ends_the_service_and_the_host_that_outlived_it_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    command = program(
        tmp_path / "serve", "import time; print('vlglab serving at http://127.0.0.1:1', flush=True); time.sleep(60)"
    )
    monkeypatch.setattr(local_service, "command", lambda: command)
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)", "workers", "host"]
    host = subprocess.Popen(sleeper, env={**os.environ, "VLGLAB_HOME": str(home)})
    stranger = subprocess.Popen(sleeper, env={**os.environ, "VLGLAB_HOME": str(tmp_path)})
    rows = [{**examples.HOST, "pid": pid, "alive": True} for pid in (host.pid, stranger.pid, os.getpid())]
    api = FakeApi({("GET", "/api/v1/hosts"): {"items": rows, "next": None}})
    try:
        with LocalService(home) as service, api.client() as client:
            assert service.url == "http://127.0.0.1:1"
            serving = [p for p in psutil.Process().children() if str(tmp_path / "serve") in p.cmdline()]
            service.check_hosts(client)
        assert len(serving) == 1
        assert not serving[0].is_running()
        assert not psutil.pid_exists(host.pid)
        time.sleep(0.1)
        assert stranger.poll() is None
    finally:
        for process in (host, stranger):
            process.kill()
            process.wait()

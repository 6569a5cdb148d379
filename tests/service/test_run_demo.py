"""The demo from its start to its exit status, against a process that answers as `vlglab serve` would."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from service import examples
from service.cli import demo, local_service

SERVICE = Path(__file__).resolve().parents[1] / "fixtures" / "canned_service.py"
ROOT = Path(__file__).resolve().parents[2]
ALONE = """
import pathlib, sys
from rich.console import Console
from service.cli import demo, local_service
service, table, home = sys.argv[1:]
local_service.command = lambda: [sys.executable, service, table]
sys.exit(demo.run_demo(demo.DemoOptions(home=pathlib.Path(home)), Console()))
"""
"""The demo in a process of its own, to be stopped by a signal."""
API = "/api/v1"
STATES = {"ingest": "succeeded", "extract": "cached", "distill": "succeeded", "report": "succeeded"}
AT = "2026-01-31T12:00:30Z"


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Gives the signals back that the demo takes."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run(name: str, state: str, **changes: Any) -> dict[str, Any]:
    ended_at = None if state == "running" else AT
    return {**examples.RUN, "id": f"r-{name}", "name": name, "stage": name, "state": state, "ended_at": ended_at,
            "progress": None, **changes}  # fmt: skip


def answers(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """What a service says whose experiment has these runs."""
    picture = {**examples.FILE, "artifact_key": "f" * 32, "name": "segmentation.png"}
    return {
        f"POST {API}/datasets": examples.DATASET,
        f"POST {API}/experiments": {**examples.EXPERIMENT, "id": "e1", "runs": runs},
        f"GET {API}/experiments/e1": {**examples.EXPERIMENT, "id": "e1", "runs": runs},
        f"GET {API}/hosts": {"items": [{**examples.HOST, "pid": os.getpid()}], "next": None},
        f"GET {API}/runs/r-distill/logs": "line 1\nthe loss is not finite\n",
        f"GET {API}/experiments/e1/evaluations": {
            "items": [{**examples.EVALUATION, "subset": subset} for subset in ("covered", "all")],
            "next": None,
        },
        f"GET {API}/artifacts/emb": examples.ARTIFACT_DETAIL,
        f"GET {API}/runs/r-report/files": {"items": [picture], "next": None},
        f"GET {API}/artifacts/{'f' * 32}/files/segmentation.png": "not really a picture",
    }


def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: list[dict[str, Any]]) -> tuple[int, str]:
    """The demo's exit status and what it printed."""
    table = tmp_path / "answers.json"
    table.write_text(json.dumps(answers(runs)))
    monkeypatch.setattr(local_service, "command", lambda: [sys.executable, str(SERVICE), str(table)])
    out = io.StringIO()
    options = demo.DemoOptions(home=tmp_path / "home")
    status = demo.run_demo(options, Console(file=out, width=80, force_terminal=False))
    assert [one for one in psutil.Process().children() if str(SERVICE) in one.cmdline()] == []
    return status, out.getvalue()


def asked(tmp_path: Path) -> list[str]:
    return (tmp_path / "answers.json.asked").read_text().splitlines()


def recipe(**changes: str) -> list[dict[str, Any]]:
    """The runs of an experiment that went well, but for what is changed."""
    outputs = {"extract": {"embeddings": "emb"}}
    return [run(name, state, outputs=outputs.get(name, {})) for name, state in {**STATES, **changes}.items()]


def test_the_status_is_0_where_every_run_succeeded_or_was_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, text = play(tmp_path, monkeypatch, recipe())
    assert status == 0
    assert (tmp_path / "home" / "demo.png").read_text() == "not really a picture"
    for words in ("50.0", str(tmp_path / "home" / "demo.png"), "Peak memory", "Serve again"):
        assert words in text
    assert asked(tmp_path)[:2] == [f"POST {API}/datasets", f"POST {API}/experiments"]


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_the_status_is_1_where_one_run_did_not_succeed_and_its_log_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    runs = recipe(distill=state)
    runs[2] |= {"reason_code": "training_failed", "reason": "the loss of epoch 3 is not finite"}
    status, text = play(tmp_path, monkeypatch, runs)
    assert status == 1
    for words in (f"distill {state}: the loss of epoch 3 is not finite", "  the loss is not finite", "goes on from"):
        assert words in text
    assert "Picture" not in text
    assert not any("evaluations" in line or "files" in line for line in asked(tmp_path))


def test_stopped_by_its_user_the_status_is_130_and_the_home_is_named(tmp_path: Path) -> None:
    table = tmp_path / "answers.json"
    table.write_text(json.dumps(answers(recipe(distill="running"))))
    command = [sys.executable, "-c", ALONE, str(SERVICE), str(table), str(tmp_path / "home")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as alone:
        try:
            end = time.monotonic() + 60
            while not (tmp_path / "answers.json.asked").exists():
                assert time.monotonic() < end, "the demo asks for nothing"
                time.sleep(0.05)
            (service,) = [one for one in psutil.Process(alone.pid).children() if str(SERVICE) in one.cmdline()]
            alone.send_signal(signal.SIGTERM)
            text, _ = alone.communicate(timeout=60)
        finally:
            alone.kill()
    assert alone.returncode == 130
    assert f"--home {tmp_path / 'home'} goes on from it" in text
    assert not service.is_running()

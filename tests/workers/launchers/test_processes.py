"""Runs as processes: what a real child sees of its GPU, its token and its modules. GPUs are given by hand."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from storage.artifacts.run_files import RunFiles
from storage.records.claims import Claim
from storage.records.database import Database, now
from storage.records.tables import RunRow
from storage.settings import Settings
from tests.fixtures import waiting
from workers.host import Host, find_gpus
from workers.launchers.processes import ProcessLauncher, RunProcess

wait_until = partial(waiting.wait_until, within_s=60)

TOKEN = "5e" * 16
TELL = 'import json, os, sys; print(json.dumps({"argv": sys.argv[1:], "environ": dict(os.environ)}), flush=True)'


def python(path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a program in the place of the interpreter that runs are started with."""
    path.write_text(f"#!{sys.executable}\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(path))


def claim(gpus: tuple[int, ...] = (), run_id: str = "r1") -> Claim:
    return Claim(run_id, TOKEN, 1, "specialize", gpus)


def log_of(settings: Settings, run_id: str = "r1") -> str:
    path = RunFiles(settings.store_path).log(run_id, 1)
    return path.read_text() if path.exists() else ""


def told(settings: Settings, run_id: str = "r1") -> dict[str, Any]:
    """What the child wrote of itself."""
    found: dict[str, Any] = json.loads(log_of(settings, run_id))
    return found


def ended(process: RunProcess) -> None:
    wait_until(process.ended)


@pytest.mark.parametrize(
    ("gpus", "visible", "device"),
    [((3,), "3", "cuda:0"), ((0,), "0", "cuda:0"), ((), "", "cpu"), ((1, 3), "1,3", "cuda:0")],
)
def test_a_run_sees_its_own_gpus_and_no_other(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gpus: tuple[int, ...],
    visible: str,
    device: str,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    monkeypatch.setenv("VLGLAB_DEVICE", "cuda:7")
    python(tmp_path / "python", TELL, monkeypatch)
    ended(ProcessLauncher(settings).start(claim(gpus)))
    environ = told(settings)["environ"]
    assert (environ["CUDA_VISIBLE_DEVICES"], environ["VLGLAB_DEVICE"]) == (visible, device)


def test_the_token_travels_by_the_environment_and_never_by_the_command_line(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python(tmp_path / "python", TELL, monkeypatch)
    ended(ProcessLauncher(settings.model_copy(update={"threads": 5})).start(claim()))
    child = told(settings)
    assert child["argv"][-3:] == ["workers", "run", "r1"]
    assert TOKEN not in " ".join(child["argv"])
    environ = child["environ"]
    assert (environ["VLGLAB_TOKEN"], environ["OMP_NUM_THREADS"], environ["OPENBLAS_NUM_THREADS"]) == (TOKEN, "5", "5")


def test_a_hosts_runs_each_see_another_of_its_gpus(
    db: Database, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python(tmp_path / "python", f"import time; {TELL}; time.sleep(60)", monkeypatch)
    ids = ["r1", "r2", "r3"]
    with db.write() as session:
        session.add_all(
            RunRow(
                id=run_id, name="specialize", stage="specialize", spec={}, spec_digest="d", state="ready", priority=0,
                attempt=0, created_at=now(session), code={}, environment={}, cancel_requested=False, peak_rss_bytes=0,
            ) for run_id in ids
        )  # fmt: skip
    host = Host(db, ProcessLauncher(settings), settings, find_gpus("1,3"))
    thread = threading.Thread(target=host.serve)
    thread.start()
    try:
        wait_until(lambda: sum("}}" in log_of(settings, run_id) for run_id in ids) == 2)
        seen = sorted(told(settings, run_id)["environ"]["CUDA_VISIBLE_DEVICES"] for run_id in ids[:2])
        assert seen == ["1", "3"]
        assert log_of(settings, ids[2]) == ""
    finally:
        host.stopping.set()
        thread.join(60)


def test_a_folder_in_the_working_directory_is_not_taken_for_our_workers(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = tmp_path / "workers"
    stranger.mkdir()
    (stranger / "__init__.py").touch()
    (stranger / "__main__.py").write_text("print('a stranger ran')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VLGLAB_DATABASE_URL", "mysql://nowhere")
    process = ProcessLauncher(settings).start(claim())
    ended(process)
    assert "a stranger ran" not in log_of(settings)
    assert "expected sqlite:///PATH or postgresql://USER@HOST/NAME" in log_of(settings)
    assert process.process.returncode == 2


def test_killing_a_run_ends_its_children_too(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"child = subprocess.Popen([{sys.executable!r}, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)"
    )
    python(tmp_path / "python", text, monkeypatch)
    process = ProcessLauncher(settings).start(claim())
    try:
        wait_until(lambda: log_of(settings).endswith("\n"))
        child = psutil.Process(int(log_of(settings)))
        assert os.getpgid(child.pid) == process.process.pid != os.getpgid(0)
        process.terminate()
        time.sleep(0.2)
        assert not process.ended()
        process.kill()
        ended(process)
        wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
        assert process.process.returncode == -signal.SIGKILL
        assert process.rss_bytes() == 0
    finally:
        process.kill()

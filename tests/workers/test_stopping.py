"""Runs that somebody cancelled end, as real processes that do not want to."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from storage.artifacts.run_files import RunFiles
from storage.records import claims, hosts, leases, lost_attempts, runs
from storage.records.database import Database
from storage.settings import Settings
from storage.specs import stages
from storage.specs.plans import PlannedRun
from tests.fixtures import waiting
from tests.fixtures.moving_runs import make_ready
from tests.workers.launchers.test_processes import python
from workers import host as hosting
from workers import stopping
from workers.host import Host
from workers.launchers.processes import MARK_VARIABLE, ProcessLauncher

wait_until = partial(waiting.wait_until, within_s=60)

SLEEP = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
DEAF = f"""
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([{sys.executable!r}, "-c", {SLEEP!r}])
apart = subprocess.Popen([{sys.executable!r}, "-c", {SLEEP!r}], start_new_session=True)
print(child.pid, apart.pid, flush=True)
time.sleep(600)
"""
"""A run that is deaf to SIGTERM and has no heartbeat, with a child in its session and one in a session of its own."""
LEAVES = DEAF.replace("time.sleep(600)\n", "time.sleep(1)\n")
"""The same that soon ends by itself and leaves its children behind."""


@pytest.fixture
def run_id(db: Database) -> str:
    """A ready run."""
    made = runs.create(db, [PlannedRun("text", stages.EmbedLabels(label_set="s3dis13"))])[0]
    make_ready(db, made.id)
    return made.id


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a program in the place of the interpreter that runs are started with."""

    return lambda text: python(tmp_path / "python", text, monkeypatch)


@pytest.fixture
def host(db: Database, settings: Settings) -> Iterator[Host]:
    """A host that serves, and starts real processes."""
    made = Host(db, ProcessLauncher(settings), settings)
    thread = threading.Thread(target=made.serve)
    thread.start()
    yield made
    made.stopping.set()
    thread.join(60)
    assert not thread.is_alive()


def children(settings: Settings, run_id: str) -> list[psutil.Process]:
    """The processes that a run says it has started; waits for it to say so."""
    path = RunFiles(settings.store_path).log(run_id, 1)
    wait_until(lambda: path.exists() and path.read_text().endswith("\n"))
    return [psutil.Process(int(pid)) for pid in path.read_text().split()]


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_what_is_allowed_fits_in_the_five_seconds_that_users_are_promised() -> None:
    assert 0 < stopping.SIGNAL_AFTER_S < stopping.KILL_AFTER_S < 5 - 5 * Settings().tick_s


def test_a_run_that_does_not_react_is_killed_with_its_children_and_ends_cancelled(
    db: Database, settings: Settings, host: Host, run_id: str, program: Callable[[str], None]
) -> None:
    program(DEAF)
    family = children(settings, run_id)
    process = host.running[0]
    runs.request_cancel(db, run_id)
    wait_until(lambda: runs.get(db, run_id).state == "cancelled")
    wait_until(lambda: all(gone(one) for one in family) and process.ended())
    run = runs.get(db, run_id)
    assert (run.state, run.reason_code, run.attempt) == ("cancelled", "cancelled", 1)
    wait_until(lambda: not host.running)


def test_a_run_that_ends_by_itself_leaves_no_children_behind(
    db: Database, settings: Settings, host: Host, run_id: str, program: Callable[[str], None]
) -> None:
    program(LEAVES)
    family = children(settings, run_id)
    wait_until(lambda: not host.running)
    wait_until(lambda: all(gone(one) for one in family))
    assert runs.get(db, run_id).state == "queued", "its process had not reported an end"


def test_a_run_that_a_dead_host_started_is_ended_by_the_next_one(
    db: Database, settings: Settings, run_id: str, tmp_path: Path
) -> None:
    """The process is one that nobody here has started: it is found by what it was started as."""
    package = tmp_path / "workers"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(DEAF)
    claim = claims.claim(db, hosts.register(db, socket.gethostname(), 1, 1, []), 600.0)
    assert claim is not None
    with log_path_of(settings, run_id).open("wb") as log:
        orphan = subprocess.Popen(
            [sys.executable, "-m", "workers", "run", run_id], cwd=tmp_path, stdout=log, start_new_session=True,
            env={**os.environ, MARK_VARIABLE: f"{run_id}/1"},
        )  # fmt: skip
    reaper = threading.Thread(target=orphan.wait)
    reaper.start()
    family = children(settings, run_id)
    config = settings.model_copy(update={"slots": 1})
    made = Host(db, ProcessLauncher(config), config)
    thread = threading.Thread(target=made.serve)
    thread.start()
    try:
        runs.request_cancel(db, run_id)
        wait_until(lambda: runs.get(db, run_id).state == "cancelled")
        wait_until(lambda: all(gone(one) for one in family[:1]) and orphan.returncode == -signal.SIGKILL)
        wait_until(lambda: gone(family[1]))
    finally:
        made.stopping.set()
        thread.join(60)
        reaper.join(60)


def log_path_of(settings: Settings, run_id: str) -> Path:
    path = RunFiles(settings.store_path).log(run_id, 1)
    path.parent.mkdir(parents=True)
    return path


def test_a_process_that_outlives_its_attempt_is_killed(
    db: Database, settings: Settings, host: Host, run_id: str, program: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    program(DEAF)
    family = children(settings, run_id)
    process = host.running[0]
    monkeypatch.setattr(stopping, "OVER_S", 0.1)
    assert lost_attempts.abandon(db, process.claim.token, "by a test", 1)
    wait_until(process.ended)
    wait_until(lambda: all(gone(one) for one in family))
    assert runs.get(db, run_id).state == "failed"


@pytest.mark.parametrize("end", [leases.release, partial(leases.fail, code="broken_pipe", message="a child is gone")])
def test_however_a_cancelled_run_ends_it_is_cancelled(db: Database, run_id: str, end: Callable[..., None]) -> None:
    claim = claims.claim(db, hosts.register(db, "here", 1, 1, []), 60.0)
    assert claim is not None
    runs.request_cancel(db, run_id)
    end(db, claim.token, **({"reason": "its host is stopping"} if end is leases.release else {}))
    run = runs.get(db, run_id)
    assert (run.state, run.reason_code, run.reason) == ("cancelled", "cancelled", "somebody cancelled it")


def test_a_draining_host_ends_when_its_runs_have(
    db: Database, settings: Settings, host: Host, run_id: str, program: Callable[[str], None]
) -> None:
    program(DEAF)
    children(settings, run_id)
    (row,) = hosts.list_hosts(db).items
    hosts.set_mode(db, row.id, "draining")
    later = runs.create(db, [PlannedRun("later", stages.EmbedLabels(label_set="scannet20"))])[0]
    make_ready(db, later.id)
    with pytest.raises(AssertionError):
        waiting.wait_until(lambda: hosts.list_hosts(db).items[0].retired_at is not None, within_s=0.5)
    runs.request_cancel(db, run_id)
    wait_until(lambda: hosts.list_hosts(db).items[0].retired_at is not None)
    assert runs.get(db, later.id).state == "ready"
    assert not host.stopping.is_set()


def test_a_host_offers_the_machine_s_memory_unless_it_is_told_otherwise(
    db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 0 < hosting.machine_memory_gb() <= psutil.virtual_memory().total / 1e9 + 0.001
    for offered, expected in ((0, 7.5), (48.0, 48.0)):
        monkeypatch.setattr(hosting, "machine_memory_gb", lambda: 7.5)
        made = Host(db, ProcessLauncher(settings), settings.model_copy(update={"memory_gb": offered}))
        made.stopping.set()
        made.serve()
        assert hosts.list_hosts(db).items[0].memory_gb == expected
    assert os.getpid() == hosts.list_hosts(db).items[0].pid

"""The processes of a lab that the fault test kills and starts again: database server, control plane, worker hosts."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from service.cli.local_service import ADDRESS_LINE
from tests.fixtures.waiting import wait_until

START_S = 120.0
ROOT = Path(__file__).resolve().parents[3]
PAUSES = Path(__file__).parent / "pauses"


@dataclass
class Process:
    """One process of the lab, in a session of its own, that can be killed and started again."""

    command: Sequence[str | Path]
    log: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    account: Mapping[str, str | list[str]] = field(default_factory=dict)
    running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it; what it prints is added to its log."""
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(  # type: ignore[call-overload]
                [str(word) for word in self.command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.log.parent, env={**os.environ, **self.variables}, start_new_session=True, **self.account,
            )  # fmt: skip

    def ended(self) -> bool:
        """Whether it is gone; reaps it."""
        return self.running is None or self.running.poll() is not None

    def kill(self, *, children: bool = False) -> None:
        """Ends it by SIGKILL, and what it has started where `children` says so."""
        if self.running is None:
            return
        family = []
        with contextlib.suppress(psutil.Error):
            family = psutil.Process(self.running.pid).children(recursive=True) if children else []
        self.running.kill()
        for one in family:
            with contextlib.suppress(psutil.Error):
                one.kill()
        psutil.wait_procs(family, timeout=START_S)
        self.running.wait()

    def words(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-4000:]


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Sends a signal to a process of the lab that may be gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def start_until(process: Process, there: Callable[[], bool]) -> None:
    """Starts a process, again where it ends at once, until a condition holds."""

    def look() -> bool:
        if process.ended():
            process.start()
        return there()

    try:
        wait_until(look, START_S)
    except AssertionError as error:
        raise AssertionError(f"{process.command} does not get there; it said:\n{process.words()}") from error


def service(home: Path, port: int, variables: Mapping[str, str]) -> Process:
    """The control plane, without a worker host."""
    words = [sys.executable, "-P", "-m", "service", "--no-host", "--port", str(port)]
    return Process(words, home / "serve.log", variables)


def host(home: Path, variables: Mapping[str, str]) -> Process:
    """A worker host."""
    return Process([sys.executable, "-P", "-m", "workers", "host"], home / "host.log", variables)


def address(process: Process) -> str | None:
    """Where a control plane said last that it listens."""
    found = re.findall(ADDRESS_LINE, process.log.read_text(errors="replace")) if process.log.exists() else []
    return found[-1] if found else None


def workers_of(folder: Path) -> list[psutil.Process]:
    """Every process that was started with this folder of pauses, whoever its parent is now."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("FAULTS_FOLDER") == str(folder) and process.pid != os.getpid():
                found.append(process)
    return found


def end_all(folder: Path) -> None:
    """Kills every process that was started with this folder of pauses; there are none after it."""
    end = time.monotonic() + START_S
    while (left := workers_of(folder)) and time.monotonic() < end:
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=5)

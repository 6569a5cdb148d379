"""Runs as processes of this machine, each in a session of its own, its output in the run's log."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from storage.artifacts.logs import log_path
from storage.records.claims import Claim
from storage.settings import Settings

TOKEN_VARIABLE = "VLGLAB_TOKEN"  # noqa: S105
"""How the fencing token travels: by the environment, never by the command line."""

SPIN_COUNT = "30000"
"""How long OpenMP's threads wait awake for one another: sleeping at once costs a third of a training step, waiting
awake for long starves the other runs where there are more threads than cores."""


@dataclass(slots=True)
class RunProcess:
    """One run's process."""

    claim: Claim
    process: subprocess.Popen[bytes]
    _children: list[psutil.Process] = field(default_factory=list)
    """What it had started when that was last looked at: children in sessions of their own are found by nothing else."""

    def ended(self) -> bool:
        """True once the process is gone; reaps it, and ends what it left behind.

        Its children are ended before it is reaped: until then nobody else is given its id.
        """
        if self.process.returncode is None and self._has_exited():
            _kill(self.process.pid, self._children)
        return self.process.poll() is not None

    def outcome(self) -> str:
        """Exit status or signal."""
        status = self.process.poll()
        if status is None or status >= 0:
            return f"its process ended with status {status} before it had reported"
        hint = "; the machine may have run out of memory" if -status == signal.SIGKILL else ""
        return f"its process was ended by {signal.Signals(-status).name}{hint}"

    def rss_bytes(self) -> int:
        """Resident memory of the process and its children."""
        try:
            parent = psutil.Process(self.process.pid)
            self._children = parent.children(recursive=True)
        except psutil.Error:
            return 0
        total = 0
        for member in (parent, *self._children):
            try:
                total += int(member.memory_info().rss)
            except psutil.Error:
                continue
        return total

    def terminate(self) -> None:
        """Asks the process to give its run back (SIGTERM)."""
        if not self.ended():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Ends the process and its children (SIGKILL to its session, and to those that left it)."""
        if not self.ended():
            _kill(self.process.pid, [*self._children, *_children(self.process.pid)])

    def _has_exited(self) -> bool:
        """Whether the process has exited, without reaping it."""
        try:
            return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True


@dataclass(frozen=True, slots=True)
class FoundProcess:
    """A run's process that a host which has died started."""

    process: psutil.Process

    def terminate(self) -> None:
        """Asks the process to give its run back (SIGTERM)."""
        with contextlib.suppress(psutil.Error):
            self.process.terminate()

    def kill(self) -> None:
        """Ends the process and its children."""
        if self.process.is_running():
            _kill(self.process.pid, _children(self.process.pid))


def _children(pid: int) -> list[psutil.Process]:
    """All that a process has started and that still runs."""
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.Error:
        return []


def _kill(session: int, others: Iterable[psutil.Process]) -> None:
    """SIGKILL to a session that is known to be a run's, and to processes, but for those whose id was given again."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(session, signal.SIGKILL)
    for process in others:
        with contextlib.suppress(psutil.Error):
            process.kill()


class ProcessLauncher:
    """Starts each run as `python -m workers run RUN_ID`."""

    def __init__(self, config: Settings) -> None:
        """Args: the deployment's settings, for the log's place and the number of threads."""
        self._config = config

    def start(self, claim: Claim) -> RunProcess:
        """Starts one run."""
        path = log_path(self._config.store_path, claim.run_id, claim.attempt)
        path.parent.mkdir(parents=True, exist_ok=True)
        threads = str(self._config.threads or len(os.sched_getaffinity(0)))
        source = str(Path(__file__).resolve().parent.parent.parent)
        known = os.environ.get("PYTHONPATH")
        environment = {
            **os.environ,
            TOKEN_VARIABLE: claim.token,
            "VLGLAB_DEVICE": "cuda:0" if claim.gpus else "cpu",
            "CUDA_VISIBLE_DEVICES": ",".join(map(str, claim.gpus)),
            "OMP_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", SPIN_COUNT),
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": source if not known else f"{source}{os.pathsep}{known}",
        }
        with path.open("ab") as output:
            process = subprocess.Popen(
                # -P keeps the working directory off the path: a folder named `workers` there is not ours.
                [sys.executable, "-P", "-m", "workers", "run", claim.run_id],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment,
                start_new_session=True,
            )  # fmt: skip
        return RunProcess(claim, process)

    def find(self, run_id: str) -> FoundProcess | None:
        """The process that runs this run here, whoever started it; run ids are unique, so a name is enough."""
        for process in psutil.process_iter():
            try:
                if process.cmdline()[-3:] == ["workers", "run", run_id] and os.getsid(process.pid) == process.pid:
                    return FoundProcess(process)
            except (psutil.Error, OSError):
                continue
        return None

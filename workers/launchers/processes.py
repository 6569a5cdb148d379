"""Runs as processes of this machine, each in a session of its own, its output in the run's log."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from storage.artifacts import choose
from storage.records.claims import Claim
from storage.settings import Settings
from workers.run import WRONG_REVISION_STATUS

TOKEN_VARIABLE = "VLGLAB_TOKEN"  # noqa: S105
"""How the fencing token travels: by the environment, never by the command line."""

MARK_VARIABLE = "VLGLAB_ATTEMPT"
"""RUN_ID/ATTEMPT, which all that a run starts inherits: so they are found in sessions of their own too."""

PASSES = 3
"""How often a run's processes are looked for while they are killed: they may start others meanwhile."""

SPIN_COUNT = "30000"
"""How long OpenMP's threads wait awake for one another: sleeping at once costs a third of a training step, waiting
awake for long starves the other runs where there are more threads than cores."""


@dataclass(slots=True)
class RunProcess:
    """One run's process."""

    claim: Claim
    process: subprocess.Popen[bytes]

    def ended(self) -> bool:
        """True once the process is gone; reaps it, and ends what it left behind.

        Its children are ended before it is reaped: until then nobody else is given its id.
        """
        if self.process.returncode is None and self._has_exited():
            _kill(self.process.pid, mark_of(self.claim))
        return self.process.poll() is not None

    def outcome(self) -> str:
        """Exit status or signal."""
        status = self.process.poll()
        if status is None or status >= 0:
            return f"its process ended with status {status} before it had reported"
        hint = "; the machine may have run out of memory" if -status == signal.SIGKILL else ""
        return f"its process was ended by {signal.Signals(-status).name}{hint}"

    def refused(self) -> bool:
        """Whether it found a database of another revision than its code, and wrote nothing."""
        return self.process.poll() == WRONG_REVISION_STATUS

    def rss_bytes(self) -> int:
        """Resident memory of the process and its children."""
        try:
            parent = psutil.Process(self.process.pid)
            family = [parent, *parent.children(recursive=True)]
        except psutil.Error:
            return 0
        total = 0
        for member in family:
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
            _kill(self.process.pid, mark_of(self.claim))

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
    mark: str

    def terminate(self) -> None:
        """Asks the process to give its run back (SIGTERM)."""
        with contextlib.suppress(psutil.Error):
            self.process.terminate()

    def kill(self) -> None:
        """Ends the process and its children."""
        if self.process.is_running():
            _kill(self.process.pid, self.mark)


def mark_of(claim: Claim) -> str:
    """What marks all processes of an attempt."""
    return f"{claim.run_id}/{claim.attempt}"


def _kill(session: int, mark: str) -> None:
    """SIGKILL to a session that is known to be a run's, and to all processes with the run's mark."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(session, signal.SIGKILL)
    for _ in range(PASSES):
        for process in _marked(mark):
            with contextlib.suppress(psutil.Error):
                process.kill()


def _marked(mark: str) -> Iterator[psutil.Process]:
    """Living processes with a mark; those of other users cannot be looked at and are none of a run's."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK_VARIABLE) == mark:
                yield process


class ProcessLauncher:
    """Starts each run as `python -m workers run RUN_ID`."""

    def __init__(self, config: Settings) -> None:
        """Args: the deployment's settings, for the log's place and the number of threads."""
        self._config = config
        self._files = choose.open_run_files(config)

    def start(self, claim: Claim) -> RunProcess:
        """Starts one run."""
        path = self._files.log(claim.run_id, claim.attempt)
        path.parent.mkdir(parents=True, exist_ok=True)
        threads = str(self._config.threads or len(os.sched_getaffinity(0)))
        source = str(Path(__file__).resolve().parent.parent.parent)
        known = os.environ.get("PYTHONPATH")
        environment = {
            **os.environ,
            TOKEN_VARIABLE: claim.token,
            MARK_VARIABLE: mark_of(claim),
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
                    return FoundProcess(process, process.environ().get(MARK_VARIABLE, f"{run_id}/"))
            except (psutil.Error, OSError):
                continue
        return None

"""Runs as processes of this machine, each in a session of its own, its output in the run's log."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
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

    def ended(self) -> bool:
        """True once the process is gone; reaps it."""
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
        self._signal(signal.SIGTERM, group=False)

    def kill(self) -> None:
        """Ends the process and its children (SIGKILL to its session)."""
        self._signal(signal.SIGKILL, group=True)

    def _signal(self, number: signal.Signals, *, group: bool) -> None:
        if self.ended():
            return
        try:
            if group:
                os.killpg(self.process.pid, number)
            else:
                os.kill(self.process.pid, number)
        except ProcessLookupError:
            return


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
            "VLGLAB_DEVICE": "cpu" if claim.gpu is None else "cuda:0",
            "CUDA_VISIBLE_DEVICES": "" if claim.gpu is None else str(claim.gpu),
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

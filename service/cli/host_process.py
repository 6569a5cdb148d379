"""The worker host beside the service: `python -m workers host`, a process in a session of its own.

It outlives a restart of the service, which finds it again by its row. Imports no worker.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from storage.records import hosts
from storage.records.database import Database
from storage.settings import Settings

log = logging.getLogger("vlglab.serve")

STOP_S = 15.0
"""Seconds that a host gets to give its runs back before it is killed with them."""


@dataclass
class HostProcess:
    """A worker host that this process started."""

    process: subprocess.Popen[bytes]
    log: Path
    """What it prints."""

    @classmethod
    def start(cls, config: Settings) -> HostProcess:
        """Starts a host under the same settings; what it prints goes to HOME/host.log."""
        source = str(Path(__file__).resolve().parents[2])
        known = os.environ.get("PYTHONPATH")
        environment = {
            **os.environ,
            "PYTHONPATH": f"{source}{os.pathsep}{known}" if known else source,
            "PYTHONUNBUFFERED": "1",
        }
        path = config.home_path / "host.log"
        with path.open("ab") as output:
            process = subprocess.Popen(
                # -P keeps the working directory off the path: a folder named `workers` there is not ours.
                [sys.executable, "-P", "-m", "workers", "host"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        log.info("started the worker host, process %d; its log is %s", process.pid, path)
        return cls(process, path)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def ended(self) -> bool:
        """True once it is gone; reaps it."""
        return self.process.poll() is not None

    def last_words(self) -> str:
        """How it ended, and where it says why."""
        return f"with status {self.process.poll()} (the end of {self.log} may say why)"

    def stop(self) -> None:
        """Asks the host to give its runs back and end; kills it, and them, where it does not."""
        family = _family(self.process.pid)
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            log.warning("the worker host did not end within %.0f s and is killed", STOP_S)
            for member in family:
                if member.is_running():
                    member.kill()
            self.process.wait()


@dataclass(frozen=True)
class EarlierHost:
    """A worker host that another process started."""

    process: psutil.Process

    @property
    def pid(self) -> int:
        """Its process id."""
        return int(self.process.pid)

    def ended(self) -> bool:
        """True once it is gone."""
        try:
            return not self.process.is_running() or self.process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    def last_words(self) -> str:
        """How it ended: nobody here knows."""
        return "with a status that only its parent knows"


def living_host(config: Settings) -> EarlierHost | None:
    """A host on this machine that works on this database, runs and still beats, or None.

    Raises:
        DatabaseError: the database cannot be used.
    """
    db = Database.open(config.resolved_database_url)
    try:
        here = socket.gethostname()
        for host in hosts.of_machine(db, here):
            if host.alive and (process := _worker(host.pid)) is not None:
                return EarlierHost(process)
    finally:
        db.close()
    return None


def was_drained(config: Settings, pid: int) -> bool:
    """Whether the host of this process on this machine was told to drain, and has.

    Raises:
        DatabaseError: the database cannot be used.
    """
    db = Database.open(config.resolved_database_url)
    try:
        here = socket.gethostname()
        row = next((host for host in hosts.of_machine(db, here) if host.pid == pid), None)
        return row is not None and row.mode == "draining" and row.retired_at is not None
    finally:
        db.close()


def _worker(pid: int) -> psutil.Process | None:
    """The process of that id if it is one of `python -m workers`, else None: ids are given again."""
    try:
        process = psutil.Process(pid)
        return process if "workers" in process.cmdline() else None
    except psutil.Error:
        return None


def _family(pid: int) -> list[psutil.Process]:
    """A process and all below it, as they are now."""
    try:
        process = psutil.Process(pid)
        return [*process.children(recursive=True), process]
    except psutil.Error:
        return []

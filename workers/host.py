"""A worker host: claims ready runs that fit its slots and free GPUs, and starts a process for each."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from storage import log_format
from storage.artifacts import choose
from storage.errors import (
    DatabaseError,
    InvalidInput,
    LeaseLost,
    UnknownName,
    VlglabError,
    WrongRevision,
)
from storage.records import claims, hosts, leases, lost_attempts, revision, staging
from storage.records.claims import Claim
from storage.records.database import Database
from storage.settings import Settings
from storage.specs.stages import BY_OWNER, STAGES
from workers.launchers.launcher import Launcher, Started
from workers.log_sending import LogSender
from workers.stopping import Stopper
from workers.sweeping import Sweeper

log = logging.getLogger("vlglab.host")

BEAT_S = 1.0
"""Seconds between two rows of the host's heartbeat."""
START_S = 25.0
"""Seconds that a run's process gets to report itself; the host keeps its lease until then, and no longer."""
PAUSE_S = 5.0
"""Seconds without a claim after a process could not be started."""
LEFT_S = 24 * 3600.0
"""Seconds since the end of an attempt at which an earlier host may not have sent its log."""
STOP_S = 10.0
"""Seconds that runs get to give themselves back when the host stops."""


@dataclass(slots=True)
class Host:
    """One machine's worth of slots."""

    db: Database
    launcher: Launcher
    config: Settings
    gpus: tuple[int, ...] = ()
    only: frozenset[str] = frozenset()
    """Stages that it takes; empty where it takes all."""
    running: list[Started] = field(default_factory=list)
    peak_rss_bytes: int = 0
    """Most resident memory that this host and all its runs had at one moment, sampled every tick."""
    stopping: threading.Event = field(default_factory=threading.Event)
    logs: LogSender = field(init=False)
    sweeper: Sweeper = field(init=False)
    _no_claim_until: float = 0.0

    def __post_init__(self) -> None:
        files = choose.open_run_files(self.config)
        self.logs = LogSender(files)
        self.sweeper = Sweeper(self.db, self.config, files)

    def serve(self) -> None:
        """Claims and starts runs until it is told to stop, or to drain; then asks its runs to give themselves back.

        Raises:
            WrongRevision: the database's tables, or the code on the disk, are no longer those of this host. It claims
                nothing then and stops.
        """
        with self.db.read() as session:
            revision.check(session)
        slots, machine = len(self.gpus) or self.config.slots, socket.gethostname()
        memory_gb = self.config.memory_gb or machine_memory_gb()
        host_id = hosts.register(self.db, machine, os.getpid(), slots, list(self.gpus), memory_gb, self.only)
        log_format.about_process(host_id=host_id)
        log.info("host %s: %d slots, GPUs %s, %.1f GB", host_id, slots, list(self.gpus) or "none", memory_gb)
        if self.only:
            log.info("host %s takes runs of %s alone", host_id, ", ".join(sorted(self.only)))
        if self.logs.sends:
            self.logs.take_over(claims.begun_on(self.db, machine, LEFT_S))
        stopper = Stopper(self.db, self.launcher, machine, self.config.max_attempts)
        last_beat = -math.inf
        wrong: WrongRevision | None = None
        while wrong is None and not self.stopping.wait(self.config.tick_s):
            try:
                self.running = [started for started in self.running if not self._reaped(started)]
                stopper.look(self.running)
                rss = self._sample()
                if time.monotonic() - last_beat > BEAT_S:
                    last_beat = time.monotonic()
                    hosts.beat(self.db, host_id, rss, self.peak_rss_bytes)
                    self._keep_starting()
                self.sweeper.look()
                self._claim(host_id, slots)
                if not self.running and hosts.mode_of(self.db, host_id) == "draining":
                    log.info("host %s is drained", host_id)
                    break
            except WrongRevision as error:
                wrong = error
            except DatabaseError as error:
                log.warning("the database does not answer: %s", error)
        self._stop(host_id)
        if wrong is not None:
            raise wrong

    def _reaped(self, started: Started) -> bool:
        """Whether a run's process is gone; one that died before it could say so gives its run back at once.

        Raises:
            WrongRevision: its code was not of the database's revision; its run is given back, and no attempt is lost.
        """
        if not started.ended():
            return False
        claim = started.claim
        self.logs.ended(claim.run_id, claim.attempt)
        if started.refused():
            with contextlib.suppress(LeaseLost):
                leases.release(self.db, claim.token, "its process has the code of another revision")
            raise WrongRevision(
                "the code on the disk is of another revision than the database and this host: vlglab was installed"
                " under it; run `vlglab db upgrade`, and start the host again"
            )
        if lost_attempts.abandon(self.db, claim.token, started.outcome(), self.config.max_attempts):
            log.warning("the run %s is lost: %s", claim.run_id, started.outcome(), extra=_about(claim))
        return True

    def _claim(self, host_id: str, slots: int) -> None:
        """Starts ready runs while there is room: the table says what runs of an earlier host still take of it."""
        while len(self.running) < slots and time.monotonic() >= self._no_claim_until:
            mine = [started.claim.token for started in self.running]
            claim = claims.claim(self.db, host_id, self.config.lease_s, mine)
            if claim is None:
                return
            log.info("starting %s (%s), attempt %d", claim.run_id, claim.stage, claim.attempt, extra=_about(claim))
            try:
                self.running.append(self.launcher.start(claim))
                self.logs.begins(claim.run_id, claim.attempt)
            except OSError as error:
                said = "the run %s is given back: its process could not be started: %s"
                log.error(said, claim.run_id, error, extra=_about(claim))
                self._no_claim_until = time.monotonic() + PAUSE_S
                with contextlib.suppress(LeaseLost):
                    leases.release(self.db, claim.token, f"its process could not be started: {error}")

    def _keep_starting(self) -> None:
        """Keeps the leases of processes that live and have not reported yet."""
        if tokens := [started.claim.token for started in self.running if not started.ended()]:
            claims.keep(self.db, tokens, self.config.lease_s, START_S)

    def _sample(self) -> int:
        """Resident memory of this host and its runs now; keeps the peak."""
        rss = int(psutil.Process().memory_info().rss) + sum(started.rss_bytes() for started in self.running)
        self.peak_rss_bytes = max(self.peak_rss_bytes, rss)
        return rss

    def _stop(self, host_id: str) -> None:
        for started in self.running:
            started.terminate()
        end = time.monotonic() + STOP_S
        while time.monotonic() < end and not all(started.ended() for started in self.running):
            time.sleep(0.05)
        for started in self.running:
            started.kill()
        self.logs.close()
        self.sweeper.close()
        try:
            hosts.retire(self.db, host_id)
        except VlglabError as error:
            log.warning("the end of host %s could not be written down: %s", host_id, error)
        log.info("host %s has stopped", host_id)


def _about(claim: Claim) -> dict[str, object]:
    """What a line of the log is about."""
    return {"run_id": claim.run_id, "attempt": claim.attempt}


def machine_memory_gb() -> float:
    """GB of memory (10^9 bytes) of this machine, or of the container that this process is in where that has less."""
    total = int(psutil.virtual_memory().total)
    with contextlib.suppress(OSError, ValueError):  # there is no such file, or it says "max"
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return round(total / 1e9, 3)


def find_gpus(setting: str) -> tuple[int, ...]:
    """GPU indices of this machine: given by hand (`0,1`), none (empty), or looked for (`auto`, by nvidia-smi).

    Raises:
        InvalidInput: the setting is neither a list of indices nor `auto`.
    """
    if setting == "auto":
        program = shutil.which("nvidia-smi")
        if program is None:
            return ()
        query = [program, "--query-gpu=index", "--format=csv,noheader"]
        try:
            done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            log.warning("nvidia-smi does not answer, so no GPU is used: %s", error)
            return ()
        setting = ",".join(done.stdout.split())
    try:
        return tuple(sorted({int(index) for index in setting.split(",") if index.strip()}))
    except ValueError as error:
        raise InvalidInput(f"got VLGLAB_GPUS={setting!r}, expected indices such as 0,1, or auto, or nothing") from error


def find_stages(setting: str) -> frozenset[str]:
    """The stages that are named, with commas between them.

    Raises:
        UnknownName: one is no stage that hosts run.
    """
    named = frozenset(filter(None, (name.strip() for name in setting.split(","))))
    known = sorted(set(STAGES) - BY_OWNER)
    for name in sorted(named - set(known)):
        raise UnknownName.among("stage in VLGLAB_STAGES", name, known)
    return named


def run_host(config: Settings) -> None:
    """Serves as a host on this machine until SIGTERM or SIGINT."""
    from workers.launchers.processes import ProcessLauncher

    db = Database.open(config.resolved_database_url)
    host = Host(db, ProcessLauncher(config), config, find_gpus(config.gpus), find_stages(config.stages))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: host.stopping.set())
    host.serve()


def sweep(config: Settings) -> int:
    """Removes what attempts that are over have left staged, by hand; returns of how many."""
    db = Database.open(config.resolved_database_url)
    try:
        return staging.sweep(db, choose.open_store(config))
    finally:
        db.close()


def check_host(config: Settings) -> int:
    """Says whether a host of this machine beats: exit status 0 where one does, 1 where none has lately.

    Raises:
        DatabaseError: the database cannot be used.
    """
    here = socket.gethostname()
    db = Database.open(config.resolved_database_url)
    try:
        mine = hosts.of_machine(db, here)
    finally:
        db.close()
    beating = [host for host in mine if host.alive]
    for host in beating:
        print(f"the host {host.id} of {here} beats (process {host.pid}, last at {host.heartbeat_at:%Y-%m-%d %H:%M:%S})")
    if not beating:
        last = max((host.heartbeat_at for host in mine), default=None)
        heard = "none was ever registered" if last is None else f"the last beat was at {last:%Y-%m-%d %H:%M:%S} UTC"
        print(f"no host of {here} beats: {heard}; start one with `python -m workers host`", file=sys.stderr)
    return 0 if beating else 1

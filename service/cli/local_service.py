"""A `vlglab serve` of one's own: started in a home, spoken to over HTTP, and stopped with whatever it started.

The demo's. Knows processes and the line that `serve` prints; ends no process but those that it started.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil

from service.client import Client
from storage.errors import ServiceUnreachable, VlglabError

ADDRESS_LINE = re.compile(r"vlglab serving at (http://\S+)")
START_S = 60.0
"""Seconds that a service gets to say where it listens."""
STOP_S = 30.0
"""Seconds that it gets to end with its worker host, and the host where it does not."""


@dataclass
class LocalService:
    """A service in a home of its own; use it as a context manager."""

    home: Path
    dataset_roots: Sequence[Path] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    """More VLGLAB_* variables for it, such as VLGLAB_DATABASE_URL."""
    url: str = ""
    """Where it listens, once it does."""
    _process: subprocess.Popen[bytes] | None = None
    _hosts: set[int] = field(default_factory=set)
    _host_seen: float = field(default_factory=time.monotonic)

    @property
    def log(self) -> Path:
        """What it prints."""
        return self.home / "serve.log"

    def __enter__(self) -> Self:
        """Starts it and waits until it says where it listens."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stops it."""
        self.stop()

    def client(self) -> Client:
        """A client of it."""
        return Client(self.url)

    def check(self) -> None:
        """Checks that it lives.

        Raises:
            ServiceUnreachable: it has ended; the error holds the end of its log.
        """
        status = None if self._process is None else self._process.poll()
        if status is not None:
            raise ServiceUnreachable(
                f"the service ended with status {status}; the end of {self.log}:\n{_tail(self.log)}"
            )

    def check_hosts(self, client: Client) -> None:
        """Checks that a worker host lives; notes it, so that `stop` can end one that outlives the service.

        Raises:
            ServiceUnreachable: none has lived for START_S; the error holds the end of its log.
        """
        with contextlib.suppress(VlglabError):
            alive = [host.pid for host in client.hosts(alive=True)]
            self._hosts.update(alive)
            if alive:
                self._host_seen = time.monotonic()
        if time.monotonic() - self._host_seen > START_S:
            path = self.home / "host.log"
            raise ServiceUnreachable(f"no worker host lives; the end of {path}:\n{_tail(path)}")

    def wait(self) -> None:
        """Waits until it ends by itself."""
        if self._process is not None:
            self._process.wait()

    def stop(self) -> None:
        """Ends it, and its worker hosts where they did not end with it."""
        process, self._process = self._process, None
        if process is None:
            return
        with _uninterrupted():
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            _end([found for pid in self._hosts if (found := _host_of(pid, self.home)) is not None])

    def _start(self) -> None:
        """Starts the process and reads its address from its log."""
        self.home.mkdir(parents=True, exist_ok=True)
        before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command(), "serve", "--port", "0", "--stop-host"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**environment(os.environ, self.home, self.dataset_roots), **self.variables},
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            with self.log.open("rb") as log:
                log.seek(before)
                found = ADDRESS_LINE.search(log.read().decode(errors="replace"))
            if found is not None:
                self.url = found.group(1)
                return
            self.check()
            time.sleep(0.05)
        raise ServiceUnreachable(f"the service did not say where it listens within {START_S:.0f} s; see {self.log}")


def command() -> list[str]:
    """How this installation's `vlglab` is started."""
    script = Path(sys.executable).with_name("vlglab")
    return [str(script)] if script.exists() else [sys.executable, "-m", "service.cli.start"]


def environment(base: Mapping[str, str], home: Path, roots: Sequence[Path]) -> dict[str, str]:
    """An environment in which everything lies under `home`, whatever the caller's own service uses."""
    elsewhere = {"VLGLAB_DATABASE_URL", "VLGLAB_STORE_URL", "VLGLAB_URL", "VLGLAB_HOST", "VLGLAB_PORT"}
    elsewhere |= {"VLGLAB_REQUIRE_TOKENS", "VLGLAB_FIRST_TOKEN"}
    kept = {name: value for name, value in base.items() if name not in elsewhere}
    roots_json = json.dumps([str(root) for root in roots])
    return {**kept, "VLGLAB_HOME": str(home), "VLGLAB_DATASET_ROOTS": roots_json, "PYTHONUNBUFFERED": "1"}


def _tail(path: Path, num_lines: int = 20) -> str:
    """The last lines of a text file; nothing where there is none."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-num_lines:]) if path.exists() else ""


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Leaves Ctrl-C unheard, so that a second one does not leave processes behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _host_of(pid: int, home: Path) -> psutil.Process | None:
    """The process of that id if it is a worker host in `home`, else None."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        if "workers" in process.cmdline() and process.environ().get("VLGLAB_HOME") == str(home):
            return process
    return None


def _end(processes: Sequence[psutil.Process]) -> None:
    """Asks processes to end, and kills them with their children where they do not."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=STOP_S)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            for one in (*process.children(recursive=True), process):
                one.kill()

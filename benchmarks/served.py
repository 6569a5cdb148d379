"""A service of its own for a benchmark, in a process beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from service.cli.local_service import ADDRESS_LINE


@contextmanager
def service(home: Path, *, host: bool = False, **variables: str) -> Iterator[tuple[str, psutil.Process]]:
    """The address of a service, and its process; what it says on stderr goes to `serve.log` in its home.

    Args:
        home: VLGLAB_HOME.
        host: whether it keeps a worker host, which ends with it.
        variables: more of its environment.
    """
    own = {"VLGLAB_HOME": str(home), "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    command = [sys.executable, "-P", "-m", "service", "--port", "0", "--stop-host" if host else "--no-host"]
    with (home / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ | own | variables
        )
    try:
        assert process.stdout is not None
        yield next(filter(None, map(ADDRESS_LINE.search, process.stdout)))[1], psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(timeout=60)
        process.stdout.close()

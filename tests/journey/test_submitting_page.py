"""docs/submitting.md, run from top to bottom: its files written, its commands in one shell, its Python beside them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.cli import local_service
from service.cli.local_service import LocalService
from service.client import DEFAULT_URL, Client

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "submitting.md").read_text()
NEEDED = ("bash", "curl", "python3")
PAGE_S = 1200


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def commands(url: str) -> str:
    """What stands after the dollars, as one script that stops at the first that fails."""
    lines = []
    for block in blocks("console"):
        goes_on = False
        for line in block.splitlines():
            if line.startswith("$ ") or goes_on:
                lines.append(line.removeprefix("$ "))
                goes_on = line.endswith("\\")
    return "\n".join(["set -euxo pipefail", *lines]).replace(DEFAULT_URL, url)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A service of this page's own; its leases are long, for a busy machine takes seconds to start a worker."""
    home = tmp_path_factory.mktemp("page") / "home"
    variables = {"VLGLAB_THREADS": "1", "VLGLAB_LEASE_S": "60"}
    with LocalService(home, variables=variables) as service, service.client() as opened:
        yield opened


@pytest.fixture
def shell(tmp_path: Path, client: Client) -> dict[str, str]:
    """The environment of somebody who reads the page: a folder of their own, `vlglab` on PATH, an address."""
    missing = [program for program in NEEDED if shutil.which(program) is None]
    if missing:
        pytest.skip(f"the page needs {', '.join(missing)}, which this machine has not")
    vlglab = tmp_path / "bin" / "vlglab"
    vlglab.parent.mkdir()
    vlglab.write_text(f'#!/bin/sh\nexec {" ".join(local_service.command())} "$@"\n')
    vlglab.chmod(0o755)
    for name, content in re.findall(r"`([\w.]+)`:\n\n```json\n(.*?)```", PAGE, re.DOTALL):
        (tmp_path / name).write_text(content)
    root = str(Path(__file__).resolve().parents[2])
    path = f"{vlglab.parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": root, "VLGLAB_URL": client.url}


@pytest.mark.slow
@pytest.mark.timeout(2 * PAGE_S)
def test_every_command_and_the_python_of_the_page_work_in_the_order_in_which_they_stand(
    client: Client, shell: dict[str, str], tmp_path: Path
) -> None:
    script = commands(client.url)
    assert script.count("vlglab ") > 20 and script.count("curl ") == 3
    done = subprocess.run(
        ["bash", "-c", script], env=shell, cwd=tmp_path, capture_output=True, text=True, timeout=PAGE_S, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("status 6") == 2, "the run has ended well: it is neither cancelled nor retried"
    assert "event: end" in done.stdout
    assert len(list(client.runs(tag="first-look"))) == 10
    (costly,) = client.runs(tag="costly")
    assert (costly.priority, costly.time_limit_s) == (1, 7200)
    (snippet,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", snippet.replace(DEFAULT_URL, client.url)],
        env=shell, cwd=tmp_path, capture_output=True, text=True, timeout=PAGE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "ours all 0." in done.stdout
    assert "succeeded" in done.stdout or "cached" in done.stdout

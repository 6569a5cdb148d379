"""docs/operating.md, command by command, in its order: from nothing to a lab that was backed up, moved and upgraded.

One shell runs them, in a home of its own. What a reader fills in is filled in here (`filled`); `pip` is a stand-in that
checks what it is asked to install against this project, for nothing may be installed by a test.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from service.webhooks.signing import PREFIX, signature
from tests.fixtures.postgres import find_binaries, free_port

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")

PIP = """#!{python}
import pathlib, sys, tomllib
root = pathlib.Path({root!r})
project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
verb, c, constraints, e, what = sys.argv[1:]
assert (verb, c, e) == ("install", "-c", "-e") and (root / constraints).is_file(), sys.argv
place, _, extra = what.rstrip("]").partition("[")
assert place == "." and extra in project["optional-dependencies"], sys.argv
"""
VLGLAB = """#!/bin/sh
PYTHONPATH={root} exec {python} -m service.cli.entry "$@"
"""
WAIT_FOR_SERVICE = """
for i in $(seq 600); do vlglab_answers && break; kill -0 $!; sleep 0.5; done; vlglab_answers
"""
A_RUN = """
python3 - <<END
import os, time
from service import schemas
from service.client import Client
spec = {"stage": "embed_labels", "label_set": "s3dis13"}
with Client(os.environ["VLGLAB_URL"], token=os.environ["VLGLAB_API_TOKEN"]) as client:
    made = client.submit(schemas.RunListRequest.model_validate({"name": "x", "runs": [{"name": "l", "spec": spec}]}))
    while client.run(made.runs[0].id).state not in ("succeeded", "cached", "failed"):
        time.sleep(0.2)
    print("the run", client.run(made.runs[0].id).state)
END
"""
"""So that there is something to keep: a run and its artifact; and the same again in the lab that was moved."""
ELSEWHERE = "In containers"
"""The section whose commands need Docker: `tests/architecture/test_containers.py` holds its files against the code."""
PRELUDE = """
set -euo pipefail
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
vlglab_answers() { python3 - <<END
import urllib.request
urllib.request.urlopen("$VLGLAB_URL/readyz", timeout=5)
END
} 2>/dev/null
first_id() { python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["id"])'; }
"""


def commands() -> list[str]:
    """Every command of the page, in its order."""
    sections = [part for part in re.split(r"(?m)^## ", PAGE) if not part.startswith(ELSEWHERE)]
    blocks = re.findall(r"```console\n(.*?)```", "".join(sections), re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def filled(command: str, server: str) -> str:
    """A command with what its reader fills in."""
    where = urlsplit(server)
    known = {
        "127.0.0.1:5432": f"{where.hostname}:{where.port}",
        ":PASSWORD": ":of-mine",
        "'PASSWORD'": "'of-mine'",
        "TOKEN_ID": "$(vlglab tokens list --json | first_id)",
        "WEBHOOK_ID": "$(vlglab webhooks list --json | first_id)",
        "HOST_ID": "$(vlglab hosts list --json | first_id)",
        "RUN_ID": "$(vlglab runs list --json | first_id)",
        "EXPERIMENT_ID": "$(vlglab experiments list --json | first_id)",
    }
    for name, value in known.items():
        command = command.replace(name, value)
    asks = re.match(r"vlglab (runs|experiments) delete", command) and "--dry-run" not in command
    return f"vlglab{command.removeprefix('vlglab').partition('  #')[0]} <<< y" if asks else command


def script(server: str) -> str:
    """The page as a shell script that says which command it runs."""
    lines = [PRELUDE]
    for number, command in enumerate(commands()):
        lines.append(f"echo '--- command {number}' >&2")
        if "delete" in command and "dry-run" not in command:
            lines.append(A_RUN)  # another of the same, for the one that is deleted
        lines.append(filled(command, server))
        if command.endswith("&"):
            lines.append(WAIT_FOR_SERVICE)
        if command.startswith("vlglab tokens whoami"):
            lines.append(A_RUN)
        if command.startswith("unset"):  # the lab on SQLite that its reader has: here it is the one that was backed up
            lines.append("vlglab db import backup.jsonl.gz")
    return "\n".join([*lines, "echo '--- done' >&2", ""])


def executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.timeout(960)
def test_every_command_of_the_page_works_in_the_order_of_the_page(postgres_server: str, tmp_path: Path) -> None:
    assert len(commands()) > 30
    binaries, home, programs = find_binaries(), tmp_path / "home", tmp_path / "programs"
    assert binaries is not None
    home.mkdir()
    programs.mkdir()
    executable(programs / "pip", PIP.format(python=sys.executable, root=str(ROOT)))
    executable(programs / "vlglab", VLGLAB.format(root=ROOT, python=sys.executable))
    where = urlsplit(postgres_server)
    port = free_port()
    environment = {
        "HOME": str(home),
        "PATH": f"{programs}:{binaries}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PGHOST": str(where.hostname),
        "PGPORT": str(where.port),
        "PGUSER": str(where.username),
        "PGDATABASE": "postgres",
        "VLGLAB_PORT": str(port),
        "VLGLAB_URL": f"http://127.0.0.1:{port}",
        "VLGLAB_THREADS": "1",
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(ROOT),
    }
    path = tmp_path / "page.sh"
    path.write_text(script(postgres_server))
    log = tmp_path / "page.log"
    with log.open("wb") as output:
        shell = subprocess.Popen(
            ["bash", str(path)], cwd=home, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            status = shell.wait(840)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGTERM)  # a service that was still there ends its host with itself
            shell.wait(60)
    said = log.read_text(errors="replace")
    last = re.findall(r"--- command (\d+)", said)
    assert status == 0, f"{commands()[int(last[-1])]!r} failed:\n{said[-3000:]}"
    assert said.rstrip().endswith("--- done")
    assert said.count("the database is sound") == 4
    assert "the run succeeded" in said and said.count("the run cached") == 3, "the lab knows its artifacts"
    assert "ada (admin)" in said and "imported backup.jsonl.gz" in said and "imported lab.jsonl.gz" in said
    assert (home / "backup-store").is_dir() and (home / "backup-webhook.key").is_file()


def test_the_snippet_for_receivers_takes_what_was_signed_and_nothing_else() -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, object] = {}
    exec(snippet, names)
    is_ours = names["is_from_our_lab"]
    assert callable(is_ours)
    secret, body = PREFIX + "C2FVsBQIhrscChlQIMV+b5sSYspob7oD3c0H2BnV6nM=", '{"type": "run.failed", "x": "\u00e4"}'
    now = int(time.time())
    headers = {
        "webhook-id": "d1",
        "webhook-timestamp": str(now),
        "webhook-signature": signature(secret, "d1", now, body),
    }
    assert is_ours(secret, headers, body.encode())
    assert is_ours(secret, {**headers, "webhook-signature": "v1,x " + headers["webhook-signature"]}, body.encode())
    assert not is_ours(secret, headers, body.encode() + b" ")
    assert not is_ours(secret, {**headers, "webhook-id": "d2"}, body.encode())
    assert not is_ours(secret, {**headers, "webhook-timestamp": str(now + 1)}, body.encode())
    assert not is_ours(PREFIX + "AAAA", headers, body.encode())
    old = now - 400
    late = {"webhook-id": "d1", "webhook-timestamp": str(old), "webhook-signature": signature(secret, "d1", old, body)}
    assert not is_ours(secret, late, body.encode())

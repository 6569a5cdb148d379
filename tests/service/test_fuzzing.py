"""The API as schemathesis asks it, from the OpenAPI document alone: every endpoint, every check.

What is left out, and why, stands in `fuzzing/schemathesis.toml` and `fuzzing/hooks.py`.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import uvicorn

from service import examples, schemas
from service.app import create_app
from service.client import Client
from storage.records import access_tokens, hosts, leases
from storage.records.database import Database
from storage.settings import Settings
from tests.fixtures import waiting
from tests.service.conftest import Worker
from tests.service.fuzzing.hooks import OWN_TOKEN

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CONFIG = HERE / "fuzzing" / "schemathesis.toml"
GENERATED = re.compile(r"^\s+(\d+) generated, \d+ passed", re.MULTILINE)
SOAK_CASES = 10_000

wait_until = partial(waiting.wait_until, within_s=30)


@dataclass
class Served:
    """A service that listens, and the token that it is asked with."""

    folder: Path
    """Where schemathesis may leave what it keeps."""
    url: str
    token: str
    token_id: str

    def fuzz(self, seed: int, max_examples: int) -> int:
        """Lets schemathesis ask it; returns the number of cases, all of which passed."""
        print(f"schemathesis with the seed {seed}, {max_examples} examples")
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)),
                *("run", f"{self.url}/openapi.json", "--checks", "all", "--no-color"),
                *("--seed", str(seed), "--max-examples", str(max_examples)),
                *("-H", f"Authorization: Bearer {self.token}"),
            ],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), OWN_TOKEN: self.token_id},
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        found = GENERATED.search(said)
        assert found is not None, said
        return int(found.group(1))


@pytest.fixture
def served(settings: Settings, database_url: str, tmp_path: Path) -> Iterator[Served]:
    """A service over HTTP that asks for a token and holds one of everything that the document's examples name."""
    made = {"database_url": database_url, "require_tokens": True, "requests_per_s": 0}
    db = Database.open(database_url)
    token, secret = access_tokens.create(db, "fuzz", "admin")
    db.close()
    app = create_app(settings.model_copy(update=made))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, name="service")
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        fill(url, secret, Worker(app.state.parts, hosts.register(app.state.parts.db, "here", 1, 64, [])))
        yield Served(tmp_path, url, secret, token.id)
    finally:
        server.should_exit = True
        thread.join()


def fill(url: str, secret: str, worker: Worker) -> None:
    """Registers a dataset and publishes an artifact of a run that ended, under the names in the examples."""
    with Client(url, token=secret) as client:
        client.add_dataset(schemas.DatasetRequest(**examples.DATASET_REQUEST))
        run = schemas.RunRequest(spec={"stage": "embed_labels", "label_set": "s3dis13"})
        client.submit(schemas.RunListRequest(name="pictures", runs=[run]))
    claim = worker.claim()
    made = worker.publish(claim, examples.ARTIFACT["key"], "figures", {examples.FILE["name"]: b"content"})
    leases.succeed(worker.db, claim.token, {"figures": made.key}, cached=False)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, random.SystemRandom().randrange(2**32)], ids=["fixed", "random"])
def test_whatever_the_document_allows_and_forbids_is_answered_as_it_says(served: Served, seed: int) -> None:
    assert served.fuzz(seed, max_examples=3) > 500


@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
def test_ten_thousand_cases(served: Served) -> None:
    seeds = iter([random.SystemRandom().randrange(2**32) for _ in range(50)])
    cases = 0
    while cases < SOAK_CASES:
        cases += served.fuzz(next(seeds), max_examples=60)
        print(f"{cases} cases")

"""Workers that die at random moments, many times over: every experiment still ends, with the same results."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter

import pytest

from service.client import Client
from storage.settings import Settings
from tests.journey.conftest import FINAL, ended, submit

ATTEMPTS: int = Settings.model_fields["max_attempts"].default
"""One that is killed less often must still succeed."""

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]


def test_experiments_survive_workers_that_are_killed_again_and_again(client: Client) -> None:
    calm = ended(client, submit(client, "tiny", distill__training__repeats=10).id)
    chance = random.Random(0)
    stormy = submit(client, "tiny", distill__training__repeats=10, specialize__adapter__alpha=0.9)
    struck: Counter[str] = Counter()
    while not all(run.state in FINAL for run in client.runs(experiment=stormy.id)):
        time.sleep(chance.uniform(0.5, 4.0))
        for run in client.runs(experiment=stormy.id):
            if run.state == "running" and struck[run.id] < ATTEMPTS - 1:
                started = [event for event in client.events(run.id) if "process" in event.message]
                if started:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(started[-1].message.rsplit(" ", 1)[1]), signal.SIGKILL)
                        struck[run.id] += 1
    runs = ended(client, stormy.id)
    assert struck.total() >= ATTEMPTS, "too few runs lived long enough to be killed"
    ends = {name: (run.state, run.reason) for name, run in runs.items()}
    assert all(state in ("succeeded", "cached") for state, _ in ends.values()), ends
    assert calm["ingest"].outputs == runs["ingest"].outputs

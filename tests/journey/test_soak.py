"""Workers that die at random moments, many times over: every experiment still ends, with the same results."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time

import pytest

from service.client import Client
from tests.journey.conftest import FINAL, ended, submit

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]


def test_experiments_survive_workers_that_are_killed_again_and_again(client: Client) -> None:
    calm = ended(client, submit(client, "tiny", distill__training__repeats=10).id)
    chance = random.Random(0)
    stormy = submit(client, "tiny", distill__training__repeats=10, specialize__adapter__alpha=0.9)
    kills = 0
    while not all(run.state in FINAL for run in client.runs(experiment=stormy.id)):
        time.sleep(chance.uniform(0.5, 4.0))
        for run in client.runs(experiment=stormy.id):
            if run.state == "running" and kills < 5:
                started = [event for event in client.events(run.id) if "process" in event.message]
                if started:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(started[-1].message.rsplit(" ", 1)[1]), signal.SIGKILL)
                        kills += 1
    runs = ended(client, stormy.id)
    assert kills == 5
    lost = {name: run.reason for name, run in runs.items() if run.state == "failed"}
    assert all("attempts were lost" in (reason or "") for reason in lost.values()), lost
    assert calm["ingest"].outputs == runs["ingest"].outputs

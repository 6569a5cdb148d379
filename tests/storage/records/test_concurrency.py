"""Many hosts at once: threads and processes that claim never get the same run."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from storage.records import claims, events, leases, lost_attempts, runs
from storage.records.claims import Claim
from storage.records.database import Database
from storage.records.runs import Run
from tests.fixtures.listed_runs import list_runs

ROOT = Path(__file__).resolve().parents[3]
CLAIMER = """
import json, sys
from storage.records import claims
from storage.records.database import Database
db = Database.open(sys.argv[1])
got = []
while (claim := claims.claim(db, sys.argv[2], 60.0)) is not None:
    got.append(claim.run_id)
print(json.dumps(got))
"""


def test_threads_that_claim_never_get_the_same_run(db: Database, host: str, ready_run: Callable[..., Run]) -> None:
    made = sorted(ready_run().id for _ in range(24))
    start = threading.Barrier(8)
    got: list[list[Claim]] = [[] for _ in range(8)]

    def work(mine: list[Claim]) -> None:
        start.wait()
        while (claim := claims.claim(db, host, 60.0)) is not None:
            mine.append(claim)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in got]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = [claim for mine in got for claim in mine]
    assert sorted(claim.run_id for claim in taken) == made
    assert len({claim.token for claim in taken}) == len(made)
    assert {run.attempt for run in list_runs(db).items} == {1}


def test_processes_that_claim_never_get_the_same_run(
    db: Database, database_url: str, host: str, ready_run: Callable[..., Run]
) -> None:
    made = sorted(ready_run().id for _ in range(12))
    command = [sys.executable, "-c", CLAIMER, database_url, host]
    claimers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(3)]
    got = [json.loads(claimer.communicate(timeout=120)[0]) for claimer in claimers]
    assert [claimer.returncode for claimer in claimers] == [0, 0, 0]
    assert sorted(run_id for mine in got for run_id in mine) == made


def test_a_reader_that_follows_events_loses_none(db: Database, claimed: Callable[..., Claim]) -> None:
    """Writers commit while somebody reads on from the last id that they saw: ids must come in commit order."""
    tokens = [claimed().token for _ in range(4)]
    first = events.after(db, limit=500)[-1].id
    done = threading.Event()
    seen: list[int] = []

    def read() -> None:
        cursor, last = first, False
        while not last:
            last = done.is_set()
            for event in events.after(db, cursor=cursor, limit=500):
                seen.append(event.id)
                cursor = event.id

    def write(token: str) -> None:
        for number in range(15):
            leases.note(db, token, str(number))

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(token,)) for token in tokens]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert seen == [event.id for event in events.after(db, cursor=first, limit=500)]
    assert len(seen) == 60


def test_beats_while_the_planner_expires_never_revive_a_lost_attempt(
    db: Database, claimed: Callable[..., Claim]
) -> None:
    """Either the beat renews the lease, or the attempt is lost and the beat is refused: never both."""
    from storage.errors import LeaseLost

    for _ in range(10):
        claim = claimed(lease_s=-1.0)
        outcome: dict[str, object] = {}

        def beat(claim: Claim = claim, outcome: dict[str, object] = outcome) -> None:
            try:
                leases.beat(db, claim.token, lease_s=60.0)
                outcome["beat"] = True
            except LeaseLost:
                outcome["beat"] = False

        def expire(outcome: dict[str, object] = outcome) -> None:
            outcome["lost"] = lost_attempts.expire(db, max_attempts=3)

        threads = [threading.Thread(target=beat), threading.Thread(target=expire)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        alive = runs.get(db, claim.run_id).state == "running"
        assert outcome == {"beat": alive, "lost": [] if alive else [claim.run_id]}
        if alive:
            leases.cancelled(db, claim.token)

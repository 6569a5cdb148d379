"""Faults at random moments, over real stages on small rooms: nothing is lost, done twice, damaged or left behind.

The processes are real ones: a control plane, a worker host with its runs, and PostgreSQL's server. Most faults are
aimed at a state of a run, where `faults/pauses` holds the process while the fault strikes; some strike at any moment.
The store lies on a tmpfs of its own that is filled; where this user may not mount one, writing an array fails as if.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest

from storage.artifacts.manifests import digest
from storage.records import events, staging
from storage.records.states import DONE, FINAL
from tests.fixtures.waiting import wait_until
from tests.journey.faults.lab import CLAIMING, COMMITTING, LEASE_S, RUNNING, STAGING, STATES, WAIT_S, Lab, lab
from tests.journey.faults.processes import kill

BOUNDED_S = float(os.environ.get("FAULTS_S", "60"))
"""Seconds of faults in `make test-all`, for one seed and database."""
SOAK_ROUNDS = 200
LEAST = 10
"""Kills in each state that the whole test must have seen."""

POINTS = {
    CLAIMING: ("claim-uncommitted", "claim-committed", "process-started", "process-reported"),
    RUNNING: ("key-set",),
    STAGING: ("array-written", "part-complete"),
    COMMITTING: ("renamed", "row-to-write", "row-uncommitted"),
}
"""State -> the points at which a process is in it. At the first two of `claiming` it is a host, else a run's."""
ENDING = "run-to-end"
"""After the artifact's row, before the run's end."""


@dataclass
class Storm:
    """Rounds of faults, and what they struck."""

    lab: Lab
    chance: random.Random
    struck: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(State that was struck, what struck it) -> how often."""

    def round(self) -> None:
        """One fault, aimed or not; what was killed is started again at once."""
        faults = [self.aimed] * 12 + [self.anywhere] * 3 + [self.heartbeat] * 3 + [self.disk] * 2
        self.chance.choice(faults)()
        self.lab.revive()

    def aimed(self) -> None:
        """Kills a process that stands at a point, or the control plane or the database while it does."""
        state = self.chance.choice(STATES)
        point = self.chance.choice((*POINTS[state], ENDING) if state == COMMITTING else POINTS[state])
        pid = self.lab.reach(point)
        others = ["control plane", "host"] + ["database"] * (self.lab.database is not None)
        victim = self.chance.choice(["the process itself"] * 4 + others)
        self.struck["ending" if point == ENDING else state, victim] += 1
        if victim == "the process itself":
            kill(pid)
        else:
            self._kill(victim)
        self.lab.go_on()

    def anywhere(self) -> None:
        """Kills something at a random moment."""
        self.lab.top_up()
        time.sleep(self.chance.uniform(0.0, 2.0))
        living = [attempt for attempt in self.lab.living() if attempt.pid is not None]
        victims = ["control plane", "host"] + ["database"] * (self.lab.database is not None)
        victim = self.chance.choice(victims + ["worker"] * 3 * bool(living))
        if victim == "worker":
            attempt = self.chance.choice(living)
            assert attempt.pid is not None
            self.struck[self.lab.state_of(attempt), "at random"] += 1
            kill(attempt.pid)
        else:
            self.struck["any", victim] += 1
            self._kill(victim)

    def heartbeat(self) -> None:
        """Holds a process until its run has gone on without it, then lets it go on: it may write nothing more."""
        state = self.chance.choice((RUNNING, STAGING, COMMITTING))
        pid = self.lab.reach(self.chance.choice([p for p in POINTS[state] if p != "row-uncommitted"]))
        kill(pid, signal.SIGSTOP)
        self.lab.go_on()
        self.struck[state, "no heartbeat"] += 1
        try:
            self._wait(lambda: all(attempt.pid != pid for attempt in self.lab.living()))
        finally:
            kill(pid, signal.SIGCONT)

    def disk(self) -> None:
        """Fills the store's disk for a while."""
        self.lab.top_up()
        free = self.lab.fill_disk()
        self.struck["any", "full disk"] += 1
        time.sleep(self.chance.uniform(1.0, 2 * LEASE_S))
        free()

    def calm(self) -> None:
        """No more faults: every run ends, those that a full disk failed after a retry."""

        def over() -> bool:
            self.lab.revive()
            runs = self.lab.attempts_and_runs()[1]
            for run in runs:
                if run.state == "failed":
                    assert full_disk(run.reason), (run.stage, run.reason_code, run.reason)
                    self.lab.ask(lambda client, one=run.id: client.retry_run(one))
                    self.struck["any", "failed by a full disk"] += 1
            return all(run.state in FINAL for run in runs) and not any(run.state == "failed" for run in runs)

        self._wait(over, within_s=1200)

    def _kill(self, victim: str) -> None:
        process = {"control plane": self.lab.control, "host": self.lab.workers, "database": self.lab.database}[victim]
        assert process is not None
        process.kill(children=victim == "database")

    def _wait(self, condition: object, within_s: float = WAIT_S) -> None:
        assert callable(condition)
        wait_until(lambda: not time.sleep(0.1) and bool(condition()), within_s)

    def histogram(self) -> str:
        """What was struck, a line each."""
        return "\n".join(f"{count:5d}  {state}: {by}" for (state, by), count in sorted(self.struck.items()))

    def kills(self) -> Counter[str]:
        """State -> how often something was killed or held while a run was in it."""
        counts: Counter[str] = Counter()
        for (state, _), count in self.struck.items():
            counts[state] += count
        return counts


def full_disk(reason: str | None) -> bool:
    """Whether a run says that it failed because nothing more could be written."""
    return reason is not None and ("No space left" in reason or "check the disk's space" in reason)


def check(one: Lab) -> None:
    """What must stand when all has become calm."""
    attempts, runs = one.attempts_and_runs()
    recorded = one.recorded()
    assert {run.state for run in runs} <= DONE, "a run was lost"
    finished = Counter(attempt.run_id for attempt in attempts if attempt.state in DONE)
    assert all(count == 1 for count in finished.values()), "a run was run to completion twice"
    assert not any(attempt.state == "running" for attempt in attempts), "an attempt never ended"
    made = Counter(output.artifact_key for run in runs if run.state == "succeeded" for output in run.outputs)
    assert all(count == 1 for count in made.values()), "an artifact was computed to completion twice"
    for run in runs:
        said = [event for event in events.after(one.db, run.id, limit=500) if event.kind == "state"]
        assert [event.state for event in said if event.state in DONE] == [run.state], "a run ended well twice"
        assert said[-1].state == run.state, "a run went on after its end"
        assert {output.artifact_key for output in run.outputs} <= recorded.keys()
    assert set(one.store.artifacts()) == recorded.keys(), "an artifact lies in the store that nobody recorded"
    for key, row in recorded.items():
        assert not one.store.verify(key), "a published artifact is damaged"
        assert digest(one.store.artifact_path(key).read_bytes()) == row.manifest_digest
    staging.sweep(one.db, one.store)
    assert not one.store.staged(), "something staged is left behind"


def weather(kind: str, seed: int, *, rounds: int | None = None) -> Counter[str]:
    """A storm of so many rounds, or for BOUNDED_S; then the calm, and all checks. Returns kills by state."""
    print(f"faults on {kind} with the seed {seed}")
    chance = random.Random(seed)
    with lab(kind, chance) as one:
        print(
            "the store's disk is " + ("a tmpfs of its own" if one.own_disk else "not its own: arrays fail as if full")
        )
        storm = Storm(one, chance)
        began, done = time.monotonic(), 0
        try:
            while done < rounds if rounds is not None else time.monotonic() - began < BOUNDED_S:
                storm.round()
                done += 1
            storm.calm()
            check(one)
        finally:
            runs = len(one.attempts_and_runs()[1])
            print(
                f"{done} rounds in {time.monotonic() - began:.0f} s over {runs} runs\n{storm.histogram()}", flush=True
            )
        return storm.kills()


KINDS = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [4, random.SystemRandom().randrange(2**32)], ids=["fixed", "random"])
def test_a_minute_of_faults_leaves_nothing_lost_doubled_or_damaged(kind: str, seed: int) -> None:
    assert weather(kind, seed).total() > 0


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("kind", KINDS)
def test_two_hundred_rounds_of_faults_in_every_state(kind: str) -> None:
    seed = int(os.environ.get("FAULTS_SEED", random.SystemRandom().randrange(2**32)))
    kills = weather(kind, seed, rounds=SOAK_ROUNDS)
    assert all(kills[state] >= LEAST for state in STATES), kills

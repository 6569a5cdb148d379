from __future__ import annotations

from collections.abc import Callable

import pytest

from service.scheduler.planner import plan
from storage.errors import IllegalMove, NotFound
from storage.records import claims, events, experiments, leases, lost_attempts, planning, retries, runs
from storage.records.claims import Claim
from storage.records.database import Database
from storage.records.experiments import Experiment
from storage.records.runs import Run
from storage.specs import stages
from storage.specs.plans import OutputRef, PlannedRun
from storage.specs.presets import Request
from storage.specs.recipes import build
from tests.fixtures.moving_runs import make_ready

Claimed = Callable[..., Claim]
NewRun = Callable[..., Run]


def settle(db: Database) -> None:
    """Plans until nothing moves."""
    while planning.advance(db, plan):
        pass


def states(db: Database, made: Experiment) -> dict[str, str]:
    return {run.name: run.state for run in runs.of_experiment(db, made.id)}


def ingest_of(db: Database, made: Experiment) -> str:
    return next(run.id for run in runs.of_experiment(db, made.id) if run.stage == "ingest")


@pytest.fixture
def broken(db: Database, offices: str, host: str) -> Experiment:
    """An experiment whose `ingest` failed: what reads it was given up, the class names' embedding waits."""
    planned = build("ablation-b", Request(offices, "s3dis13", ("train", "test"), "demo"))
    made = experiments.create(db, "x", "ablation-b", "demo", {}, planned)
    settle(db)
    first = claims.claim(db, host, 60.0)
    assert first is not None and first.stage == "ingest"
    leases.fail(db, first.token, "dataset_invalid", "no such folder", "room_1")
    settle(db)
    return made


def test_a_failed_run_waits_again_with_those_that_were_given_up(db: Database, host: str, broken: Experiment) -> None:
    before = states(db, broken)
    assert before["ingest"] == "failed" and before["embed_labels"] == "ready"
    assert {before[name] for name in ("extract", "distill", "predict", "evaluate")} == {"cancelled"}
    ingest = runs.of_experiment(db, broken.id)[0]
    again = retries.retry(db, ingest.id)
    assert (again.state, again.reason, again.reason_code, again.scene, again.ended_at) == ("queued",) + (None,) * 4
    assert set(states(db, broken).values()) == {"queued", "ready"}
    settle(db)
    claim = claims.claim(db, host, 60.0)
    assert claim is not None and (claim.run_id, claim.attempt) == (ingest.id, 2)
    said = [event.message for event in events.after(db, ingest.id)]
    assert "retried after attempt 1" in said


def test_a_run_that_was_given_up_names_the_one_to_retry(db: Database, broken: Experiment) -> None:
    found = {run.name: run for run in runs.of_experiment(db, broken.id)}
    with pytest.raises(IllegalMove, match=f"{found['ingest'].id}, which is failed; retry that one, which takes"):
        retries.retry(db, found["extract"].id)
    assert runs.get(db, found["extract"].id).state == "cancelled"


def test_what_somebody_cancelled_stays_so_when_what_it_reads_is_retried(db: Database, broken: Experiment) -> None:
    found = {run.name: run for run in runs.of_experiment(db, broken.id)}
    retries.retry(db, found["ingest"].id)
    runs.request_cancel(db, found["evaluate"].id)
    runs.request_cancel(db, found["ingest"].id)
    settle(db)
    retries.retry(db, found["ingest"].id)
    after = states(db, broken)
    assert after["predict"] == "queued" and after["evaluate"] == "cancelled"


@pytest.mark.parametrize("how", ["queued", "ready", "running", "succeeded", "cached"])
def test_only_what_ended_badly_can_be_retried(db: Database, claimed: Claimed, new_run: NewRun, how: str) -> None:
    if how == "queued":
        run_id = new_run().id
    else:
        claim = claimed()
        run_id = claim.run_id
        if how == "ready":
            leases.release(db, claim.token, "by a test")
            make_ready(db, run_id)
        elif how != "running":
            leases.succeed(db, claim.token, {}, cached=how == "cached")
    assert runs.get(db, run_id).state == how
    before = events.after(db, run_id)
    with pytest.raises(IllegalMove, match=f"is {how}; only runs that failed or were cancelled"):
        retries.retry(db, run_id)
    assert events.after(db, run_id) == before
    with pytest.raises(NotFound):
        retries.retry(db, "r404")


def test_lost_attempts_are_counted_from_the_last_retry(db: Database, host: str, claimed: Claimed) -> None:
    claim = claimed(lease_s=-1.0)
    run_id = claim.run_id

    def lose_until_it_fails() -> int:
        for lost in (1, 2, 3, 4):
            lost_attempts.expire(db, max_attempts=2)
            if runs.get(db, run_id).state == "failed":
                return lost
            make_ready(db, run_id)
            assert claims.claim(db, host, -1.0) is not None
        raise AssertionError("it never failed")

    assert lose_until_it_fails() == 2
    retries.retry(db, run_id)
    make_ready(db, run_id)
    again = claims.claim(db, host, -1.0)
    assert again is not None and again.attempt == 3
    assert lose_until_it_fails() == 2


def test_a_cancelled_run_that_is_retried_is_not_cancelled_again(db: Database, host: str, claimed: Claimed) -> None:
    claim = claimed()
    runs.request_cancel(db, claim.run_id)
    leases.cancelled(db, claim.token)
    retries.retry(db, claim.run_id)
    make_ready(db, claim.run_id)
    again = claims.claim(db, host, 60.0)
    assert again is not None
    assert not leases.beat(db, again.token, lease_s=60.0)


def test_a_retry_says_by_whom(db: Database, claimed: Claimed, new_run: NewRun) -> None:
    claim, never = claimed(), new_run().id
    tried = claim.run_id
    for run_id in (tried, never):
        runs.request_cancel(db, run_id)
    leases.cancelled(db, claim.token)
    for run_id in (tried, never):
        retries.retry(db, run_id, by="ada")
    assert events.after(db, tried)[-1].message == "retried by ada after attempt 1"
    assert events.after(db, never)[-1].message == "retried by ada"


def test_an_experiment_is_retried_whole(db: Database, host: str, broken: Experiment) -> None:
    claim = claims.claim(db, host, 60.0)
    assert claim is not None and claim.stage == "embed_labels"
    leases.succeed(db, claim.token, {}, cached=False)
    again = experiments.retry(db, broken.id)
    assert again.states == {"succeeded": 1, "queued": len(runs.of_experiment(db, broken.id)) - 1}
    with pytest.raises(IllegalMove, match="no run that failed or was cancelled"):
        experiments.retry(db, broken.id)
    scenes = {"scenes": OutputRef(ingest_of(db, broken), "scenes")}
    other = experiments.create(db, "y", None, None, {}, [PlannedRun("again", stages.Extract(), scenes, "offices")])
    runs.request_cancel(db, ingest_of(db, broken))
    settle(db)
    with pytest.raises(IllegalMove, match="which is cancelled; retry that one, which takes"):
        experiments.retry(db, other.id)
    retries.retry(db, ingest_of(db, broken))
    assert states(db, other) == {"again": "queued"}, "a run that was given up waits again, whoever's it is"
    with pytest.raises(NotFound):
        experiments.retry(db, "e404")

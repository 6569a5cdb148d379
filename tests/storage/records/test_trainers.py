"""Runs that their owners run: started, kept alive, logged to, ended, given up."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select

from storage.errors import IllegalMove, LeaseLost, NotFound, RunCancelled, SpecInvalid
from storage.records import claims, events, leases, lost_attempts, metrics, retries, runs, trainers
from storage.records.claims import Claim
from storage.records.database import Database
from storage.records.lost_attempts import TRAINER_SILENT
from storage.records.runs import Run
from storage.records.submissions import Submission, Wishes
from storage.records.tables import AttemptRow
from storage.specs import stages
from storage.specs.outside import External
from storage.specs.plans import OutputRef, PlannedRun
from tests.fixtures.waiting import wait_until

NewRun = Callable[..., Run]
EXTERNAL = External(parameters={"learning_rate": 0.1, "layers": (1, 2), "name": "x", "flag": True})


@pytest.fixture
def started(db: Database) -> Callable[..., Run]:
    """Makes a run that was started as it was submitted."""

    def make(lease_s: float = 600, time_limit_s: float | None = None) -> Run:
        wishes = Wishes(lease_s=lease_s, time_limit_s=time_limit_s)
        (run,) = runs.create(db, [PlannedRun("mine", EXTERNAL)], Submission("ada", {"mine": wishes}))
        return run

    return make


def attempts_of(db: Database, run_id: str) -> list[tuple[int, str, str | None]]:
    query = select(AttemptRow).where(AttemptRow.run_id == run_id).order_by(AttemptRow.number)
    with db.read() as session:
        return [(row.number, row.state, row.reason) for row in session.scalars(query)]


def values_of(db: Database, run_id: str) -> list[tuple[str, int, float | None]]:
    return [(p.name, p.step, p.value) for p in metrics.history(db, run_id, limit=10_000)]


def test_a_run_is_started_logged_to_and_ended(db: Database, new_run: NewRun) -> None:
    run = new_run(EXTERNAL)
    begun = trainers.start(db, run.id, 600)
    assert (begun.state, begun.attempt, begun.started_at is not None) == ("running", 1, True)
    held = trainers.log(db, run.id, 1, [("loss", 0, 1.0), ("loss", 1, float("nan")), ("lr", 0, 0.1)])
    assert 590 < (held.lease_until - db.now()).total_seconds() <= 600
    trainers.beat(db, run.id, 1, {"unit": "epoch", "done": 3.0, "loss": float("inf")})
    assert runs.get(db, run.id).progress == {"unit": "epoch", "done": 3.0, "loss": None}
    assert values_of(db, run.id) == [("loss", 0, 1.0), ("lr", 0, 0.1), ("loss", 1, None)]
    ended = trainers.finish(db, run.id, 1, "succeeded")
    assert (ended.state, ended.reason, ended.outputs) == ("succeeded", None, {})
    assert trainers.finish(db, run.id, 1, "succeeded") == ended, "the same call again changes nothing"
    assert attempts_of(db, run.id) == [(1, "succeeded", None)]
    assert [e.state for e in events.after(db, run.id)] == ["queued", "ready", "running", "succeeded"]
    for call in (lambda: trainers.log(db, run.id, 1, [("loss", 2, 0.0)]), lambda: trainers.beat(db, run.id, None)):
        with pytest.raises(LeaseLost, match="is succeeded"):
            call()
    with pytest.raises(LeaseLost):
        trainers.finish(db, run.id, 1, "failed", "no")
    assert len(values_of(db, run.id)) == 3


def test_a_call_that_is_sent_again_leaves_what_it_wrote(db: Database, started: Callable[..., Run]) -> None:
    run = started()
    points = [("loss", step, step / 7) for step in range(1200)] + [("loss", 3, 99.0)]
    for _ in range(2):
        trainers.log(db, run.id, 1, points)
    found = values_of(db, run.id)
    assert len(found) == 1200 and found[3] == ("loss", 3, 99.0) and found[1199] == ("loss", 1199, 1199 / 7)


def test_a_run_may_be_started_as_it_is_submitted(db: Database, started: Callable[..., Run], host: str) -> None:
    run = started(600)
    assert run == runs.get(db, run.id)
    assert (run.state, run.attempt, run.owner) == ("running", 1, "ada")
    assert run.spec["parameters"] == {"learning_rate": 0.1, "layers": [1, 2], "name": "x", "flag": True}
    assert [(e.kind, e.state, e.attempt) for e in events.after(db, run.id)] == [("state", "running", 1)]
    assert lost_attempts.expire(db, 3) == []
    assert claims.claim(db, host, 60) is None


def test_no_worker_takes_it_and_none_of_a_worker_s_is_started(db: Database, new_run: NewRun, host: str) -> None:
    run, other = new_run(EXTERNAL, priority=9), new_run()
    for one in (run, other):
        with db.write() as session:
            runs.move(session, runs.row_of(session, one.id), "ready", "by a test")
    with pytest.raises(IllegalMove, match="worker hosts run"):
        trainers.start(db, other.id, 60)
    claim = claims.claim(db, host, 60)
    assert claim is not None and claim.run_id == other.id
    assert claims.claim(db, host, 60) is None
    for call in (
        lambda: trainers.log(db, other.id, 1, [("loss", 0, 1.0)]),
        lambda: trainers.beat(db, other.id, 1),
        lambda: trainers.finish(db, other.id, 1, "failed"),
    ):
        with pytest.raises(IllegalMove, match="ingest"):
            call()
    with pytest.raises(IllegalMove, match="cannot become running"):
        trainers.start(db, trainers.start(db, run.id, 60).id, 60)
    with pytest.raises(NotFound):
        trainers.start(db, "r0", 60)


def test_silence_fails_it_and_a_retry_is_another_attempt(db: Database, started: Callable[..., Run]) -> None:
    run = started(0.01)
    wait_until(lambda: lost_attempts.expire(db, 3) == [run.id], 10)
    failed = runs.get(db, run.id)
    assert (failed.state, failed.reason_code) == ("failed", TRAINER_SILENT)
    assert failed.reason is not None and "silent for its lease of 0.01 s" in failed.reason
    assert [state for _, state, _ in attempts_of(db, run.id)] == ["lost"]
    with pytest.raises(LeaseLost, match="failed"):
        trainers.log(db, run.id, 1, [("loss", 0, 1.0)])
    retries.retry(db, run.id)
    assert trainers.start(db, run.id, 600).attempt == 2
    for call in (
        lambda: trainers.log(db, run.id, 1, [("loss", 0, 1.0)]),
        lambda: trainers.finish(db, run.id, 1, "succeeded"),
    ):
        with pytest.raises(LeaseLost, match="got attempt 1"):
            call()
    assert values_of(db, run.id) == []
    trainers.log(db, run.id, 2, [("loss", 0, 2.0)])
    assert trainers.finish(db, run.id, None, "succeeded").state == "succeeded"
    assert [state for _, state, _ in attempts_of(db, run.id)] == ["lost", "succeeded"]


def test_what_is_logged_renews_the_lease_but_not_beyond_the_time_limit(
    db: Database, started: Callable[..., Run]
) -> None:
    run = started(600, time_limit_s=0.01)
    held = trainers.log(db, run.id, 1, [("loss", 0, 1.0)])
    assert run.started_at is not None
    assert (held.lease_until - run.started_at).total_seconds() == pytest.approx(0.01, abs=2e-3)
    wait_until(lambda: lost_attempts.expire(db, 3) == [run.id], 10)
    failed = runs.get(db, run.id)
    assert (failed.state, failed.reason_code) == ("failed", "time_limit")


def test_cancelling_ends_it_at_once_and_tells_its_trainer(db: Database, started: Callable[..., Run]) -> None:
    run = started()
    assert runs.request_cancel(db, run.id).state == "cancelled"
    assert attempts_of(db, run.id) == [(1, "cancelled", None)]
    for call in (lambda: trainers.log(db, run.id, 1, [("loss", 0, 1.0)]), lambda: trainers.beat(db, run.id, 1)):
        with pytest.raises(RunCancelled):
            call()
    assert trainers.finish(db, run.id, 1, "cancelled").state == "cancelled"
    assert lost_attempts.expire(db, 3) == []


def test_it_waits_for_what_it_reads(db: Database, new_run: NewRun, claimed: Callable[..., Claim]) -> None:
    claim = claimed()
    inputs = {"scenes": OutputRef(claim.run_id, "scenes")}
    run = new_run(EXTERNAL, inputs)
    with pytest.raises(IllegalMove, match="waits for its input scenes"):
        trainers.start(db, run.id, 60)
    wishes = {"mine": Wishes(lease_s=60)}
    with pytest.raises(SpecInvalid, match="lease_s"):
        runs.create(db, [PlannedRun("mine", EXTERNAL, inputs)], Submission(wishes=wishes))
    worker = stages.EmbedLabels(label_set="s3dis13")
    with pytest.raises(SpecInvalid, match="worker host"):
        runs.create(db, [PlannedRun("mine", worker)], Submission(wishes=wishes))
    leases.fail(db, claim.token, "c", "m", None)


def test_parameters_are_plain_values() -> None:
    for wrong in ({"x": {"y": 1}}, {"x": float("nan")}, {"x\0": 1}, {"x": "\0"}, {"": 1}):
        with pytest.raises(SpecInvalid):
            stages.parse({"stage": "external", "parameters": wrong})

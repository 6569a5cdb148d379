from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from storage import keys
from storage.errors import LeaseLost
from storage.records import claims, hosts, leases, lost_attempts, runs
from storage.records.claims import Claim
from storage.records.database import Database, now
from storage.records.runs import Run
from storage.records.tables import AttemptRow, RunRow
from storage.settings import Settings
from storage.specs import stages
from tests.fixtures.moving_runs import make_ready

NewRun = Callable[..., Run]
Claimed = Callable[..., Claim]
LABELS = stages.EmbedLabels(label_set="s3dis13")


def test_the_oldest_ready_run_comes_first_unless_another_has_priority(
    db: Database, host: str, ready_run: NewRun
) -> None:
    first, second, urgent = ready_run(), ready_run(), ready_run(priority=5)
    order = [claims.claim(db, host, 60.0) for _ in range(4)]
    assert [claim and claim.run_id for claim in order] == [urgent.id, first.id, second.id, None]


def test_a_host_that_takes_some_stages_leaves_the_others(db: Database, host: str, ready_run: NewRun) -> None:
    ready_run(priority=5)
    labels = ready_run(LABELS)
    some = hosts.register(db, "some", 1, 64, [], stages=("extract", "embed_labels"))
    claim = claims.claim(db, some, 60.0)
    assert claim is not None and claim.run_id == labels.id
    assert claims.claim(db, some, 60.0) is None
    assert claims.claim(db, host, 60.0) is not None


def test_a_claim_opens_an_attempt_under_a_token_of_its_own(db: Database, host: str, ready_run: NewRun) -> None:
    run = ready_run()
    claim = claims.claim(db, host, 60.0)
    assert claim is not None
    assert (claim.run_id, claim.attempt, claim.stage, claim.gpus) == (run.id, 1, "ingest", ())
    assert len(claim.token) == 32
    now = runs.get(db, run.id)
    assert (now.state, now.attempt) == ("running", 1)
    assert now.started_at is not None
    assert claims.living_tokens(db) == {claim.token}
    leases.release(db, claim.token, "the host stops")
    assert claims.living_tokens(db) == frozenset()
    make_ready(db, run.id)
    again = claims.claim(db, host, 60.0)
    assert again is not None
    assert again.attempt == 2
    assert again.token != claim.token


def test_with_gpus_a_stage_that_uses_one_waits_for_a_free_one(db: Database, ready_run: NewRun) -> None:
    host = hosts.register(db, "gpus", 1, 2, [3])
    light = ready_run(LABELS, priority=-1)
    first, second = (heavy_run(db, stages.Specialize()) for _ in range(2))
    one = claims.claim(db, host, 60.0)
    assert one is not None
    assert (one.run_id, one.gpus) == (first, (3,))
    two = claims.claim(db, host, 60.0)
    assert two is not None
    assert (two.run_id, two.gpus) == (light.id, ())
    assert claims.claim(db, host, 60.0) is None
    assert runs.get(db, second).state == "ready"


def heavy_run(db: Database, spec: stages.Specialize) -> str:
    """A ready run without its inputs, which only the claim looks at."""
    with db.write() as session:
        row = RunRow(
            id=keys.new_id("r"), name="specialize", stage=spec.stage, spec=spec.model_dump(mode="json"),
            spec_digest="d", state="ready", priority=0, attempt=0, created_at=now(session), code={}, environment={},
            cancel_requested=False, peak_rss_bytes=0,
        )  # fmt: skip
        session.add(row)
        return row.id


def test_without_gpus_every_stage_runs_on_the_cpu(db: Database, host: str) -> None:
    run_id = heavy_run(db, stages.Specialize())
    claim = claims.claim(db, host, 60.0)
    assert claim is not None
    assert (claim.run_id, claim.gpus) == (run_id, ())


def test_a_host_keeps_the_leases_of_processes_that_have_not_reported_yet(db: Database, claimed: Claimed) -> None:
    starting, reported, over = claimed(lease_s=0.0), claimed(lease_s=0.0), claimed(lease_s=0.0)
    leases.start(db, reported.token, pid=1, host="h", device="cpu", code={}, environment={})
    leases.release(db, over.token, "r")
    claims.keep(db, [starting.token, reported.token, over.token], 60.0, start_s=60.0)
    assert lost_attempts.expire(db, 3) == [reported.run_id]
    assert runs.get(db, starting.run_id).state == "running"


def test_a_process_that_does_not_report_in_time_loses_its_run(db: Database, claimed: Claimed) -> None:
    claim = claimed(lease_s=0.0)
    claims.keep(db, [claim.token], 60.0, start_s=0.0)
    assert lost_attempts.expire(db, 3) == [claim.run_id]


def test_a_process_that_hangs_before_it_reports_is_kept_no_longer_than_it_may_take_to_start(
    db: Database, claimed: Claimed
) -> None:
    short, long = claimed(lease_s=0.0), claimed(lease_s=500.0)
    claims.keep(db, [short.token, long.token], 60.0, start_s=25.0)
    assert held_s(db, short) == 25.0
    assert held_s(db, long) == 500.0, "what it was given with its claim is not taken away"


def test_a_process_that_has_said_that_it_lives_is_kept_by_no_host(db: Database, claimed: Claimed) -> None:
    claim = claimed(lease_s=0.0)
    leases.report(db, claim.token, pid=7, lease_s=-1.0)
    claims.keep(db, [claim.token], 60.0, start_s=60.0)
    assert lost_attempts.expire(db, 3) == [claim.run_id]
    with pytest.raises(LeaseLost):
        leases.report(db, claim.token, pid=7, lease_s=60.0)


def test_no_run_stays_long_with_a_machine_that_died() -> None:
    assert Settings(lease_s=120).lease_s == 120
    with pytest.raises(ValidationError, match="VLGLAB_LEASE_S|lease_s"):
        Settings(lease_s=121)


def held_s(db: Database, claim: Claim) -> float:
    """Seconds from an attempt's claim until its lease lapses."""
    with db.read() as session:
        attempt = session.get(AttemptRow, claim.token)
        assert attempt is not None
        return (attempt.lease_until - attempt.claimed_at).total_seconds()


def test_a_process_that_reports_has_a_whole_lease_from_then_on(db: Database, claimed: Claimed) -> None:
    claim = claimed(lease_s=0.0)
    leases.start(db, claim.token, pid=1, host="h", device="cpu", code={}, environment={}, lease_s=60.0)
    assert lost_attempts.expire(db, 3) == []

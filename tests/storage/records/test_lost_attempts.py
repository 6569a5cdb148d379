from __future__ import annotations

from collections.abc import Callable

import pytest

from storage.errors import LeaseLost
from storage.records import claims, events, leases, lost_attempts, runs
from storage.records.claims import Claim
from storage.records.database import Database
from storage.records.runs import Run
from storage.specs import stages
from tests.fixtures.moving_runs import end, make_ready

NewRun = Callable[..., Run]
Claimed = Callable[..., Claim]
LABELS = stages.EmbedLabels(label_set="s3dis13")


def test_a_lost_run_waits_again_and_fails_after_its_attempts(db: Database, host: str, claimed: Claimed) -> None:
    claim = claimed(lease_s=-1.0)
    for number in (1, 2, 3):
        assert runs.get(db, claim.run_id).attempt == number
        assert lost_attempts.expire(db, max_attempts=3) == [claim.run_id]
        assert lost_attempts.expire(db, max_attempts=3) == []
        run = runs.get(db, claim.run_id)
        if number < 3:
            assert run.state == "queued"
            make_ready(db, run.id)
            assert claims.claim(db, host, -1.0) is not None
    assert (run.state, run.reason_code) == ("failed", "worker_lost")
    assert "3 attempts" in (run.reason or "")


def test_attempts_that_were_given_back_do_not_count_as_lost(db: Database, host: str, claimed: Claimed) -> None:
    claim: Claim | None = claimed()
    for _ in range(5):
        assert claim is not None
        leases.release(db, claim.token, "the host stops")
        make_ready(db, claim.run_id)
        claim = claims.claim(db, host, -1.0)
    assert claim is not None
    lost_attempts.expire(db, max_attempts=2)
    assert runs.get(db, claim.run_id).state == "queued"


def test_a_lost_run_that_somebody_cancelled_is_cancelled(db: Database, claimed: Claimed) -> None:
    claim = claimed(lease_s=-1.0)
    runs.request_cancel(db, claim.run_id)
    lost_attempts.expire(db, max_attempts=3)
    assert runs.get(db, claim.run_id).state == "cancelled"


def test_an_attempt_whose_process_is_gone_is_lost_at_once_and_counts_as_one_that_lapsed(
    db: Database, host: str, claimed: Claimed
) -> None:
    first = claimed(lease_s=3600.0)
    assert lost_attempts.abandon(db, first.token, "its process was ended by SIGKILL", 2)
    assert runs.get(db, first.run_id).state == "queued"
    with pytest.raises(LeaseLost):
        leases.note(db, first.token, "too late")
    make_ready(db, first.run_id)
    second = claims.claim(db, host, 3600.0)
    assert second is not None
    assert lost_attempts.abandon(db, second.token, "its process was ended by SIGKILL", 2)
    run = runs.get(db, first.run_id)
    assert (run.state, run.reason_code) == ("failed", "worker_lost")
    said = [event.message for event in events.after(db, first.run_id)]
    assert "attempt 1 was lost: its process was ended by SIGKILL" in said


@pytest.mark.parametrize("how", ["succeeded", "failed", "cancelled", "released", "unknown"])
def test_an_attempt_that_ended_by_itself_cannot_be_abandoned(db: Database, claimed: Claimed, how: str) -> None:
    claim = claimed()
    if how != "unknown":
        end(db, claim.token, how)
    before = (runs.get(db, claim.run_id), events.after(db, claim.run_id))
    assert not lost_attempts.abandon(db, "0" * 32 if how == "unknown" else claim.token, "gone", 3)
    assert (runs.get(db, claim.run_id), events.after(db, claim.run_id)) == before

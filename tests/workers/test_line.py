"""The line between a run and its records: time limits, as a real attempt meets them in this process."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from storage.records import claims, hosts, policies, runs
from storage.records.claims import Claim
from storage.records.database import Database
from storage.records.submissions import Submission, Wishes
from storage.settings import Settings
from storage.specs import stages
from storage.specs.plans import PlannedRun
from tests.fixtures.moving_runs import make_ready
from workers import run as one_run
from workers.context import Context


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """A run sets its own handler of SIGTERM; the tests' process gets back what it had."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def claimed(db: Database, time_limit_s: float | None) -> Claim:
    wishes = {"text": Wishes(time_limit_s=time_limit_s)}
    planned = PlannedRun("text", stages.EmbedLabels(label_set="s3dis13"))
    made = runs.create(db, [planned], Submission(wishes=wishes))[0]
    make_ready(db, made.id)
    claim = claims.claim(db, hosts.register(db, "here", 1, 1, []), 60.0)
    assert claim is not None
    return claim


def working(monkeypatch: pytest.MonkeyPatch, work: Callable[[Context], None]) -> None:
    """Puts a stage of a test's own in the place of every stage."""
    stage = SimpleNamespace(external_inputs=lambda context: {}, output_keys=one_run.table.computed_keys, run=work)
    monkeypatch.setattr(one_run.table, "load", lambda name: stage)


def busy(context: Context) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        context.check()
        time.sleep(0.01)
    raise AssertionError("nobody stopped it")


def test_an_attempt_that_takes_longer_than_its_limit_fails_and_says_so(
    db: Database, settings: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    working(monkeypatch, busy)
    claim = claimed(db, 0.2)
    config = settings.model_copy(update={"database_url": database_url, "heartbeat_s": 0.05})
    assert one_run.run_once(claim.run_id, claim.token, config) == 1
    run = runs.get(db, claim.run_id)
    assert (run.state, run.reason_code) == ("failed", "time_limit")
    assert run.reason == "it took more than 0.2 s, its time limit"


@pytest.mark.parametrize("limit", [None, 60.0])
def test_a_limit_that_is_not_reached_changes_nothing(
    db: Database, settings: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch, limit: float | None
) -> None:
    def short(context: Context) -> None:
        for _ in range(30):
            context.check()
            time.sleep(0.01)
        raise ValueError("the end of the work")

    working(monkeypatch, short)
    claim = claimed(db, limit)
    config = settings.model_copy(update={"database_url": database_url, "heartbeat_s": 0.05})
    assert one_run.run_once(claim.run_id, claim.token, config) == 1
    assert runs.get(db, claim.run_id).reason == "ValueError: the end of the work"


@pytest.mark.parametrize("quota", [0, 1000, 999])
def test_a_stage_is_refused_room_that_the_quota_has_not(
    db: Database, settings: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch, quota: int
) -> None:
    def asks(context: Context) -> None:
        context.reporter.keep_room({"a": 600, "b": 400})
        raise ValueError("it may go on")

    working(monkeypatch, asks)
    claim = claimed(db, None)
    policies.change(db, "", quota_bytes=quota)
    config = settings.model_copy(update={"database_url": database_url, "heartbeat_s": 0.05})
    assert one_run.run_once(claim.run_id, claim.token, config) == 1
    run = runs.get(db, claim.run_id)
    if quota == 999:
        assert run.reason_code == "quota_exceeded"
        assert str(run.reason).startswith("1,000 more bytes do not fit: 999 of the 999 bytes of the store's quota are")
    else:
        assert run.reason == "ValueError: it may go on"

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from storage.errors import LeaseLost, NotFound
from storage.records import artifacts, claims, evaluations, events, leases, lost_attempts, metrics, runs
from storage.records.artifacts import ArtifactRow
from storage.records.claims import Claim
from storage.records.database import Database
from storage.records.evaluations import EvaluationRow
from storage.records.features import Finding
from storage.records.runs import Run
from storage.specs import stages
from tests.fixtures.listed_runs import list_runs
from tests.fixtures.moving_runs import end, make_ready

NewRun = Callable[..., Run]
Claimed = Callable[..., Claim]
NewArtifact = Callable[..., ArtifactRow]

LABELS = stages.EmbedLabels(label_set="s3dis13")
ROW = ArtifactRow("c" * 32, "scenes", "ingest", "scenes", "", "d", 1, 1, 1)
SCORE = EvaluationRow("ours", "covered", 0.5, 0.6, 10, [])

WRITES: dict[str, dict[str, Any]] = {
    "start": {"pid": 1, "host": "h", "device": "cpu", "code": {}, "environment": {}},
    "report": {"pid": 1, "lease_s": 1.0},
    "beat": {"lease_s": 1.0, "progress": {"unit": "scene"}, "rss_bytes": 1},
    "set_key": {"key": "k"},
    "release": {"reason": "r"},
    "append_metrics": {"points": [("loss", 0, 1.0)]},
    "note": {"message": "m"},
    "keep_room": {"parts": {"p": 1}},
    "record_artifact": {"artifact": ROW},
    "record_evaluations": {"artifact_key": "c" * 32, "rows": [SCORE]},
    "record_finding": {"artifact_key": "c" * 32, "found": Finding(0)},
    "succeed": {"outputs": {}, "cached": False},
    "fail": {"code": "c", "message": "m", "scene": None},
    "cancelled": {},
}
"""Every function of `leases` that writes under a token, with what else it takes."""


def everything(db: Database) -> list[Any]:
    """All that a run's worker could have changed."""
    found: list[Any] = []
    for run in list_runs(db).items:
        found += [run, events.after(db, run.id), metrics.history(db, run.id), evaluations.for_run(db, run.id)]
    return [*found, artifacts.list_artifacts(db).items]


def test_the_table_of_writes_is_whole() -> None:
    public = {n: f for n, f in inspect.getmembers(leases, inspect.isfunction) if f.__module__ == leases.__name__}
    assert {n for n, f in public.items() if "token" in inspect.signature(f).parameters and n[0] != "_"} == set(WRITES)


@pytest.mark.parametrize("how", ["lost", "taken over", "succeeded", "failed", "cancelled", "released", "never"])
def test_a_token_that_no_longer_holds_its_run_writes_nothing(
    db: Database, claimed: Claimed, host: str, how: str
) -> None:
    claim = claimed(lease_s=-1.0 if how in ("lost", "taken over") else 60.0)
    if how in ("lost", "taken over"):
        assert lost_attempts.expire(db, max_attempts=3) == [claim.run_id]
    if how == "taken over":
        make_ready(db, claim.run_id)
        assert claims.claim(db, host, 60.0) is not None
    if how in ("succeeded", "failed", "cancelled", "released"):
        end(db, claim.token, how)
    token = "0" * 32 if how == "never" else claim.token
    before = everything(db)
    for name, arguments in WRITES.items():
        with pytest.raises(LeaseLost):
            getattr(leases, name)(db, token, **arguments)
        assert everything(db) == before, name


def test_what_a_worker_reports_stands_in_the_run(db: Database, claimed: Claimed) -> None:
    claim = claimed()
    code = {"commit": "abc", "dirty": True, "version": "0.1.0"}
    leases.start(db, claim.token, pid=42, host="lab", device="cuda:0", code=code, environment={"python": "3.11"})
    leases.beat(db, claim.token, lease_s=9, progress={"unit": "epoch", "done": 1, "total": 4}, rss_bytes=70)
    run = runs.get(db, claim.run_id)
    assert (run.host, run.device, run.code, run.environment) == ("lab", "cuda:0", code, {"python": "3.11"})
    assert run.progress == {"unit": "epoch", "done": 1, "total": 4}


def test_a_beat_tells_of_a_cancellation_and_keeps_progress_and_the_peak(db: Database, claimed: Claimed) -> None:
    claim = claimed()
    assert leases.beat(db, claim.token, lease_s=9, progress={"unit": "scene"}, rss_bytes=70) is False
    runs.request_cancel(db, claim.run_id)
    assert leases.beat(db, claim.token, lease_s=9, rss_bytes=50) is True
    run = runs.get(db, claim.run_id)
    assert (run.progress, run.peak_rss_bytes) == ({"unit": "scene"}, 70)


def test_a_beat_renews_a_lease_that_nobody_has_ended(db: Database, claimed: Claimed) -> None:
    claim = claimed(lease_s=-1.0)
    leases.beat(db, claim.token, lease_s=60.0)
    assert lost_attempts.expire(db, max_attempts=3) == []
    assert runs.get(db, claim.run_id).state == "running"


def test_a_key_that_another_live_run_has_is_told(db: Database, claimed: Claimed) -> None:
    first, second = claimed(), claimed()
    assert leases.set_key(db, first.token, "k" * 32) is None
    assert leases.set_key(db, second.token, "k" * 32) == first.run_id
    assert leases.set_key(db, first.token, "k" * 32) == second.run_id
    leases.release(db, second.token, "waits for the other")
    assert leases.set_key(db, first.token, "k" * 32) is None
    assert runs.get(db, second.run_id).key == "k" * 32


def test_success_writes_outputs_and_an_artifact_is_recorded_once(
    db: Database, claimed: Claimed, artifact: NewArtifact
) -> None:
    first, second = claimed(), claimed()
    leases.record_artifact(db, first.token, artifact("a" * 32))
    leases.record_artifact(db, second.token, artifact("a" * 32, kind="labels"))
    leases.succeed(db, first.token, {"scenes": "a" * 32}, cached=False)
    leases.succeed(db, second.token, {"scenes": "a" * 32}, cached=True)
    row = artifacts.get(db, "a" * 32)
    assert (row.kind, row.run_id, row.num_points) == ("scenes", first.run_id, 3_000_000_000)
    one, two = runs.get(db, first.run_id), runs.get(db, second.run_id)
    assert (one.state, two.state) == ("succeeded", "cached")
    assert one.outputs == two.outputs == {"scenes": "a" * 32}
    assert one.ended_at is not None


def test_an_output_that_is_not_recorded_cannot_be_given(db: Database, claimed: Claimed) -> None:
    claim = claimed()
    with pytest.raises(NotFound, match="not recorded"):
        leases.succeed(db, claim.token, {"scenes": "f" * 32}, cached=False)
    assert runs.get(db, claim.run_id).state == "running"


def test_failure_keeps_code_reason_and_scene(db: Database, claimed: Claimed) -> None:
    claim = claimed()
    leases.fail(db, claim.token, "frame_invalid", "frame 3 has no pose", "scene0001_00")
    run = runs.get(db, claim.run_id)
    assert (run.state, run.reason_code, run.reason) == ("failed", "frame_invalid", "frame 3 has no pose")
    assert run.scene == "scene0001_00"
    assert "frame 3" in events.after(db, run.id)[-1].message


def test_what_no_database_can_hold_is_written_out(db: Database, claimed: Claimed) -> None:
    claim = claimed()
    leases.beat(db, claim.token, lease_s=60, progress={"unit": "epoch", "loss": float("nan"), "eta_s": float("inf")})
    leases.note(db, claim.token, "half \ud800 and \0")
    leases.fail(db, claim.token, "internal_error", "the file 'a\0b' is odd", None)
    run = runs.get(db, claim.run_id)
    assert run.progress == {"unit": "epoch", "loss": None, "eta_s": None}
    assert run.reason == r"the file 'a\0b' is odd"
    assert events.after(db, run.id)[-2].message == r"half \ud800 and \0"


def test_metrics_are_overwritten_step_by_step_and_may_be_undefined(db: Database, claimed: Claimed) -> None:
    claim = claimed()
    leases.append_metrics(db, claim.token, [("loss", step, 10.0 - step) for step in range(3)])
    leases.append_metrics(
        db, claim.token, [("loss", 2, 1.0), ("loss", 2, 2.0), ("lr", 0, 0.1), ("loss", 3, float("nan"))]
    )
    leases.append_metrics(db, claim.token, [])
    points = [(p.name, p.step, p.value) for p in metrics.history(db, claim.run_id, "loss")]
    assert points == [("loss", 0, 10.0), ("loss", 1, 9.0), ("loss", 2, 2.0), ("loss", 3, None)]
    assert [p.step for p in metrics.history(db, claim.run_id, "loss", limit=2)] == [2, 3]
    assert {p.name for p in metrics.history(db, claim.run_id)} == {"loss", "lr"}


def test_many_metrics_at_once(db: Database, claimed: Claimed) -> None:
    claim = claimed()
    leases.append_metrics(db, claim.token, [("loss", step, step / 7) for step in range(1234)])
    found = metrics.history(db, claim.run_id, "loss", limit=5000)
    assert [p.step for p in found] == list(range(1234))
    assert found[700].value == 100.0

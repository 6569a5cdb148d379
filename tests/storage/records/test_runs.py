from __future__ import annotations

from collections.abc import Callable

import pytest

from storage.errors import IllegalMove, NotFound, SpecInvalid, UnknownName
from storage.records import events, leases, lost_attempts, runs
from storage.records.artifacts import ArtifactRow
from storage.records.claims import Claim
from storage.records.database import Database
from storage.records.runs import Run, RunFilter
from storage.specs import presets, recipes, stages
from storage.specs.plans import ArtifactRef, OutputRef, PlannedRun
from tests.fixtures.listed_runs import list_runs

NewRun = Callable[..., Run]
Claimed = Callable[..., Claim]
NewArtifact = Callable[..., ArtifactRow]

INGEST = stages.Ingest(label_set="s3dis13")


def test_a_plan_becomes_queued_runs_in_its_order(db: Database, offices: str) -> None:
    plan = recipes.build("3dss-vlg", presets.Request(offices, "s3dis13", ("train", "test"), "demo", seed=7))
    made = runs.create(db, plan)
    assert [run.name for run in made] == [planned.name for planned in plan]
    assert [run.id for run in made] == sorted(run.id for run in made)
    assert {run.state for run in made} == {"queued"}
    by_name = {run.name: run for run in made}
    assert by_name["distill"].seed == 7
    assert by_name["predict"].seed is None
    assert by_name["ingest"].dataset == offices
    for run, planned in zip(made, plan, strict=True):
        assert run.spec == planned.spec.model_dump(mode="json")
        assert run.spec_digest == planned.spec.digest()
        assert {port: state["run_id"] for port, state in run.inputs.items()} == {
            port: by_name[ref.run].id for port, ref in planned.inputs.items() if isinstance(ref, OutputRef)
        }
    assert runs.get(db, made[3].id) == made[3]


def test_every_new_run_has_the_event_of_its_submission(db: Database, new_run: NewRun) -> None:
    run = new_run()
    assert [(e.kind, e.state, e.attempt) for e in events.after(db, run.id)] == [("state", "queued", 0)]


def test_an_input_may_be_an_existing_run_or_artifact(
    db: Database, new_run: NewRun, claimed: Claimed, artifact: NewArtifact
) -> None:
    claim = claimed()
    leases.record_artifact(db, claim.token, artifact("a" * 32))
    leases.succeed(db, claim.token, {"scenes": "a" * 32}, cached=False)
    by_key = new_run(stages.Extract(), {"scenes": ArtifactRef("a" * 32)})
    by_run = new_run(stages.Extract(), {"scenes": OutputRef(claim.run_id, "scenes")})
    assert by_key.inputs == {"scenes": {"run_id": None, "output": None, "artifact_key": "a" * 32}}
    assert by_run.inputs == {"scenes": {"run_id": claim.run_id, "output": "scenes", "artifact_key": "a" * 32}}


def test_inputs_that_do_not_exist_are_refused(db: Database, new_run: NewRun, offices: str) -> None:
    with pytest.raises(NotFound, match="no published artifact"):
        new_run(stages.Extract(), {"scenes": ArtifactRef("f" * 32)})
    with pytest.raises(NotFound, match="neither a run of this request"):
        new_run(stages.Extract(), {"scenes": OutputRef("r404", "scenes")})
    ingest = new_run()
    with pytest.raises(SpecInvalid, match="has no output 'pictures'"):
        new_run(stages.Extract(), {"scenes": OutputRef(ingest.id, "pictures")})
    with pytest.raises(SpecInvalid, match="takes scenes, got an artifact of kind ground_truth"):
        new_run(stages.Extract(), {"scenes": OutputRef(ingest.id, "ground_truth")})
    with pytest.raises(UnknownName, match="dataset 'ofices'.*offices"):
        runs.create(db, [PlannedRun("ingest", INGEST, {}, "ofices")])
    assert [run.id for run in list_runs(db).items] == [ingest.id]


def test_an_artifact_of_another_kind_is_refused(db: Database, new_run: NewRun, claimed: Claimed) -> None:
    claim = claimed()
    row = ArtifactRow("b" * 32, "labels", "predict", "labels", claim.run_id, "d", 1, 1, 1)
    leases.record_artifact(db, claim.token, row)
    with pytest.raises(SpecInvalid, match="takes scenes, got an artifact of kind labels"):
        new_run(stages.Extract(), {"scenes": ArtifactRef("b" * 32)})


def test_label_sets_are_compared_with_those_of_runs_and_artifacts_that_exist(
    db: Database, new_run: NewRun, claimed: Claimed
) -> None:
    """A text run of ScanNet's classes waits; rooms of S3DIS's are published; a prediction of labels waits for both."""
    rooms, text = new_run(), new_run(stages.EmbedLabels(label_set="scannet20"))
    claim = claimed(stages.ImportCheckpoint(weights="mink"))
    row = ArtifactRow("a" * 32, "scenes", "ingest", "scenes", claim.run_id, "d", 1, 1, 1, {"label_set": "s3dis13"})
    leases.record_artifact(db, claim.token, row)
    network = OutputRef(claim.run_id, "network")
    words = OutputRef(text.id, "text_embeddings")
    for scenes in (OutputRef(rooms.id, "scenes"), ArtifactRef("a" * 32)):
        inputs = {"scenes": scenes, "network": network, "text_embeddings": words}
        with pytest.raises(SpecInvalid, match="scenes of s3dis13, text_embeddings of scannet20"):
            new_run(stages.Predict(), inputs)
    fitting = new_run(stages.EmbedLabels(label_set="s3dis13"))
    inputs |= {"text_embeddings": OutputRef(fitting.id, "text_embeddings")}
    labels = OutputRef(new_run(stages.Predict(), inputs).id, "labels")
    homes = new_run(stages.Ingest(label_set="scannet20"))
    truth = {"scenes": OutputRef(homes.id, "scenes"), "ground_truth": OutputRef(homes.id, "ground_truth")}
    with pytest.raises(SpecInvalid, match="ground_truth of scannet20, predictions.ours of s3dis13"):
        new_run(stages.Evaluate(), {**truth, "predictions.ours": labels})


def test_a_run_that_failed_gives_nothing_to_wait_for(db: Database, new_run: NewRun, claimed: Claimed) -> None:
    claim = claimed()
    leases.fail(db, claim.token, "dataset_invalid", "no frames", None)
    with pytest.raises(IllegalMove, match="failed and will never give"):
        new_run(stages.Extract(), {"scenes": OutputRef(claim.run_id, "scenes")})


def test_a_cycle_is_refused(db: Database, offices: str) -> None:
    first = PlannedRun("first", stages.Extract(), {"scenes": OutputRef("second", "scenes")}, offices)
    second = PlannedRun("second", INGEST, {}, offices)
    with pytest.raises(SpecInvalid, match="does not come before it"):
        runs.create(db, [first, second])
    with pytest.raises(SpecInvalid, match="does not come before it"):
        runs.create(db, [PlannedRun("own", stages.Extract(), {"scenes": OutputRef("own", "embeddings")}, offices)])
    assert list_runs(db).items == ()


def test_pages_show_every_run_once_newest_first(db: Database, new_run: NewRun) -> None:
    made = [new_run().id for _ in range(7)]
    seen: list[str] = []
    cursor: str | None = None
    sizes = []
    while True:
        page = list_runs(db, cursor=cursor, limit=3)
        seen += [run.id for run in page.items]
        sizes.append(len(page.items))
        if not sizes[1:]:
            new_run()  # a run that arrives while somebody reads moves no page
        if page.next is None:
            break
        cursor = page.next
    assert seen == sorted(made, reverse=True)
    assert sizes == [3, 3, 1]


def test_lists_can_be_narrowed(db: Database, new_run: NewRun, claimed: Claimed) -> None:
    ingest = new_run()
    labels = new_run(stages.EmbedLabels(label_set="s3dis13"))
    running = claimed().run_id

    def ids(only: RunFilter) -> set[str]:
        return {run.id for run in list_runs(db, only).items}

    assert ids(RunFilter(state="running")) == {running}
    assert ids(RunFilter(stage="embed_labels")) == {labels.id}
    assert ids(RunFilter(dataset="offices")) == {ingest.id, running}
    assert ids(RunFilter(state="queued", stage="ingest")) == {ingest.id}
    assert ids(RunFilter(experiment="e404")) == set()


def test_a_waiting_run_is_cancelled_at_once(db: Database, new_run: NewRun, ready_run: NewRun) -> None:
    for run in (new_run(), ready_run()):
        done = runs.request_cancel(db, run.id)
        assert (done.state, done.reason_code) == ("cancelled", "cancelled")
        assert done.ended_at is not None
        assert events.after(db, run.id)[-1].state == "cancelled"
        with pytest.raises(IllegalMove, match="has ended"):
            runs.request_cancel(db, run.id)


def test_a_running_run_is_asked_to_stop_once(db: Database, claimed: Claimed) -> None:
    claim = claimed()
    runs.request_cancel(db, claim.run_id)
    run = runs.request_cancel(db, claim.run_id)
    assert (run.state, run.cancel_requested) == ("running", True)
    assert [e.message for e in events.after(db, claim.run_id) if e.kind == "note"] == ["cancellation requested"]


@pytest.mark.parametrize(("by", "reason"), [("ada", "cancelled by ada"), ("", "somebody cancelled it")])
def test_a_cancelled_run_says_by_whom_however_it_ends(
    db: Database, claimed: Claimed, new_run: NewRun, by: str, reason: str
) -> None:
    def stop(claim: Claim) -> str:
        assert runs.request_cancel(db, claim.run_id, by).reason == reason
        return claim.run_id

    waiting, stopped, given_back, lost = new_run().id, claimed(), claimed(), claimed(lease_s=-1.0)
    ended = [runs.request_cancel(db, waiting, by).id, stop(stopped), stop(given_back), stop(lost)]
    leases.cancelled(db, stopped.token)
    leases.release(db, given_back.token, "its host is stopping")
    lost_attempts.expire(db, max_attempts=3)
    for run_id in ended:
        run = runs.get(db, run_id)
        assert (run.state, run.reason_code, run.reason) == ("cancelled", "cancelled", reason)
    whom = f" by {by}" if by else ""
    assert events.after(db, waiting)[-1].message == f"cancelled{whom} before it ran"
    assert f"cancellation requested{whom}" in [event.message for event in events.after(db, stopped.run_id)]


def test_a_run_that_ends_well_though_somebody_cancelled_it_keeps_no_reason(db: Database, claimed: Claimed) -> None:
    claim = claimed()
    runs.request_cancel(db, claim.run_id, "ada")
    leases.succeed(db, claim.token, {}, cached=False)
    run = runs.get(db, claim.run_id)
    assert (run.state, run.reason) == ("succeeded", None)


def test_a_run_that_is_not_there(db: Database) -> None:
    with pytest.raises(NotFound, match="r404"):
        runs.get(db, "r404")
    with pytest.raises(NotFound, match="r404"):
        runs.request_cancel(db, "r404")


def test_an_illegal_move_changes_nothing(db: Database, new_run: NewRun) -> None:
    run = new_run()
    with pytest.raises(IllegalMove), db.write() as session:
        runs.move(session, runs.row_of(session, run.id), "running", "too early")
    assert runs.get(db, run.id) == run
    assert len(events.after(db, run.id)) == 1

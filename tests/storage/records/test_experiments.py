from __future__ import annotations

from collections.abc import Sequence

import pytest

from storage.errors import IllegalMove, NotFound, SpecInvalid
from storage.records import experiments, runs
from storage.records.database import Database
from storage.records.experiments import Experiment
from storage.records.states import RunState
from storage.specs import presets, recipes, stages
from storage.specs.plans import OutputRef, PlannedRun
from tests.fixtures.listed_runs import list_runs


def submit(db: Database, plan: Sequence[PlannedRun], name: str = "x") -> Experiment:
    return experiments.create(db, name, "3dss-vlg", "demo", {"dataset": "offices"}, plan)


@pytest.fixture
def plan(offices: str) -> Sequence[PlannedRun]:
    return recipes.build("3dss-vlg", presets.Request(offices, "s3dis13", ("train", "test"), "demo"))


def put(db: Database, run_id: str, *states: RunState) -> None:
    """Moves a run through some states."""
    with db.write() as session:
        for state in states:
            runs.move(session, runs.row_of(session, run_id), state, "by a test")


def test_an_experiment_has_its_runs_and_counts_them(db: Database, plan: Sequence[PlannedRun]) -> None:
    made = submit(db, plan)
    assert (made.states, made.state) == ({"queued": 10}, "queued")
    found = runs.of_experiment(db, made.id)
    assert [run.name for run in found] == [planned.name for planned in plan]
    assert {run.experiment_id for run in found} == {made.id}
    put(db, found[0].id, "ready", "running")
    now = experiments.get(db, made.id)
    assert (now.states, now.state) == ({"queued": 9, "running": 1}, "running")
    assert now.request == {"dataset": "offices"}


@pytest.mark.parametrize(
    ("states", "word"),
    [
        ({"succeeded": 2, "cached": 1}, "succeeded"),
        ({"succeeded": 2, "cancelled": 1}, "cancelled"),
        ({"cancelled": 2, "failed": 1}, "failed"),
        ({"failed": 1, "running": 1}, "running"),
        ({"queued": 1, "succeeded": 1}, "running"),
        ({"queued": 3}, "queued"),
    ],
)
def test_its_state_in_one_word(db: Database, plan: Sequence[PlannedRun], states: dict[str, int], word: str) -> None:
    made = submit(db, plan)
    assert Experiment(made.id, "x", None, None, {}, made.created_at, states).state == word


def test_all_its_runs_are_written_or_none(db: Database, offices: str) -> None:
    plan = [
        PlannedRun("ingest", stages.Ingest(label_set="s3dis13"), {}, offices),
        PlannedRun("extract", stages.Extract(), {"scenes": OutputRef("ingest", "ground_truth")}, offices),
    ]
    with pytest.raises(SpecInvalid):
        submit(db, plan)
    assert experiments.list_experiments(db).items == ()
    assert list_runs(db).items == ()


def test_pages_are_newest_first(db: Database, offices: str) -> None:
    plan = [PlannedRun("labels", stages.EmbedLabels(label_set="s3dis13"))]
    made = [submit(db, plan, f"x{n}").id for n in range(5)]
    first = experiments.list_experiments(db, limit=3)
    second = experiments.list_experiments(db, cursor=first.next, limit=3)
    assert [e.id for e in (*first.items, *second.items)] == sorted(made, reverse=True)
    assert second.next is None
    assert {tuple(e.states.items()) for e in first.items} == {(("queued", 1),)}


def test_cancelling_stops_what_waits_and_asks_what_runs(db: Database, plan: Sequence[PlannedRun]) -> None:
    made = submit(db, plan)
    ingest, labels, *_ = runs.of_experiment(db, made.id)
    put(db, ingest.id, "ready", "running")
    put(db, labels.id, "ready", "running", "failed")
    now = experiments.request_cancel(db, made.id)
    assert now.states == {"cancelled": 8, "running": 1, "failed": 1}
    assert runs.get(db, ingest.id).cancel_requested
    put(db, ingest.id, "cancelled")
    with pytest.raises(IllegalMove, match="all its runs have ended"):
        experiments.request_cancel(db, made.id)


def test_cancelling_spares_what_another_experiment_needs(db: Database, plan: Sequence[PlannedRun]) -> None:
    made = submit(db, plan)
    by_name = {run.name: run for run in runs.of_experiment(db, made.id)}
    needs = PlannedRun(
        "predict",
        stages.Predict(),
        {
            "scenes": OutputRef(by_name["ingest"].id, "scenes"),
            "network": OutputRef(by_name["distill"].id, "network"),
            "text_embeddings": OutputRef(by_name["embed_labels"].id, "text_embeddings"),
        },
    )
    other = submit(db, [needs], "y")
    experiments.request_cancel(db, made.id)
    spared = {run.name for run in runs.of_experiment(db, made.id) if run.state == "queued"}
    # distill reads embeddings and the adapter; the adapter reads pseudo labels; those read scenes and text.
    assert spared == {"ingest", "distill", "embed_labels", "extract", "specialize", "pseudo_label"}
    experiments.request_cancel(db, other.id)
    experiments.request_cancel(db, made.id)
    assert experiments.get(db, made.id).states == {"cancelled": 10}


def test_an_experiment_that_is_not_there(db: Database) -> None:
    for call in (experiments.get, experiments.request_cancel):
        with pytest.raises(NotFound, match="e404"):
            call(db, "e404")

"""Artifacts, evaluations, datasets, hosts and events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update

from storage.errors import NameTaken, NotFound, UnknownName
from storage.records import artifacts, claims, datasets, evaluations, events, experiments, hosts, leases, runs
from storage.records.artifacts import ArtifactRow
from storage.records.claims import Claim
from storage.records.database import Database, now
from storage.records.datasets import Dataset
from storage.records.evaluations import EvaluationRow
from storage.records.tables import HostRow
from storage.specs import stages
from storage.specs.plans import PlannedRun
from tests.fixtures.moving_runs import make_ready

Claimed = Callable[..., Claim]
NewArtifact = Callable[..., ArtifactRow]

SCORES = [
    EvaluationRow(
        prediction="ours",
        subset="covered",
        miou=0.5,
        macc=0.75,
        num_points=8,
        classes=[
            {"name": "wall", "iou": 0.5, "accuracy": 1.0, "num_points": 4},
            {"name": "beam", "iou": None, "accuracy": None, "num_points": 0},
        ],
        confusion=[[4, 0], [2, 2]],
    ),
    EvaluationRow("2d_text", "all", None, None, 0, [], None, "no ground truth"),
]


def test_artifacts_are_listed_by_kind_newest_first(db: Database, claimed: Claimed, artifact: NewArtifact) -> None:
    claim = claimed()
    made = [f"{n:032x}" for n in (5, 3, 9, 1)]
    for key in made:
        leases.record_artifact(db, claim.token, artifact(key, kind="embeddings"))
    leases.record_artifact(db, claim.token, artifact("f" * 32, kind="labels"))
    seen: list[str] = []
    cursor = None
    while True:
        page = artifacts.list_artifacts(db, "embeddings", cursor, limit=3)
        seen += [row.key for row in page.items]
        cursor = page.next
        if cursor is None:
            break
    rows = [artifacts.get(db, key) for key in seen]
    assert sorted(seen) == sorted(made)
    assert [(r.created_at, r.key) for r in rows] == sorted([(r.created_at, r.key) for r in rows], reverse=True)  # type: ignore[type-var]
    assert len(artifacts.list_artifacts(db).items) == 5
    assert rows[0].attributes == {"dimension": 4}


def test_only_published_keys_exist(db: Database, claimed: Claimed, artifact: NewArtifact) -> None:
    claim = claimed()
    leases.record_artifact(db, claim.token, artifact("a" * 32))
    asked = ["a" * 32, *(f"{n:032x}" for n in range(1200))]
    assert artifacts.exists(db, asked) == {"a" * 32}
    assert artifacts.exists(db, []) == frozenset()
    with pytest.raises(NotFound):
        artifacts.get(db, "b" * 32)
    with pytest.raises(NotFound, match="cursor"):
        artifacts.list_artifacts(db, cursor="b" * 32)


def test_a_cached_run_shows_the_evaluations_of_its_artifact(db: Database, claimed: Claimed) -> None:
    first, second, third = claimed(), claimed(), claimed()
    row = ArtifactRow("e" * 32, "evaluation", "evaluate", "evaluation", first.run_id, "d", 1, 1, 1)
    leases.record_artifact(db, first.token, row)
    leases.record_evaluations(db, first.token, row.key, SCORES)
    leases.record_evaluations(db, first.token, row.key, SCORES)
    leases.succeed(db, first.token, {"evaluation": row.key}, cached=False)
    leases.succeed(db, second.token, {"evaluation": row.key}, cached=True)
    for run_id in (first.run_id, second.run_id):
        found = evaluations.for_run(db, run_id)
        assert [f.evaluation for f in found] == SCORES
        assert {(f.run_id, f.artifact_key) for f in found} == {(run_id, row.key)}
    assert evaluations.for_run(db, third.run_id) == []


def test_evaluations_need_their_artifact(db: Database, claimed: Claimed) -> None:
    with pytest.raises(NotFound, match="record it first"):
        leases.record_evaluations(db, claimed().token, "e" * 32, SCORES)


def test_an_experiment_shows_the_evaluations_of_its_runs(db: Database, host: str) -> None:
    plan = [PlannedRun(name, stages.EmbedLabels(label_set="s3dis13")) for name in ("one", "two")]
    made = experiments.create(db, "x", None, None, {}, plan)
    other = experiments.create(db, "y", None, None, {}, plan)
    one = runs.of_experiment(db, made.id)[0]
    make_ready(db, one.id)
    claim = claims.claim(db, host, 60.0)
    assert claim is not None
    leases.record_artifact(db, claim.token, ArtifactRow("e" * 32, "evaluation", "evaluate", "x", one.id, "d", 1, 1, 1))
    leases.record_evaluations(db, claim.token, "e" * 32, SCORES)
    leases.succeed(db, claim.token, {"evaluation": "e" * 32}, cached=False)
    assert [f.run_name for f in evaluations.for_experiment(db, made.id)] == ["one", "one"]
    assert evaluations.for_experiment(db, other.id) == []


def test_a_dataset_keeps_its_name(db: Database) -> None:
    offices = Dataset("offices", "synthrooms", "/rooms", "s3dis13", {"seed": 1}, None, ("train", "test"))
    added = datasets.add(db, offices)
    assert added.created_at is not None
    assert datasets.add(db, offices) == added == datasets.get(db, "offices")
    with pytest.raises(NameTaken, match="another dataset is registered as 'offices'"):
        datasets.add(db, Dataset("offices", "rgbd", "/elsewhere", "scannet20"))
    with pytest.raises(UnknownName, match="'offises'.*offices"):
        datasets.get(db, "offises")
    datasets.add(db, Dataset("homes", "rgbd", "/h", "scannet20"))
    assert [d.name for d in datasets.list_datasets(db)] == ["homes", "offices"]
    assert datasets.get(db, "offices").splits == ("train", "test")


def test_registering_again_tells_anew_what_was_found(db: Database) -> None:
    lounge = Dataset("lounge", "rgbd", "/caps/lounge", "scannet20", {"frame_step": 1})
    added = datasets.add(db, lounge)
    both = replace(lounge, splits=("train", "test"))
    assert datasets.add(db, both) == replace(added, splits=("train", "test")) == datasets.get(db, "lounge")
    with pytest.raises(NameTaken):
        datasets.add(db, replace(lounge, path="/elsewhere"))
    assert datasets.get(db, "lounge").splits == ("train", "test"), "who was refused changes nothing"
    assert datasets.add(db, lounge) == added == datasets.get(db, "lounge")


def test_a_host_lives_while_it_beats(db: Database) -> None:
    first = hosts.register(db, "a", 11, 2, [])
    second = hosts.register(db, "b", 12, 1, [0, 1])
    hosts.beat(db, first, 100, 300)
    hosts.beat(db, first, 200, 250)
    found = {h.id: h for h in hosts.list_hosts(db).items}
    assert (found[first].rss_bytes, found[first].peak_rss_bytes) == (200, 300)
    assert found[second].gpus == (0, 1)
    assert [h.alive for h in found.values()] == [True, True]
    hosts.retire(db, first)
    assert {h.id: h.alive for h in hosts.list_hosts(db).items} == {first: False, second: True}
    with db.write() as session:
        session.execute(update(HostRow).values(heartbeat_at=now(session) - timedelta(seconds=hosts.ALIVE_S + 1)))
    assert not any(h.alive for h in hosts.list_hosts(db).items)
    with db.read() as session:
        assert hosts.living(session) == []
    with pytest.raises(NotFound, match="register it first"):
        hosts.beat(db, "h404", 0, 0)


def test_events_are_read_on_from_a_cursor(db: Database, claimed: Claimed) -> None:
    one, two = claimed(), claimed()
    for claim in (one, two, one):
        leases.note(db, claim.token, f"about {claim.run_id}")
    whole = events.after(db)
    assert [e.id for e in whole] == sorted(e.id for e in whole)
    assert events.after(db, cursor=whole[2].id) == whole[3:]
    assert events.after(db, limit=2) == whole[:2]
    mine = events.after(db, one.run_id)
    assert [e.message for e in mine if e.kind == "note"] == [f"about {one.run_id}"] * 2
    assert {e.run_id for e in mine} == {one.run_id}

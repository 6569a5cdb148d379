"""Lineage, comparisons and attempts of runs that a test wires together by hand."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from benchmarks.populate import populate, run_id
from storage.errors import InvalidInput, NotFound
from storage.records import attempts, claims, comparisons, leases, lineage
from storage.records.artifacts import ArtifactRow
from storage.records.claims import Claim
from storage.records.comparisons import differences
from storage.records.database import Database
from storage.records.evaluations import EvaluationRow
from storage.records.runs import Run, row_of
from storage.records.tables import RunInputRow
from storage.specs import stages
from tests.fixtures.moving_runs import make_ready

Claimed = Callable[..., Claim]
NewArtifact = Callable[..., ArtifactRow]
NewRun = Callable[..., Run]


@pytest.fixture
def wire(db: Database) -> Callable[..., None]:
    """Makes a run read another's output, or an artifact by its key."""

    def make(reader: str, port: str, source: str | None = None, key: str | None = None) -> None:
        with db.write() as session:
            output = None if source is None else "out"
            session.add(RunInputRow(run_id=reader, port=port, source_run_id=source, output=output, artifact_key=key))

    return make


@pytest.fixture
def ended(db: Database, claimed: Claimed, artifact: NewArtifact) -> Callable[..., str]:
    """Makes a run that gave an artifact of a key; returns its id."""

    def make(key: str, spec: stages.StageSpec | None = None, cached: bool = False) -> str:
        claim = claimed(spec)
        leases.record_artifact(db, claim.token, artifact(key))
        leases.succeed(db, claim.token, {"out": key}, cached=cached)
        return claim.run_id

    return make


def distances(found: lineage.Lineage) -> dict[str, int]:
    return {run.id: run.distance for run in found.runs}


def test_lineage_goes_up_and_down_by_runs_and_by_artifacts(
    db: Database, new_run: NewRun, ended: Callable[..., str], wire: Callable[..., None]
) -> None:
    """root gave a; middle reads it from root, other by its key; twin gave a too, from the cache; low reads middle."""
    root, middle = ended("a" * 32), ended("b" * 32)
    twin = ended("a" * 32, cached=True)
    other, low, stranger = new_run().id, new_run().id, new_run().id
    wire(middle, "scenes", root, "a" * 32)
    wire(other, "scenes", None, "a" * 32)
    wire(low, "scenes", middle, "b" * 32)
    wire(stranger, "scenes", other)
    of_middle = lineage.of_run(db, middle)
    assert distances(of_middle) == {root: -1, middle: 0, low: 1}
    assert [artifact.key for artifact in of_middle.artifacts] == ["a" * 32, "b" * 32]
    assert of_middle.whole
    links = {(link.source_id, link.run_id, link.artifact_key) for link in of_middle.links}
    assert links == {(root, middle, "a" * 32), (middle, low, "b" * 32)}
    assert distances(lineage.of_run(db, root)) == {root: 0, middle: 1, other: 1, low: 2, stranger: 2}
    assert distances(lineage.of_run(db, twin)) == {twin: 0, middle: 1, other: 1, low: 2, stranger: 2}
    assert distances(lineage.of_run(db, other)) == {root: -1, other: 0, stranger: 1}


def test_lineage_has_bounds_and_says_where_it_was_cut(db: Database, new_run: NewRun, wire: Callable[..., None]) -> None:
    chain = [new_run().id for _ in range(6)]
    for source, reader in pairwise(chain):
        wire(reader, "scenes", source)
    readers = [new_run().id for _ in range(8)]
    for reader in readers:
        wire(reader, "scenes", chain[-1])
    near = lineage.of_run(db, chain[2], depth=2)
    assert distances(near) == {chain[i]: i - 2 for i in range(5)}
    assert not near.whole
    assert lineage.of_run(db, chain[2], depth=4).whole
    few = lineage.of_run(db, chain[-1], limit=7)
    assert len(few.runs) == 8
    assert {run.id for run in few.runs} == {*chain, *sorted(readers)[:2]}
    assert not few.whole
    with pytest.raises(NotFound, match="r404"):
        lineage.of_run(db, "r404")


def test_a_wide_lineage_is_cut_not_read(db: Database, new_run: NewRun, wire: Callable[..., None]) -> None:
    root = new_run().id
    for _ in range(120):
        wire(new_run().id, "scenes", root)
    found = lineage.of_run(db, root, limit=10)
    assert len(found.runs) == 11
    assert not found.whole


def test_differences_are_the_fields_that_are_not_the_same_everywhere() -> None:
    documents: dict[str, dict[str, Any]] = {
        "a": {"rate": 1, "net": {"arch": "x", "width": 3}, "splits": ["train"], "same": None, "flag": 1},
        "b": {"rate": 1, "net": {"arch": "y", "width": 3}, "splits": ["test"], "same": None, "flag": True},
        "c": {"rate": 1, "net": {}, "splits": ["train"], "same": None, "flag": 1},
    }
    assert differences(documents) == {
        "flag": {"a": 1, "b": True, "c": 1},
        "net": {"c": {}},
        "net.arch": {"a": "x", "b": "y"},
        "net.width": {"a": 3, "b": 3},
        "splits": {"a": ["train"], "b": ["test"], "c": ["train"]},
    }


def test_runs_are_compared_by_spec_metrics_and_what_was_scored_of_theirs(
    db: Database, claimed: Claimed, artifact: NewArtifact, ended: Callable[..., str], wire: Callable[..., None]
) -> None:
    """Two trainings; one's prediction was evaluated twice as `ours`, beside a prediction that is not its own."""
    trained, rates = [], (0.1, 0.2)
    for letter, rate in zip("ab", rates, strict=True):
        claim = claimed(stages.EmbedLabels(label_set="s3dis13" if letter == "a" else "scannet20"))
        leases.append_metrics(db, claim.token, [("loss", 0, 1.0), ("loss", 1, rate)])
        leases.record_artifact(db, claim.token, artifact(letter * 32))
        leases.succeed(db, claim.token, {"out": letter * 32}, cached=False)
        trained.append(claim.run_id)
    predicted = ended("c" * 32)
    wire(predicted, "network", trained[0], "a" * 32)
    evaluated = []
    for letter, score in (("d", 0.25), ("e", 0.5)):
        claim = claimed(stages.ImportCheckpoint(weights=letter))
        with db.write() as session:
            row_of(session, claim.run_id).stage = "evaluate"
        wire(claim.run_id, "predictions.ours", predicted, "c" * 32)
        leases.record_artifact(db, claim.token, artifact(letter * 32, kind="evaluation"))
        classes = [{"name": "wall", "iou": score, "accuracy": None, "num_points": 4}]
        rows = [EvaluationRow(name, "all", score, 0.5, 4, classes) for name in ("ours", "2d_text")]
        leases.record_evaluations(db, claim.token, letter * 32, rows)
        leases.succeed(db, claim.token, {"evaluation": letter * 32}, cached=False)
        evaluated.append(claim.run_id)
    found = comparisons.compare(db, [trained[1], trained[0], trained[1]])
    assert [run["id"] for run in found.runs] == [trained[1], trained[0]]
    assert found.spec["label_set"] == {trained[0]: "s3dis13", trained[1]: "scannet20"}
    assert "stage" not in found.spec
    assert found.metrics == {"loss": {trained[0]: 0.1, trained[1]: 0.2}}
    (score_of,) = found.evaluations
    assert (score_of.run_id, score_of.evaluated_by, score_of.prediction) == (trained[0], evaluated[1], "ours")
    assert (score_of.miou, score_of.iou) == (0.5, {"wall": 0.5})
    of_themselves = comparisons.compare(db, evaluated).evaluations
    assert [(one.run_id, one.prediction, one.miou) for one in of_themselves] == [
        (evaluated[0], "ours", 0.25), (evaluated[0], "2d_text", 0.25),
        (evaluated[1], "ours", 0.5), (evaluated[1], "2d_text", 0.5),
    ]  # fmt: skip


def test_how_many_runs_can_be_compared(db: Database) -> None:
    populate(db, 150, 5)
    ids = [run_id(index) for index in range(101)]
    assert len(comparisons.compare(db, ids[:100]).runs) == 100
    for some in (ids, ids[:1], [ids[0]] * 2):
        with pytest.raises(InvalidInput, match="2 to 100"):
            comparisons.compare(db, some)
    with pytest.raises(NotFound, match="r404"):
        comparisons.compare(db, [ids[0], "r404"])


def test_the_attempts_at_a_run(db: Database, claimed: Claimed, host: str) -> None:
    claim = claimed()
    leases.release(db, claim.token, "the host stops")
    make_ready(db, claim.run_id)
    again = claims.claim(db, host, 60)
    assert again is not None
    first, second = attempts.of_run(db, claim.run_id)
    assert (second.number, second.state, second.ended_at) == (2, "running", None)
    assert (first.number, first.state, first.host_id, first.host) == (1, "released", host, "here")
    assert (first.reason, first.ended_at is not None) == ("the host stops", True)
    assert claim.token not in repr(first)
    assert again.token not in repr(second)
    assert attempts.of_run(db, "r404") == []

"""What metrics came to, against the history that they came from."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from storage.records import leases, metrics
from storage.records.artifacts import ArtifactRow
from storage.records.claims import Claim
from storage.records.database import Database
from storage.records.evaluations import EvaluationRow
from storage.records.run_filters import MetricBound, RunFilter
from storage.records.tables import MetricSummaryRow
from tests.fixtures.listed_runs import list_runs

Claimed = Callable[..., Claim]
NewArtifact = Callable[..., ArtifactRow]


def summaries(db: Database, run_id: str) -> dict[str, tuple[int, float | None, float | None, float | None]]:
    with db.read() as session:
        rows = session.query(MetricSummaryRow).filter_by(run_id=run_id)
        return {row.name: (row.step, row.latest, row.lowest, row.highest) for row in rows}


@pytest.mark.parametrize("seed", range(3))
def test_a_summary_is_what_the_history_says(db: Database, claimed: Claimed, seed: int) -> None:
    """Steps come in any order and in any pieces, some values are not finite; no step comes twice."""
    draw = random.Random(seed)
    claim = claimed()
    points = [
        (name, step, draw.choice([draw.uniform(-5, 5), draw.uniform(-5, 5), float("nan"), float("inf")]))
        for name in ("loss", "rate")
        for step in range(15)
    ]
    points.append(("broken", 3, float("nan")))
    draw.shuffle(points)
    while points:
        size = draw.randint(1, 7)
        leases.append_metrics(db, claim.token, points[:size])
        points = points[size:]
    found = summaries(db, claim.run_id)
    assert set(found) == {"loss", "rate", "broken"}
    for name, summary in found.items():
        history = metrics.history(db, claim.run_id, name)
        finite = [point.value for point in history if point.value is not None]
        last = history[-1]
        assert summary == (last.step, last.value, min(finite, default=None), max(finite, default=None))


def test_a_step_that_is_repeated_is_the_latest_and_what_it_replaced_counts_for_the_best(
    db: Database, claimed: Claimed
) -> None:
    claim = claimed()
    leases.append_metrics(db, claim.token, [("loss", 0, 2.0), ("loss", 1, 0.5)])
    leases.append_metrics(db, claim.token, [("loss", 1, 1.5)])
    assert summaries(db, claim.run_id) == {"loss": (1, 1.5, 0.5, 2.0)}


def test_an_evaluation_s_scores_are_metrics_of_the_runs_that_gave_it(
    db: Database, claimed: Claimed, artifact: NewArtifact
) -> None:
    """On all points where there are such scores, else on covered ones; a cached run has its artifact's."""
    rows = [
        EvaluationRow("2d_text", "covered", 0.6, 0.9, 4, []),
        EvaluationRow("2d_text", "all", 0.4, 0.5, 8, []),
        EvaluationRow("ours", "covered", 0.5, 0.7, 4, []),
        EvaluationRow("hidden", "all", None, None, 0, [], None, "no ground truth"),
    ]
    claim = claimed()
    leases.record_artifact(db, claim.token, artifact("a" * 32, kind="evaluation"))
    leases.record_evaluations(db, claim.token, "a" * 32, rows)
    leases.succeed(db, claim.token, {"evaluation": "a" * 32}, cached=False)
    again = claimed()
    leases.succeed(db, again.token, {"evaluation": "a" * 32}, cached=True)
    for run_id in (claim.run_id, again.run_id):
        latest = {name: summary[1] for name, summary in summaries(db, run_id).items()}
        assert latest == {
            "miou": 0.5, "macc": 0.7, "miou.2d_text": 0.4, "macc.2d_text": 0.5, "miou.ours": 0.5, "macc.ours": 0.7,
        }  # fmt: skip
    found = list_runs(db, RunFilter(metrics=(MetricBound.parse("miou.2d_text>30%"),)))
    assert [run.id for run in found.items] == [again.run_id, claim.run_id]

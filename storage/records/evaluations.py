"""Evaluations: how a prediction scored. They belong to an artifact, so a cached run shows those of its artifact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from storage.errors import NotFound
from storage.records.database import Database
from storage.records.tables import ArtifactTableRow, EvaluationTableRow, RunOutputRow, RunRow

Subset = Literal["covered", "all"]
"""`covered`: the points that some view sees; `all`: every point, uncovered ones by their nearest covered one."""


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """The score of one prediction on one set of points. Scores are fractions in 0..1; None where undefined."""

    prediction: str
    subset: Subset
    miou: float | None
    macc: float | None
    num_points: int
    classes: list[dict[str, Any]]
    """{"name", "iou", "accuracy", "num_points"} a class, in label order."""
    confusion: list[list[int]] | None = None
    """Points by truth (rows) and prediction (columns)."""
    note: str | None = None
    """Such as that there is no ground truth."""


@dataclass(frozen=True, slots=True)
class RunEvaluation:
    """An evaluation, and the run and artifact that it comes from."""

    run_id: str
    run_name: str
    artifact_key: str
    evaluation: EvaluationRow


def insert(session: Session, artifact_key: str, rows: Sequence[EvaluationRow]) -> None:
    """Adds the scores of an artifact within a transaction that holds its run; a known artifact's stay.

    Raises:
        NotFound: no artifact of that key is recorded.
    """
    if session.get(ArtifactTableRow, artifact_key) is None:
        raise NotFound(f"there is no artifact {artifact_key!r} that scores could belong to; record it first")
    known = select(EvaluationTableRow.prediction).where(EvaluationTableRow.artifact_key == artifact_key)
    if session.scalars(known.limit(1)).first() is not None:
        return
    for position, row in enumerate(rows):
        session.add(
            EvaluationTableRow(
                artifact_key=artifact_key,
                prediction=row.prediction,
                subset=row.subset,
                position=position,
                miou=row.miou,
                macc=row.macc,
                num_points=row.num_points,
                classes=row.classes,
                confusion=row.confusion,
                note=row.note,
            )
        )


def for_run(db: Database, run_id: str) -> list[RunEvaluation]:
    """The evaluations behind a run's outputs, in the order in which they were recorded."""
    return _read(db, _query().where(RunRow.id == run_id))


def for_experiment(db: Database, experiment_id: str) -> list[RunEvaluation]:
    """The evaluations behind the outputs of an experiment's runs."""
    return _read(db, _query().where(RunRow.experiment_id == experiment_id))


def _query() -> Select[RunRow, EvaluationTableRow]:
    """Runs with the evaluations of the artifacts that they gave."""
    return (
        select(RunRow, EvaluationTableRow)
        .join(RunOutputRow, RunOutputRow.run_id == RunRow.id)
        .join(EvaluationTableRow, EvaluationTableRow.artifact_key == RunOutputRow.artifact_key)
        .order_by(RunRow.id, EvaluationTableRow.position)
    )


def _read(db: Database, query: Select[RunRow, EvaluationTableRow]) -> list[RunEvaluation]:
    """The evaluations that a query finds."""
    with db.read() as session:
        return [
            RunEvaluation(run.id, run.name, row.artifact_key, _evaluation(row)) for run, row in session.execute(query)
        ]


def _evaluation(row: EvaluationTableRow) -> EvaluationRow:
    """The evaluation of a row."""
    subset: Subset = row.subset  # type: ignore[assignment]
    return EvaluationRow(
        prediction=row.prediction,
        subset=subset,
        miou=row.miou,
        macc=row.macc,
        num_points=row.num_points,
        classes=row.classes,
        confusion=row.confusion,
        note=row.note,
    )

"""What each metric of a run has come to: kept up with every append, so that a list needs no history.

`miou` and `macc` are what a run's evaluations say: the best of its predictions, on all points where they were scored
on all; `miou.NAME` and `macc.NAME` are those of one prediction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import case, select
from sqlalchemy.orm import Session

from storage.records.tables import EvaluationTableRow, MetricSummaryRow

_AT_ONCE = 500


def note(session: Session, run_id: str, points: Mapping[tuple[str, int], float | None]) -> None:
    """Takes new points ((name, step) -> value, None where it is not finite) in, within the transaction that adds them.

    The latest value is that of the greatest step. The lowest and the highest are of all that was ever logged: a value
    that a repeated step replaced still counts.
    """
    rows: dict[str, dict[str, Any]] = {}
    for (name, step), value in points.items():
        row = rows.setdefault(
            name, {"run_id": run_id, "name": name, "step": step, "latest": value, "lowest": value, "highest": value}
        )
        if step >= row["step"]:
            row["step"], row["latest"] = step, value
        if value is not None:
            row["lowest"] = value if row["lowest"] is None else min(row["lowest"], value)
            row["highest"] = value if row["highest"] is None else max(row["highest"], value)
    if rows:
        _merge(session, list(rows.values()))


def note_scores(session: Session, run_id: str, artifact_keys: Iterable[str]) -> None:
    """Takes in what a run's artifacts scored, within the transaction that gives them to it."""
    table = EvaluationTableRow
    query = select(table.prediction, table.subset, table.miou, table.macc).where(
        table.artifact_key.in_(list(artifact_keys))
    )
    found = {(prediction, subset): scores for prediction, subset, *scores in session.execute(query)}
    points: dict[tuple[str, int], float | None] = {}
    for prediction in sorted({prediction for prediction, _ in found}):
        scores = found.get((prediction, "all"), found.get((prediction, "covered"), ()))
        for measure, score in zip(("miou", "macc"), scores, strict=False):
            if score is not None:
                points[f"{measure}.{prediction}", 0] = score
                points[measure, 0] = max(score, points.get((measure, 0)) or 0.0)
    note(session, run_id, points)


def _merge(session: Session, rows: list[dict[str, Any]]) -> None:
    """Writes rows, or merges them into those that are there."""
    # Here, for importing both takes as long as all other records together.
    from sqlalchemy.dialects import postgresql, sqlite

    dialect = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    old = MetricSummaryRow
    for first in range(0, len(rows), _AT_ONCE):
        statement = dialect.insert(old).values(rows[first : first + _AT_ONCE])
        new = statement.excluded
        merged = {
            "step": case((new.step >= old.step, new.step), else_=old.step),
            "latest": case((new.step >= old.step, new.latest), else_=old.latest),
            "lowest": case((old.lowest.is_(None) | (new.lowest < old.lowest), new.lowest), else_=old.lowest),
            "highest": case((old.highest.is_(None) | (new.highest > old.highest), new.highest), else_=old.highest),
        }
        session.execute(statement.on_conflict_do_update(index_elements=[old.run_id, old.name], set_=merged))

"""Chosen fields of some runs, read as columns: a list needs no objects that could be changed. Knows the tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute, Session

from storage.records.submissions import NewRun
from storage.records.tables import RunInputRow, RunOutputRow, RunRow, RunTagRow

_PRIVATE = frozenset({"token", "attempts_before_retry"})
COLUMNS: Mapping[str, InstrumentedAttribute[Any]] = {
    name: getattr(RunRow, name) for name in (column.name for column in RunRow.__table__.columns) if name not in _PRIVATE
}
"""Field -> the column that holds it."""

FIELDS = (*COLUMNS, "inputs", "outputs", "tags")
"""Every field that a run shows."""


def read(session: Session, run_ids: Sequence[str], fields: Collection[str] = FIELDS) -> list[dict[str, Any]]:
    """Some fields of some runs, in the order of their ids; the id is always among them.

    Args:
        session: a transaction.
        run_ids: runs that exist.
        fields: some of FIELDS.
    """
    if not run_ids:
        return []
    chosen = ["id", *(name for name in COLUMNS if name in fields and name != "id")]
    query = select(*(COLUMNS[name] for name in chosen)).where(RunRow.id.in_(run_ids))
    found = {row[0]: dict(zip(chosen, row, strict=True)) for row in session.execute(query)}
    for name, of_runs in (("inputs", _inputs), ("outputs", _outputs), ("tags", _tags)):
        if name in fields:
            values = of_runs(session, run_ids)
            for run_id, run in found.items():
                run[name] = values[run_id]
    return [found[run_id] for run_id in run_ids]


def of_new(new: NewRun) -> dict[str, Any]:
    """Every field of a run that was just written."""
    inputs = {
        row["port"]: _source(row["source_run_id"], row["output"], row["artifact_key"])
        for row in sorted(new.inputs, key=lambda row: str(row["port"]))
    }
    return {**{name: new.columns[name] for name in COLUMNS}, "inputs": inputs, "outputs": {}, "tags": new.tags}


def _inputs(session: Session, run_ids: Sequence[str]) -> dict[str, dict[str, dict[str, str | None]]]:
    """Run id -> port -> where the input comes from."""
    table = RunInputRow
    query = select(table.run_id, table.port, table.source_run_id, table.output, table.artifact_key)
    query = query.where(table.run_id.in_(run_ids)).order_by(table.port)
    found: dict[str, dict[str, dict[str, str | None]]] = {run_id: {} for run_id in run_ids}
    for run_id, port, source, output, key in session.execute(query):
        found[run_id][port] = _source(source, output, key)
    return found


def _source(run_id: str | None, output: str | None, artifact_key: str | None) -> dict[str, str | None]:
    """Where an input comes from, and its artifact once it exists."""
    return {"run_id": run_id, "output": output, "artifact_key": artifact_key}


def _outputs(session: Session, run_ids: Sequence[str]) -> dict[str, dict[str, str]]:
    """Run id -> output -> artifact key."""
    table = RunOutputRow
    query = select(table.run_id, table.output, table.artifact_key).where(table.run_id.in_(run_ids))
    found: dict[str, dict[str, str]] = {run_id: {} for run_id in run_ids}
    for run_id, output, key in session.execute(query.order_by(table.output)):
        found[run_id][output] = key
    return found


def _tags(session: Session, run_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Run id -> its tags."""
    query = select(RunTagRow.run_id, RunTagRow.tag).where(RunTagRow.run_id.in_(run_ids)).order_by(RunTagRow.tag)
    found: dict[str, tuple[str, ...]] = dict.fromkeys(run_ids, ())
    for run_id, tag in session.execute(query):
        found[run_id] += (tag,)
    return found

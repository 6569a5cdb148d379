"""Chosen fields of some runs, read as columns: a list needs no objects that could be changed. Knows the tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Select, bindparam, select
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
        run_ids: runs; one that does not exist is left out.
        fields: some of FIELDS.
    """
    if not run_ids:
        return []
    chosen, query = _columns(frozenset(fields))
    rows = session.connection().execute(query, {"ids": run_ids})
    found = {row[0]: dict(zip(chosen, row, strict=True)) for row in rows}
    for name, of_runs in (("inputs", _inputs), ("outputs", _outputs), ("tags", _tags)):
        if name in fields:
            values = of_runs(session, run_ids)
            for run_id, run in found.items():
                run[name] = values[run_id]
    return [found[run_id] for run_id in run_ids if run_id in found]


def of_new(new: NewRun) -> dict[str, Any]:
    """Every field of a run that was just written."""
    inputs = {
        row["port"]: _source(row["source_run_id"], row["output"], row["artifact_key"])
        for row in sorted(new.inputs, key=lambda row: str(row["port"]))
    }
    return {**{name: new.columns[name] for name in COLUMNS}, "inputs": inputs, "outputs": {}, "tags": new.tags}


_IDS: Any = bindparam("ids", expanding=True)


@cache
def _columns(fields: frozenset[str]) -> tuple[tuple[str, ...], Select[Any]]:
    """The columns that are read for some fields, and the statement that reads them.

    Statements here are kept, for SQLAlchemy takes longer to make one than to run it.
    """
    chosen = ("id", *(name for name in COLUMNS if name in fields and name != "id"))
    return chosen, select(*(COLUMNS[name] for name in chosen)).where(RunRow.id.in_(_IDS))


_READ_INPUTS = (
    select(
        RunInputRow.run_id, RunInputRow.port, RunInputRow.source_run_id, RunInputRow.output, RunInputRow.artifact_key
    )
    .where(RunInputRow.run_id.in_(_IDS))
    .order_by(RunInputRow.port)
)
_READ_OUTPUTS = (
    select(RunOutputRow.run_id, RunOutputRow.output, RunOutputRow.artifact_key)
    .where(RunOutputRow.run_id.in_(_IDS))
    .order_by(RunOutputRow.output)
)
_READ_TAGS = select(RunTagRow.run_id, RunTagRow.tag).where(RunTagRow.run_id.in_(_IDS)).order_by(RunTagRow.tag)


def _inputs(session: Session, run_ids: Sequence[str]) -> dict[str, dict[str, dict[str, str | None]]]:
    """Run id -> port -> where the input comes from."""
    found: dict[str, dict[str, dict[str, str | None]]] = {run_id: {} for run_id in run_ids}
    for run_id, port, source, output, key in session.connection().execute(_READ_INPUTS, {"ids": run_ids}):
        found[run_id][port] = _source(source, output, key)
    return found


def _source(run_id: str | None, output: str | None, artifact_key: str | None) -> dict[str, str | None]:
    """Where an input comes from, and its artifact once it exists."""
    return {"run_id": run_id, "output": output, "artifact_key": artifact_key}


def _outputs(session: Session, run_ids: Sequence[str]) -> dict[str, dict[str, str]]:
    """Run id -> output -> artifact key."""
    found: dict[str, dict[str, str]] = {run_id: {} for run_id in run_ids}
    for run_id, output, key in session.connection().execute(_READ_OUTPUTS, {"ids": run_ids}):
        found[run_id][output] = key
    return found


def _tags(session: Session, run_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Run id -> its tags."""
    found: dict[str, tuple[str, ...]] = dict.fromkeys(run_ids, ())
    for run_id, tag in session.connection().execute(_READ_TAGS, {"ids": run_ids}):
        found[run_id] += (tag,)
    return found

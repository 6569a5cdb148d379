"""Chosen fields of some runs, read as columns: a list needs no objects that could be changed. Knows the tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import CompoundSelect, Select, String, bindparam, cast, literal_column, null, select, union_all
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
    connection = session.connection()
    found = {row[0]: dict(zip(chosen, row, strict=True)) for row in connection.execute(query, {"ids": run_ids})}
    if beside := tuple(kind for kind in _BESIDE if kind in fields):
        for run in found.values():
            run.update({kind: () if kind == "tags" else {} for kind in beside})
        for kind, run_id, name, *rest in sorted(connection.execute(_beside(beside), {"ids": run_ids}), key=_by_name):
            run = found[run_id]
            if kind == "tags":
                run["tags"] += (name,)
            elif kind == "inputs":
                run["inputs"][name] = _source(*rest)
            else:
                run["outputs"][name] = rest[-1]
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


_NONE: Any = cast(null(), String)
_BESIDE: Mapping[str, Any] = {
    "inputs": select(
        literal_column("'inputs'").label("kind"),
        RunInputRow.run_id,
        RunInputRow.port.label("name"),
        RunInputRow.source_run_id,
        RunInputRow.output,
        RunInputRow.artifact_key,
    ).where(RunInputRow.run_id.in_(_IDS)),
    "outputs": select(
        literal_column("'outputs'"), RunOutputRow.run_id, RunOutputRow.output, _NONE, _NONE, RunOutputRow.artifact_key
    ).where(RunOutputRow.run_id.in_(_IDS)),
    "tags": select(literal_column("'tags'"), RunTagRow.run_id, RunTagRow.tag, _NONE, _NONE, _NONE).where(
        RunTagRow.run_id.in_(_IDS)
    ),
}
"""Field -> what reads it from a table beside that of the runs: rows of kind, run, name, source, output and artifact."""


@cache
def _beside(kinds: tuple[str, ...]) -> CompoundSelect[Any]:
    """One statement that reads several of them: a round trip, and the cost of a statement, where each had its own."""
    return union_all(*(_BESIDE[kind] for kind in kinds))


def _by_name(row: Sequence[Any]) -> str:
    """What inputs, outputs and tags are sorted by."""
    return str(row[2])


def _source(run_id: str | None, output: str | None, artifact_key: str | None) -> dict[str, str | None]:
    """Where an input comes from, and its artifact once it exists."""
    return {"run_id": run_id, "output": output, "artifact_key": artifact_key}

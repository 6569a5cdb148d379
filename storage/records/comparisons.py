"""Runs side by side: where their specs differ, what their metrics came to, what was scored that was made from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.errors import InvalidInput, NotFound
from storage.records import lineage, run_fields
from storage.records.database import Database
from storage.records.evaluations import Subset
from storage.records.pages import pieces
from storage.records.tables import EvaluationTableRow, MetricSummaryRow, RunOutputRow, RunRow

FEWEST, MOST = 2, 100
"""How many runs can be compared."""
SHOWN = ("name", "stage", "state", "experiment_id", "dataset", "owner", "tags", "created_at", "started_at", "ended_at")
"""What is shown of each run, besides its id."""

_MAX_VALUES = 20_000
_DEPTH, _MAX_READERS = 12, 2000
"""How far evaluations are looked for: steps, and runs."""
_PREDICTION = "predictions."


@dataclass(frozen=True, slots=True)
class ComparedEvaluation:
    """The score of a prediction that one of the runs made, or that was made from what it made."""

    run_id: str
    """The run that is compared."""
    evaluated_by: str
    """The run that evaluated; of several the newest."""
    prediction: str
    subset: Subset
    miou: float | None
    macc: float | None
    iou: Mapping[str, float | None]
    """Class -> IoU."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Some runs side by side. In each mapping by run, those are left out that have no such thing."""

    runs: tuple[dict[str, Any], ...]
    spec: Mapping[str, Mapping[str, Any]]
    """Path of a field that differs -> run id -> value."""
    metrics: Mapping[str, Mapping[str, float | None]]
    """Metric -> run id -> its value at the last step; None where that was not finite."""
    evaluations: tuple[ComparedEvaluation, ...]


def compare(db: Database, run_ids: Sequence[str]) -> Comparison:
    """Compares runs, in the order in which they are named; one named twice stands once.

    Raises:
        InvalidInput: fewer than two runs, or more than a hundred.
        NotFound: there is no such run.
    """
    ids = list(dict.fromkeys(run_ids))
    if not FEWEST <= len(ids) <= MOST:
        raise InvalidInput(f"got {len(ids)} runs to compare, expected {FEWEST} to {MOST} different ones")
    with db.read() as session:
        known = set(session.scalars(select(RunRow.id).where(RunRow.id.in_(ids))))
        if missing := [run_id for run_id in ids if run_id not in known]:
            raise NotFound(f"there is no run {missing[0]!r}; `vlglab runs list` shows those there are")
        runs = run_fields.read(session, ids, (*SHOWN, "spec"))
        spec = differences({run["id"]: run.pop("spec") for run in runs})
        return Comparison(tuple(runs), spec, _metrics(session, ids), tuple(_evaluations(session, ids)))


def differences(documents: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Where documents differ: path -> name -> value; documents without the field are left out of its line.

    Examples:
        >>> differences({"a": {"x": {"y": 1}, "z": [2]}, "b": {"x": {"y": 3}, "z": [2]}, "c": {"z": [2]}})
        {'x.y': {'a': 1, 'b': 3}}
    """
    values: dict[str, dict[str, Any]] = {}
    for name, document in documents.items():
        for path, value in _leaves(document):
            values.setdefault(path, {})[name] = value
    return {
        path: of_each
        for path, of_each in sorted(values.items())
        if len(of_each) < len(documents) or any(not _same(value, of_each) for value in of_each.values())
    }


def _same(value: object, of_each: Mapping[str, object]) -> bool:
    """Whether a value is the first one; 1 and true are not the same."""
    first = next(iter(of_each.values()))
    return type(value) is type(first) and value == first


def _leaves(document: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of all that is no object within a document."""
    for name, value in document.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield path + name, value


def _metrics(session: Session, ids: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Metric -> run id -> its value at the last step."""
    table = MetricSummaryRow
    query = select(table.name, table.run_id, table.latest).where(table.run_id.in_(ids))
    found: dict[str, dict[str, float | None]] = {}
    for name, run_id, latest in session.execute(query.order_by(table.name, table.run_id).limit(_MAX_VALUES)):
        found.setdefault(name, {})[run_id] = latest
    return found


def _evaluations(session: Session, ids: Sequence[str]) -> Iterator[ComparedEvaluation]:
    """What each run's predictions scored, or those that were made from what it made; the newest of each."""
    wanted = _evaluated(session, ids)
    table = EvaluationTableRow
    columns = (table.prediction, table.subset, table.miou, table.macc, table.classes)
    query = (
        select(RunOutputRow.run_id, *columns)
        .join(table, table.artifact_key == RunOutputRow.artifact_key)
        .where(RunOutputRow.run_id.in_(sorted({by for _, _, by in wanted})))
        .order_by(RunOutputRow.run_id, table.position)
    )
    scores: dict[str, list[Any]] = {}
    for by, *score in session.execute(query):
        scores.setdefault(by, []).append(score)
    found: dict[tuple[str, str, str], ComparedEvaluation] = {}
    for run_id, only, by in sorted(wanted, key=lambda one: one[2]):
        for prediction, subset, miou, macc, classes in scores.get(by, []):
            if only in (None, prediction):
                iou = {score["name"]: score["iou"] for score in classes}
                one = ComparedEvaluation(run_id, by, prediction, subset, miou, macc, iou)
                found[run_id, prediction, subset] = one
    yield from sorted(found.values(), key=lambda one: ids.index(one.run_id))


def _evaluated(session: Session, ids: Sequence[str]) -> set[tuple[str, str | None, str]]:
    """(run, prediction or None for all, evaluating run): the newest that was made from it at each port."""
    found = lineage.Found(dict.fromkeys(ids, 0))
    lineage.follow(session, found, ids, up=False, depth=_DEPTH, limit=_MAX_READERS)
    scoring: set[str] = set()
    for some in pieces(found.distances):
        query = select(RunRow.id).where(
            RunRow.id.in_(some), RunRow.stage == "evaluate", RunRow.state.in_(("succeeded", "cached"))
        )
        scoring.update(session.scalars(query))
    readers: dict[str, list[lineage.Link]] = {}
    for link in found.links.values():
        readers.setdefault(link.source_id, []).append(link)
    newest: dict[tuple[str, str | None], str] = {}
    for start in ids:
        if start in scoring:
            newest[start, None] = start
            continue
        seen, todo = {start}, [start]
        while todo:
            for link in readers.get(todo.pop(), []):
                if link.run_id in scoring:
                    is_prediction = link.port.startswith(_PREDICTION)
                    at = (start, link.port.removeprefix(_PREDICTION) if is_prediction else None)
                    newest[at] = max(link.run_id, newest.get(at, ""))
                elif link.run_id not in seen:
                    seen.add(link.run_id)
                    todo.append(link.run_id)
    return {(run_id, prediction, by) for (run_id, prediction), by in newest.items()}

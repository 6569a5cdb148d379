"""Looking at runs: lists, runs side by side, lineage and attempts. Comes before `runs`, whose paths hold any id."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from service import examples, problems
from service.dependencies import TheDatabase
from service.routes.runs import RunId
from service.schemas import (
    Attempt,
    AttemptList,
    Comparison,
    Lineage,
    Run,
    RunPage,
    RunPart,
    RunPartPage,
    RunQuery,
)
from storage.errors import UnknownName
from storage.records import attempts, comparisons, lineage, run_fields, runs
from storage.records.run_filters import MetricBound, RunFilter, RunSort

router = APIRouter(prefix="/runs", tags=["runs"], responses=problems.RESPONSES)

_FIELDS = [name for name in run_fields.FIELDS if name in Run.model_fields]
"""What a list can be asked to show."""

_A_PAGE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {"example": {"items": [examples.RUN], "next": None}}}}
}


@router.get("", summary="List runs", response_model=RunPage | RunPartPage, responses=_A_PAGE)
def list_runs(db: TheDatabase, query: Annotated[RunQuery, Query()]) -> Response:
    """Runs, newest first unless sorted otherwise; each parameter narrows the list.

    A page looks at ten times as many runs as it may hold, at most. Where few of them fit, it holds fewer than `limit`,
    or none, and its `next` leads on all the same: the list has ended where `next` is null.
    """
    bounds = tuple(MetricBound.parse(text) for text in query.metric)
    names = RunFilter.__dataclass_fields__.keys() - {"metrics"}
    only = RunFilter(**{name: getattr(query, name) for name in names}, metrics=bounds)
    fields = _FIELDS if query.fields is None else _fields(query.fields)
    page = runs.list_fields(db, fields, only, query.cursor, query.limit, sort=RunSort.parse(query.sort))
    items = list(page.items)
    model: RunPage | RunPartPage
    if query.fields is None:
        model = RunPage.model_validate({"items": items, "next": page.next})
    else:
        model = RunPartPage(items=[RunPart(**item) for item in items], next=page.next)
    return Response(model.model_dump_json(), media_type="application/json")  # not validated a second time


@router.get("/compare", summary="Compare runs")
def compare_runs(
    db: TheDatabase,
    id: Annotated[  # noqa: A002 - what the parameter is called
        list[str],
        Query(min_length=comparisons.FEWEST, max_length=comparisons.MOST, description="A run; give it again for each."),
    ],
) -> Comparison:
    """2 to 100 runs side by side: where their specs differ, their metrics, and what was scored.

    The evaluations are those of the run itself, or else the newest that were made from what it made.
    """
    return Comparison.model_validate(comparisons.compare(db, id), from_attributes=True)


@router.get("/{run_id}/lineage", summary="Read where a run comes from and what came of it")
def read_lineage(
    run_id: RunId,
    db: TheDatabase,
    depth: Annotated[int, Query(ge=1, le=lineage.MAX_DEPTH, description="Most steps up, and down.")] = 10,
    limit: Annotated[int, Query(ge=1, le=lineage.MAX_RUNS, description="Most runs besides itself.")] = 200,
) -> Lineage:
    """The runs and artifacts that it was made from, those that were made from it, and how they hang together."""
    return Lineage.model_validate(lineage.of_run(db, run_id, depth, limit))


@router.get("/{run_id}/attempts", summary="Read the attempts at a run")
def read_attempts(run_id: RunId, db: TheDatabase) -> AttemptList:
    """Each time that a worker took the run: where, when, and how it ended."""
    runs.get(db, run_id)
    return AttemptList(items=[Attempt.model_validate(one) for one in attempts.of_run(db, run_id)])


def _fields(text: str) -> list[str]:
    """The fields that a request names.

    Raises:
        UnknownName: a run has none of that name.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in _FIELDS:
            raise UnknownName.among("field", name, _FIELDS)
    return names

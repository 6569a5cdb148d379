"""Runs: create, read, cancel; their metrics, logs, events, evaluations and files."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi import Path as PathParameter
from fastapi.concurrency import run_in_threadpool

from service import examples, log_reading, problems
from service.access import TheCaller
from service.dependencies import (
    Anew,
    DryRun,
    IdempotencyKey,
    Limit,
    TheDatabase,
    TheParts,
    TheStore,
    again_or_plan,
    whole,
)
from service.routes import files, plans
from service.schemas import DryRun as Plan
from service.schemas import (
    Evaluation,
    EvaluationPage,
    Event,
    EventPage,
    FilePage,
    Metric,
    MetricChart,
    MetricHistory,
    Run,
    RunRequest,
)
from storage.artifacts.run_files import RunFiles
from storage.errors import InvalidInput, NotFound, VlglabError
from storage.records import charts, evaluations, events, metrics, retries, runs, waits
from storage.records.evaluations import RunEvaluation
from storage.records.submissions import Submission

router = APIRouter(prefix="/runs", tags=["runs"], responses=problems.RESPONSES)

RunId = Annotated[str, PathParameter(description="A run's id.", examples=[examples.RUN["id"]])]


StepBound = Annotated[
    int | None, Query(ge=-(2**53), le=2**53, description="First or last step, included.", examples=[1000])
]


@router.post("", status_code=201, summary="Create one run", response_model=Run, responses=again_or_plan(Run))
def create_run(
    body: RunRequest,
    parts: TheParts,
    caller: TheCaller,
    idempotency_key: IdempotencyKey = None,
    dry_run: DryRun = False,
) -> Response:
    """Validates the spec and its inputs and queues the run; the planner makes it ready when its inputs exist."""
    once = None if dry_run else plans.once(caller, body, idempotency_key)
    try:
        planned = plans.planned_runs([body], parts.settings)
    except VlglabError:
        if once is not None and (known := once.made(parts.db)) is not None:  # it was right when it was made
            return whole(Run.model_validate(runs.get(parts.db, known)))
        raise
    if dry_run:
        return plan_response(plans.foreseen(parts.db, caller, planned))
    submission = Submission(caller.name, plans.wishes(body, planned), once)
    made, is_new = parts.create((planned[0], submission))
    return whole(Run.model_validate(made), 201 if is_new else 200)


def plan_response(found: Plan) -> Response:
    """A dry run's answer, which is not what the route makes otherwise."""
    return Response(found.model_dump_json(), media_type="application/json")


@router.get("/{run_id}", summary="Read a run", response_model=Run)
def read_run(run_id: RunId, db: TheDatabase) -> Response:
    """A run as it stands: state, progress, spec, inputs, outputs, what it waits for, and why it ended as it did."""
    run, waits_for = waits.read(db, run_id)
    found = Run.model_validate(run)
    if waits_for:
        found = found.model_copy(update={"waiting_for": waits_for})
    return whole(found)


@router.post("/{run_id}/cancel", summary="Cancel a run")
def cancel_run(run_id: RunId, db: TheDatabase, caller: TheCaller) -> Run:
    """Cancels a run that waits; asks the worker of a running one to stop. 409: it has ended; 403: it is another's."""
    caller.needs_to_own(runs.get(db, run_id).owner, f"the run {run_id}")
    return Run.model_validate(runs.request_cancel(db, run_id, caller.name))


@router.post("/{run_id}/retry", summary="Retry a run")
def retry_run(run_id: RunId, db: TheDatabase, caller: TheCaller, anew: Anew = False) -> Run:
    """Queues a run that failed or was cancelled again, and with it the runs that were given up because of it.

    The next attempt is of the same run and goes on from its last checkpoint, unless it is to begin anew. 409: it has
    not failed, nor was it cancelled.
    """
    caller.needs_to_own(runs.get(db, run_id).owner, f"the run {run_id}")
    return Run.model_validate(retries.retry(db, run_id, anew=anew, by=caller.name))


@router.get(
    "/{run_id}/metrics",
    summary="Read a run's metrics",
    response_model=MetricHistory | MetricChart,
    responses={200: {"content": {"application/json": {"example": examples.METRIC_CHART}}}},
)
def read_metrics(
    run_id: RunId,
    db: TheDatabase,
    name: Annotated[str | None, Query(description="Only this metric.", examples=["loss"])] = None,
    limit: Annotated[int, Query(ge=1, le=metrics.MAX_POINTS, description="The last so many points.")] = 1000,
    buckets: Annotated[
        int | None,
        Query(ge=1, le=charts.MAX_BUCKETS, description="At most so many buckets a metric, in place of points."),
    ] = None,
    first: StepBound = None,
    last: StepBound = None,
) -> Response:
    """The points of a run's metrics by rising step; with `buckets`, what a chart of so many pixels shows of them.

    A bucket is a range of steps of one width with its first, least, greatest and last value; `limit` counts for points.
    """
    runs.owner_of(db, run_id)
    if buckets is not None:
        made = charts.chart(db, run_id, buckets, name, first=first, last=last)
        return whole(MetricChart.model_validate(made))
    found = metrics.history(db, run_id, name, limit, first=first, last=last)
    return whole(MetricHistory(items=[Metric.model_validate(point) for point in found]))


@router.get(
    "/{run_id}/logs",
    summary="Read a run's log",
    response_class=Response,
    responses={
        200: {
            "description": "Text from `offset` on, at most 1 MiB; X-Next-Offset is the offset to ask from next.",
            "content": {"text/plain": {"schema": {"type": "string"}, "example": examples.LOG}},
            "headers": {"X-Next-Offset": {"schema": {"type": "integer"}, "description": "Bytes."}},
        }
    },
)
async def read_logs(
    run_id: RunId,
    parts: TheParts,
    attempt: Annotated[int | None, Query(ge=1, description="Which attempt; the last one if not given.")] = None,
    offset: Annotated[int, Query(ge=0, le=2**53, description="Bytes of the log to skip.")] = 0,
    tail: Annotated[
        int | None,
        Query(ge=1, le=2**53, description="Only its last so many bytes, from a line's start on; in place of `offset`."),
    ] = None,
) -> Response:
    """What the run's process printed. Empty before it has started. 422: both `offset` and `tail`."""
    if tail is not None and offset:
        raise InvalidInput(f"got offset={offset} and tail={tail}, expected one of them; leave the other out")
    run = await run_in_threadpool(runs.get, parts.db, run_id)
    if attempt is not None and attempt > run.attempt:
        raise NotFound(f"got attempt {attempt} of the run {run_id}, which has had {run.attempt}")
    asked = parts.run_files, run_id, attempt or run.attempt, offset, tail
    if parts.run_files.are_sent:
        async with parts.fetching:
            offset, content = await run_in_threadpool(_piece, *asked)
    else:
        offset, content = await run_in_threadpool(_piece, *asked)
    headers = {"X-Next-Offset": str(offset + len(content))}
    return Response(content, media_type="text/plain; charset=utf-8", headers=headers)


def _piece(files: RunFiles, run_id: str, attempt: int, offset: int, tail: int | None) -> tuple[int, bytes]:
    """Where a piece of a log begins, and its bytes."""
    log = files.open_log(run_id, attempt)
    begin = offset if tail is None else log_reading.tail_start(log, tail)
    return begin, log_reading.read(log, begin)


@router.get("/{run_id}/events", summary="Read a run's events")
def read_events(
    run_id: RunId,
    db: TheDatabase,
    cursor: Annotated[int, Query(ge=0, le=2**53, description="`next` of the reading before; 0 for all.")] = 0,
    limit: Limit = 100,
) -> EventPage:
    """What happened to the run, oldest first, in the order in which it was committed."""
    runs.get(db, run_id)
    found = events.after(db, run_id, cursor, limit)
    following = found[-1].id if found else cursor
    return EventPage(items=[Event.model_validate(event, from_attributes=True) for event in found], next=str(following))


@router.get("/{run_id}/evaluations", summary="Read what a run's predictions scored")
def read_evaluations(run_id: RunId, db: TheDatabase) -> EvaluationPage:
    """The evaluations behind the run's outputs; a cached run shows those of its artifact."""
    runs.get(db, run_id)
    return EvaluationPage(items=[evaluation(found) for found in evaluations.for_run(db, run_id)])


@router.get("/{run_id}/files", summary="List the plain files that a run wrote")
def list_files(run_id: RunId, db: TheDatabase, store: TheStore) -> FilePage:
    """Pictures, point clouds and checkpoints among the run's outputs, with their addresses."""
    run = runs.get(db, run_id)
    return FilePage(items=[file for key in run.outputs.values() for file in files.files_of(store, key)])


def evaluation(found: RunEvaluation) -> Evaluation:
    """An evaluation as it is answered."""
    score = found.evaluation
    return Evaluation.model_validate(
        {
            "run_id": found.run_id,
            "run_name": found.run_name,
            "artifact_key": found.artifact_key,
            **{name: getattr(score, name) for name in score.__slots__},
        }
    )

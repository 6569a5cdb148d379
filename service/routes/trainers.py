"""Runs of stage `external`, which their owners run: started, kept alive, logged to and ended over HTTP."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Response

from service import examples, problems
from service.access import Caller, TheCaller
from service.dependencies import TheDatabase, whole
from service.routes.runs import RunId
from service.schemas import BeatRequest, FinishRequest, Held, MetricBatch, Run, StartRequest
from storage.records import runs, trainers
from storage.records.database import Database

router = APIRouter(prefix="/runs/{run_id}", tags=["external runs"], responses=problems.RESPONSES)

Batch = Annotated[
    MetricBatch,
    Body(
        openapi_examples={
            "table": {"summary": "Steps and names", "value": examples.METRIC_BATCH},
            "series": {"summary": "A series a name", "value": examples.METRIC_BATCH_OF_SERIES},
            "points": {"summary": "One by one", "value": examples.METRIC_BATCH_OF_POINTS},
        }
    ),
]


@router.post("/start", summary="Start an external run")
def start(run_id: RunId, body: StartRequest, db: TheDatabase, caller: TheCaller) -> Run:
    """Makes a run of stage `external` whose inputs exist `running`, as its next attempt, and gives its number.

    Its trainer has to log metrics or beat before `lease_s` are over, each time: else it fails as `trainer_silent`.
    409: it runs, has ended, waits for an input, or is a worker's.
    """
    _own(db, caller, run_id)
    return Run.model_validate(trainers.start(db, run_id, body.lease_s))


@router.post("/beat", summary="Show that an external run lives")
def beat(run_id: RunId, body: BeatRequest, db: TheDatabase, caller: TheCaller) -> Held:
    """Renews the lease and records progress. 409: the run was cancelled, has ended, or goes on as another attempt."""
    _own(db, caller, run_id)
    progress = None if body.progress is None else body.progress.model_dump(mode="json", exclude_none=True)
    return Held.model_validate(trainers.beat(db, run_id, body.attempt, progress), from_attributes=True)


@router.post("/metrics", summary="Log metrics of an external run", response_model=Held)
def log(run_id: RunId, body: Batch, db: TheDatabase, caller: TheCaller) -> Response:
    """Records values of metrics and renews the lease; at most 50,000 points a call.

    A value of a name and step that is known is overwritten, so that a call may be sent again. 409: the run was
    cancelled, has ended, or goes on as another attempt.
    """
    _own(db, caller, run_id)
    return whole(Held.model_validate(trainers.log(db, run_id, body.attempt, body.rows())))


@router.post("/finish", summary="End an external run")
def finish(run_id: RunId, body: FinishRequest, db: TheDatabase, caller: TheCaller) -> Run:
    """Ends a run as its trainer says. Sent again, it finds the run so; 409: it has ended otherwise."""
    _own(db, caller, run_id)
    return Run.model_validate(trainers.finish(db, run_id, body.attempt, body.state, body.reason))


def _own(db: Database, caller: Caller, run_id: str) -> None:
    """Refuses whoever may not act on a run; an admin may act on all, and is spared the reading."""
    if caller.role != "admin":
        caller.needs_to_own(runs.owner_of(db, run_id), f"the run {run_id}")

"""Experiments: submit a recipe or runs given one by one, list, read, cancel, compare."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query, Response
from fastapi import Path as PathParameter

from service import examples, problems
from service.access import TheCaller
from service.dependencies import Anew, DryRun, IdempotencyKey, TheDatabase, TheSettings, again_or_plan, whole
from service.routes import plans
from service.routes import runs as run_routes
from service.schemas import (
    AnyExperimentRequest,
    EvaluationPage,
    Experiment,
    ExperimentDetail,
    ExperimentPage,
    ExperimentQuery,
    ExperimentRequest,
    Run,
    RunListRequest,
)
from storage.records import datasets, evaluations, experiments, runs
from storage.records.database import Database
from storage.records.experiments import Experiment as Record
from storage.records.submissions import Submission
from storage.settings import Settings
from storage.specs.plans import PlannedRun

router = APIRouter(prefix="/experiments", tags=["experiments"], responses=problems.RESPONSES)

ExperimentId = Annotated[str, PathParameter(description="An experiment's id.", examples=[examples.EXPERIMENT["id"]])]
ExperimentBody = Annotated[
    AnyExperimentRequest,
    Body(
        openapi_examples={
            "recipe": {"summary": "A recipe on a dataset", "value": examples.EXPERIMENT_REQUEST},
            "runs": {"summary": "Runs given one by one", "value": examples.RUN_LIST_REQUEST},
        }
    ),
]


@router.post(
    "",
    status_code=201,
    summary="Submit an experiment",
    response_model=ExperimentDetail,
    responses=again_or_plan(ExperimentDetail),
)
def submit(
    body: ExperimentBody,
    db: TheDatabase,
    settings: TheSettings,
    caller: TheCaller,
    idempotency_key: IdempotencyKey = None,
    dry_run: DryRun = False,
) -> Response:
    """Queues all its runs, or none: either a recipe on a dataset, or runs given one by one."""
    if dry_run:
        return run_routes.plan_response(plans.foreseen(db, caller, _planned(db, settings, body)))
    once = plans.once(caller, body, idempotency_key)
    if once is not None and (known := once.made(db)) is not None:
        return whole(_detail(db, experiments.get(db, known)))
    request = body.model_dump(mode="json", exclude_unset=True)
    if isinstance(body, ExperimentRequest):
        name, recipe, preset = body.name or f"{body.recipe} on {body.dataset}", body.recipe, body.preset
    else:
        name, recipe, preset = body.name, None, None
    planned = _planned(db, settings, body)
    submission = Submission(caller.name, plans.wishes(body, planned), once)
    made = experiments.create(db, name, recipe, preset, request, planned, submission)
    return whole(_detail(db, made), 201 if made.is_new else 200)


def _planned(db: Database, settings: Settings, body: ExperimentRequest | RunListRequest) -> list[PlannedRun]:
    """The plan of an experiment."""
    if isinstance(body, ExperimentRequest):
        return plans.recipe_runs(body, datasets.get(db, body.dataset))
    return plans.planned_runs(body.runs, settings)


@router.get("", summary="List experiments")
def list_experiments(db: TheDatabase, query: Annotated[ExperimentQuery, Query()]) -> ExperimentPage:
    """Experiments, newest first unless sorted otherwise, with how many of their runs are in each state.

    Where few fit, a page may hold fewer than `limit`; the list has ended where `next` is null.
    """
    chosen = query.model_dump(include={"owner", "recipe", "text", "created_after", "created_before"})
    only = experiments.ExperimentFilter(**chosen, oldest_first=query.sort == "oldest")
    page = experiments.list_experiments(db, query.cursor, query.limit, only)
    return ExperimentPage(items=[Experiment(**_fields(record)) for record in page.items], next=page.next)


@router.get("/{experiment_id}", summary="Read an experiment")
def read_experiment(experiment_id: ExperimentId, db: TheDatabase) -> ExperimentDetail:
    """An experiment with its runs, in the order of its plan."""
    return _detail(db, experiments.get(db, experiment_id))


@router.post("/{experiment_id}/cancel", summary="Cancel an experiment")
def cancel(experiment_id: ExperimentId, db: TheDatabase, caller: TheCaller) -> ExperimentDetail:
    """Cancels its runs that have not ended, but for those that another experiment's living runs need."""
    caller.needs_to_own(experiments.get(db, experiment_id).owner, f"the experiment {experiment_id}")
    return _detail(db, experiments.request_cancel(db, experiment_id, caller.name))


@router.post("/{experiment_id}/retry", summary="Retry an experiment")
def retry(experiment_id: ExperimentId, db: TheDatabase, caller: TheCaller, anew: Anew = False) -> ExperimentDetail:
    """Queues its runs that failed or were cancelled again; what has succeeded stays as it is."""
    caller.needs_to_own(experiments.get(db, experiment_id).owner, f"the experiment {experiment_id}")
    return _detail(db, experiments.retry(db, experiment_id, anew=anew, by=caller.name))


@router.get("/{experiment_id}/evaluations", summary="Read what an experiment's predictions scored")
def read_evaluations(experiment_id: ExperimentId, db: TheDatabase) -> EvaluationPage:
    """The evaluations behind the outputs of all its runs."""
    experiments.get(db, experiment_id)
    found = evaluations.for_experiment(db, experiment_id)
    return EvaluationPage(items=[run_routes.evaluation(one) for one in found])


def _detail(db: Database, record: Record) -> ExperimentDetail:
    """An experiment with its runs."""
    found = [Run.model_validate(run) for run in runs.of_experiment(db, record.id)]
    return ExperimentDetail(**_fields(record), runs=found)


def _fields(record: Record) -> dict[str, object]:
    """The fields of an experiment as they are answered."""
    return {
        "id": record.id,
        "name": record.name,
        "recipe": record.recipe or "",
        "preset": record.preset or "",
        "dataset": record.request.get("dataset", ""),
        "request": record.request,
        "state": record.state,
        "states": record.states,
        "created_at": record.created_at,
        "owner": record.owner,
    }

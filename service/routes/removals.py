"""Deleting runs and experiments, with the artifacts that nothing else uses."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Query

from service import problems
from service.access import TheCaller
from service.dependencies import TheDatabase, TheRunFiles, TheStore
from service.routes.experiments import ExperimentId
from service.routes.runs import RunId
from service.schemas import KeptArtifact, Removal, RemovedArtifact
from storage.records import experiments, runs
from storage.records.removals import Removal as Record
from storage.records.removals import Remover, is_begun

router = APIRouter(responses=problems.RESPONSES)

DryRun = Annotated[bool, Query(description="Only tell what would be deleted and what would stay.")]


@router.delete("/runs/{run_id}", tags=["runs"], summary="Delete a run")
def delete_run(
    run_id: RunId, db: TheDatabase, store: TheStore, files: TheRunFiles, caller: TheCaller, after: BackgroundTasks,
    dry_run: DryRun = False,
) -> Removal:  # fmt: skip
    """Deletes a run that has ended, and the artifacts that no other run gives or reads; says what stays and why.

    409: it has not ended, or another run waits for it. 403: it is somebody else's. Where a deletion was cut short, the
    same request ends it.
    """
    if not is_begun(db, "run", run_id):
        caller.needs_to_own(runs.get(db, run_id).owner, f"the run {run_id}")
    done = Remover(db, store, files).run(run_id, dry_run=dry_run)
    if not dry_run:
        after.add_task(store.clear)
    return _answer(done, dry_run)


@router.delete("/experiments/{experiment_id}", tags=["experiments"], summary="Delete an experiment")
def delete_experiment(
    experiment_id: ExperimentId, db: TheDatabase, store: TheStore, files: TheRunFiles, caller: TheCaller,
    after: BackgroundTasks, dry_run: DryRun = False,
) -> Removal:  # fmt: skip
    """Deletes an experiment with all its runs, which must have ended; the rest as for one run."""
    if not is_begun(db, "experiment", experiment_id):
        caller.needs_to_own(experiments.get(db, experiment_id).owner, f"the experiment {experiment_id}")
    done = Remover(db, store, files).experiment(experiment_id, dry_run=dry_run)
    if not dry_run:
        after.add_task(store.clear)
    return _answer(done, dry_run)


def _answer(done: Record, dry_run: bool) -> Removal:
    """What was deleted as it is answered."""
    return Removal(
        dry_run=dry_run,
        experiment=done.experiment,
        runs=list(done.runs),
        removed=[RemovedArtifact.model_validate(one) for one in done.removed],
        kept=[KeptArtifact.model_validate(one) for one in done.kept],
        num_bytes=sum(one.num_bytes for one in done.removed),
    )

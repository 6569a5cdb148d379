"""Deleting runs and experiments, with the artifacts that nothing else uses, and artifacts that no run is left of."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from service import problems
from service.access import TheCaller
from service.dependencies import ClearAfter, TheDatabase, TheRunFiles, TheStore
from service.routes.experiments import ExperimentId
from service.routes.features import Key
from service.routes.runs import RunId
from service.schemas import KeptArtifact, Removal, RemovedArtifact
from storage.records import artifact_removals, artifacts, experiments, runs
from storage.records.removals import Removal as Record
from storage.records.removals import Remover, is_begun

router = APIRouter(responses=problems.RESPONSES)

DryRun = Annotated[bool, Query(description="Only tell what would be deleted and what would stay.")]
AtOnce = Annotated[
    bool,
    Query(description="Take the artifacts out of the store now, and not after the grace period of the store's policy."),
]


@router.delete("/runs/{run_id}", tags=["runs"], summary="Delete a run")
def delete_run(
    run_id: RunId, db: TheDatabase, store: TheStore, files: TheRunFiles, caller: TheCaller, clear_after: ClearAfter,
    dry_run: DryRun = False, at_once: AtOnce = False,
) -> Removal:  # fmt: skip
    """Deletes a run that has ended, and the artifacts that no other run gives or reads; says what stays and why.

    The artifacts are marked, and go when the store's grace period is over, unless somebody uses them before.

    409: it has not ended, or another run waits for it. 403: it is somebody else's. Where a deletion was cut short, the
    same request ends it.
    """
    if not is_begun(db, "run", run_id):
        caller.needs_to_own(runs.get(db, run_id).owner, f"the run {run_id}")
    done = Remover(db, store, files).run(run_id, at_once=at_once, dry_run=dry_run)
    if not dry_run:
        clear_after()
    return _answer(done, dry_run)


@router.delete("/experiments/{experiment_id}", tags=["experiments"], summary="Delete an experiment")
def delete_experiment(
    experiment_id: ExperimentId, db: TheDatabase, store: TheStore, files: TheRunFiles, caller: TheCaller,
    clear_after: ClearAfter, dry_run: DryRun = False, at_once: AtOnce = False,
) -> Removal:  # fmt: skip
    """Deletes an experiment with all its runs, which must have ended; the rest as for one run."""
    if not is_begun(db, "experiment", experiment_id):
        caller.needs_to_own(experiments.get(db, experiment_id).owner, f"the experiment {experiment_id}")
    done = Remover(db, store, files).experiment(experiment_id, at_once=at_once, dry_run=dry_run)
    if not dry_run:
        clear_after()
    return _answer(done, dry_run)


@router.delete("/artifacts/{key}", tags=["artifacts"], summary="Delete an artifact")
def delete_artifact(
    key: Key, db: TheDatabase, store: TheStore, caller: TheCaller, clear_after: ClearAfter, dry_run: DryRun = False,
    at_once: AtOnce = False,
) -> Removal:  # fmt: skip
    """Deletes an artifact that no run is left of; it goes as those of a deleted run do.

    409: a run gives or reads it, somebody has pinned it or reads it under a lease, or another artifact was made from
    it. 403: somebody else published it; where nobody is known to have, it is for admins.
    """
    if not is_begun(db, "artifact", key):
        caller.needs_to_own(artifacts.owner_of(db, key), f"the artifact {key}")
    done = artifact_removals.delete(db, store, key, caller.name, at_once=at_once, dry_run=dry_run)
    if not dry_run:
        clear_after()
    return _answer(done, dry_run)


def _answer(done: Record, dry_run: bool) -> Removal:
    """What was deleted as it is answered."""
    return Removal(
        dry_run=dry_run,
        experiment=done.experiment,
        runs=list(done.runs),
        removed=[RemovedArtifact.model_validate(one) for one in done.removed],
        kept=[KeptArtifact.model_validate(one) for one in done.kept],
        due_at=done.due_at,
        num_bytes=sum(one.num_bytes for one in done.removed),
    )

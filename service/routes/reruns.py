"""Re-running: a new run from an old one, with changes."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter, Response

from service import problems
from service.access import TheCaller
from service.dependencies import IdempotencyKey, TheDatabase, TheSettings, again
from service.routes import plans
from service.routes.runs import RunId
from service.schemas import RerunRequest, Run
from storage.records import reruns, runs
from storage.records.submissions import Submission, Wishes

router = APIRouter(prefix="/runs", tags=["runs"], responses=problems.RESPONSES)


@router.post("/{run_id}/rerun", status_code=201, summary="Run a run again with changes", responses=again(Run))
def rerun(
    run_id: RunId,
    body: RerunRequest,
    response: Response,
    db: TheDatabase,
    settings: TheSettings,
    caller: TheCaller,
    idempotency_key: IdempotencyKey = None,
) -> Run:
    """Queues a new run of the old one's spec with changes, on the same inputs; it says what it is a re-run of.

    Anybody who may submit may run anybody's runs again: the new run is the caller's, and of no experiment.
    """
    once = plans.once(caller, body, idempotency_key, of=run_id)
    if once is not None and (known := once.made(db)) is not None:
        response.status_code = 200
        return Run.model_validate(runs.get(db, known))
    old = runs.get(db, run_id)
    planned = reruns.planned_from(old, body.changes, body.name)
    plans.check([planned], settings)
    wishes = {planned.name: _wishes(reruns.wishes_of(old), body)}
    made, is_new = reruns.create(db, run_id, planned, Submission(caller.name, wishes, once))
    response.status_code = 201 if is_new else 200
    return Run.model_validate(made)


def _wishes(before: Wishes, body: RerunRequest) -> Wishes:
    """What is wanted of the new run: what the request says, else what was wanted of the old one."""
    said = {name: getattr(body, name) for name in body.model_fields_set & set(Wishes.__dataclass_fields__)}
    if "tags" in said:
        said["tags"] = tuple(said["tags"] or ())
    for name, nothing in (("priority", 0), ("notes", "")):
        if name in said and said[name] is None:
            said[name] = nothing
    return replace(before, **said)

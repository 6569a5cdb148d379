"""Re-running: a new run of an old one's spec with changes, on the same inputs. Knows the tables and the specs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from storage.errors import IllegalMove
from storage.records.database import Database
from storage.records.idempotency import remember
from storage.records.runs import Run, read_row, row_of
from storage.records.submissions import Submission, Wishes, insert
from storage.specs import changes
from storage.specs.plans import ArtifactRef, InputRef, OutputRef, PlannedRun


def planned_from(run: Run, changed: Mapping[str, Any], name: str | None = None) -> PlannedRun:
    """The plan of a run like another, with changes of its spec.

    Args:
        run: the old run.
        changed: dotted path of a field of its spec -> value.
        name: the new run's name; None takes the old one's.

    Raises:
        SpecInvalid: a field that its stage does not have, or a value out of range.
        UnknownName: its stage is one that no worker runs.
        IllegalMove: an input of it was deleted.
    """
    inputs: dict[str, InputRef] = {}
    for port, state in run.inputs.items():
        if state["run_id"] is not None and state["output"] is not None:
            inputs[port] = OutputRef(state["run_id"], state["output"])
        elif state["artifact_key"] is not None:
            inputs[port] = ArtifactRef(state["artifact_key"])
        else:
            raise IllegalMove(f"the run {run.id} has no input {port!r} any more: the run that gave it was deleted")
    return PlannedRun(name or run.name, changes.applied(run.spec, changed), inputs, run.dataset)


def wishes_of(run: Run) -> Wishes:
    """What was wanted of a run."""
    return Wishes(run.priority, run.tags, run.notes, run.time_limit_s, run.gpus, run.memory_gb)


def create(db: Database, old: str, planned: PlannedRun, submission: Submission) -> tuple[Run, bool]:
    """Writes the new run, with its lineage; or finds the one that the same request made before. True where it is new.

    Raises:
        SpecInvalid, UnknownName, NotFound, IllegalMove: as `runs.create`; NotFound where the old run is gone.
        KeyReused: the submission's key was used for another request.
    """
    once = submission.once
    with db.write() as session:
        if once is not None and (made := once.made_before(session)) is not None:
            return read_row(row_of(session, made)), False
        row_of(session, old)
        (new,) = insert(session, [planned], None, submission)
        row = row_of(session, new.id)
        row.rerun_of = old
        if once is not None:
            remember(session, [(once, row.id)])
        return read_row(row), True

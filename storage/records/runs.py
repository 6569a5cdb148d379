"""Runs: reading them, and `move`, the one function that changes a run's state and writes its event.

Knows the tables and states; neither stages nor how a run is planned (`planning`) or held by a worker (`leases`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict

from sqlalchemy import Select, select, update
from sqlalchemy.orm import Session

from storage.errors import IllegalMove, NotFound
from storage.records import deliveries, metric_summaries, run_fields, run_filters, walks
from storage.records.database import Database, now
from storage.records.pages import Page, clamp, pieces
from storage.records.run_filters import RunFilter, RunSort
from storage.records.states import FINAL, LIVE, RunState, check_move, check_retry
from storage.records.submissions import Submission, insert
from storage.records.tables import AttemptRow, EventRow, RunOutputRow, RunRow
from storage.specs.plans import PlannedRun
from storage.specs.stages import BY_OWNER


class InputState(TypedDict):
    """Where an input comes from, and the key of its artifact once it exists."""

    run_id: str | None
    output: str | None
    artifact_key: str | None


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it stands."""

    id: str
    experiment_id: str | None
    name: str
    stage: str
    dataset: str | None
    spec: dict[str, Any]
    spec_digest: str
    key: str | None
    """Digest of spec and inputs, once it is known; runs of one key compute the same."""
    state: RunState
    reason_code: str | None
    reason: str | None
    scene: str | None
    """The scene that a failure was about."""
    progress: dict[str, Any] | None
    """{"unit", "done", "total", "loss"?, "eta_s"?, "message"?}"""
    seed: int | None
    attempt: int
    """Number of the current or last attempt; 0 before the first."""
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    host: str | None
    device: str | None
    code: dict[str, Any]
    """{"commit", "dirty", "version"} of the worker's code."""
    environment: dict[str, Any]
    inputs: dict[str, InputState]
    outputs: dict[str, str]
    """Output name -> artifact key."""
    cancel_requested: bool
    peak_rss_bytes: int
    priority: int = 0
    owner: str = ""
    """Who submitted it; empty where nobody was asked."""
    tags: tuple[str, ...] = ()
    notes: str = ""
    time_limit_s: float | None = None
    gpus: int | None = None
    """GPUs that it was submitted with; None: as its stage uses them."""
    memory_gb: float | None = None
    rerun_of: str | None = None
    """The run that it was made from with changes; that may have been deleted."""
    anew_after: int = 0
    """It goes on from no checkpoint of this attempt or an earlier one."""


def create(db: Database, planned: Sequence[PlannedRun], submission: Submission | None = None) -> list[Run]:
    """Writes new runs of no experiment as `queued` and returns them in the plan's order.

    References resolve to runs of the plan by name, else to existing runs by id, or to artifacts by key.

    Raises:
        SpecInvalid: the plan is wrong, or an input is of another kind than its port takes.
        UnknownName: a dataset that is not registered.
        NotFound: a run or an artifact that an input names.
        IllegalMove: an input names a run that failed or was cancelled.
    """
    with db.write() as session:
        return [Run(**run_fields.of_new(new)) for new in insert(session, planned, None, submission or Submission())]


def get(db: Database, run_id: str) -> Run:
    """One run.

    Raises:
        NotFound: there is none of that id.
    """
    with db.read() as session:
        return within(session, run_id)


def within(session: Session, run_id: str) -> Run:
    """One run, within a transaction; as `get`."""
    found = run_fields.read(session, [run_id])
    if not found:
        raise _unknown(run_id)
    return Run(**found[0])


def list_fields(
    db: Database,
    fields: Collection[str],
    only: RunFilter | None = None,
    cursor: str | None = None,
    limit: int = 100,
    *,
    sort: RunSort | None = None,
) -> Page[dict[str, Any]]:
    """A page of runs with some of their fields, newest first unless told otherwise.

    A page reads at most `walks.WORK` rows for each that it may hold, so that it may hold fewer where few fit.

    Args:
        db: the database.
        fields: of each run; `run_fields.FIELDS` are all.
        only: which ones.
        cursor: `Page.next` of the page before.
        limit: rows a page, 1 to 500.
        sort: their order.

    Raises:
        InvalidInput: a cursor that no page of this order gave.
    """
    with db.read() as session:
        page = page_of_ids(session, only or RunFilter(), sort or RunSort(), cursor, clamp(limit))
        return Page(tuple(run_fields.read(session, page.items, fields)), page.next)


def page_of_ids(session: Session, only: RunFilter, sort: RunSort, cursor: str | None, limit: int) -> Page[str]:
    """The ids of a page of runs, within a transaction; as `list_fields`."""
    after = None if cursor is None else walks.key_of(cursor, sort.text, sort.key_types)
    found = run_filters.search(only, sort)
    keys, following = walks.keys_of_page(session, found.walk, found.fits, after, limit, found.cost)
    return Page(tuple(key[-1] for key in keys), walks.cursor_of(sort.text, following))


def owner_of(db: Database, run_id: str) -> str:
    """Who submitted a run.

    Raises:
        NotFound: there is none of that id.
    """
    with db.read() as session:
        owner = session.scalar(select(RunRow.owner).where(RunRow.id == run_id))
        return row_of(session, run_id).owner if owner is None else owner


def of_experiment(db: Database, experiment_id: str) -> list[Run]:
    """Every run of an experiment, in the order of its plan."""
    with db.read() as session:
        return read_all(session, select(RunRow.id).where(RunRow.experiment_id == experiment_id).order_by(RunRow.id))


def request_cancel(db: Database, run_id: str, by: str = "") -> Run:
    """Cancels a queued or ready run at once; asks the worker of a running one to stop.

    Args:
        db: the database.
        run_id: the run.
        by: who cancels it; empty where nobody was asked.

    Raises:
        NotFound: there is none of that id.
        IllegalMove: it has ended.
    """
    with db.write() as session:
        row = row_of(session, run_id, lock=True)
        if row.state in FINAL:
            raise IllegalMove(f"the run {run_id} is {row.state} and cannot be cancelled: it has ended")
        cancel_row(session, row, by)
        session.flush()
        return read_row(row)


def cancel_row(session: Session, row: RunRow, by: str = "") -> None:
    """Cancels a run that has not ended, as `request_cancel` does, within a transaction.

    The reason of one that is asked to stop stands in its row at once, for `fencing.end_cancelled` to keep. No process
    of ours stops one that its owner runs: it is cancelled at once, and what its trainer sends is refused.
    """
    if row.state == "running" and row.stage in BY_OWNER:
        ended = {"state": "cancelled", "ended_at": now(session)}
        session.execute(update(AttemptRow).where(AttemptRow.token == row.token).values(ended))
    elif row.state == "running":
        if not row.cancel_requested:
            row.cancel_requested, row.reason = True, cancelled_by(by)
            note(session, row, f"cancellation requested{_by(by)}")
        return
    row.cancel_requested = True
    then = " before it ran" if row.state != "running" else "; its trainer is told when it next calls"
    move(session, row, "cancelled", f"cancelled{_by(by)}{then}", reason_code="cancelled", reason=cancelled_by(by))


def cancelled_by(name: str) -> str:
    """Why a run ended that was cancelled, in words; an empty name is nobody's in particular.

    Examples:
        >>> cancelled_by("ada"), cancelled_by("")
        ('cancelled by ada', 'somebody cancelled it')
    """
    return f"cancelled by {name}" if name else "somebody cancelled it"


def _by(name: str) -> str:
    """Who did something, for the end of an event's words."""
    return f" by {name}" if name else ""


def move(
    session: Session,
    row: RunRow,
    to: RunState,
    message: str,
    *,
    reason_code: str | None = None,
    reason: str | None = None,
    again: bool = False,
) -> None:
    """Changes a run's state and writes the event of it, and of an end what webhooks are told: nothing else does.

    Args:
        session: an open, ordered write transaction.
        row: the run, read in that transaction.
        to: its new state.
        message: the event's text.
        reason_code: stable code of why it ended, or waits again.
        reason: the same in words.
        again: somebody retries it: back to `queued` from a state that is final otherwise.

    Raises:
        IllegalMove: it may not go there from where it is.
    """
    if again:
        check_retry(row.id, _state(row))
    else:
        check_move(row.id, _state(row), to)
    moment = now(session)
    row.state = to
    row.reason_code, row.reason = reason_code, None if reason is None else printable(reason)
    if to == "running":
        row.started_at = row.started_at or moment
    if to in FINAL:
        row.ended_at = moment
        row.token = None
        deliveries.enqueue(session, row, moment)
    if to == "queued":
        row.token = None
    if again:
        row.started_at = row.ended_at = row.scene = row.progress = None
        row.cancel_requested, row.attempts_before_retry = False, row.attempt
    said = printable(message)
    session.add(EventRow(run_id=row.id, at=moment, kind="state", state=to, attempt=row.attempt, message=said))


def give_outputs(session: Session, row: RunRow, outputs: Mapping[str, str]) -> None:
    """Records the published artifacts that a run's outputs are (output name -> key), and what they scored."""
    row.outputs = [RunOutputRow(output=name, artifact_key=key) for name, key in sorted(outputs.items())]
    metric_summaries.note_scores(session, row.id, outputs.values())


def note(session: Session, row: RunRow, message: str) -> None:
    """Writes an event that changes no state."""
    said = printable(message)
    session.add(
        EventRow(run_id=row.id, at=now(session), kind="note", state=row.state, attempt=row.attempt, message=said)
    )


def printable(text: str) -> str:
    """The text without what a database cannot hold: NUL characters and halves of surrogate pairs."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def row_of(session: Session, run_id: str, *, lock: bool = False) -> RunRow:
    """A run's row; with `lock`, held until the transaction ends.

    Raises:
        NotFound: there is none of that id.
    """
    query = select(RunRow).where(RunRow.id == run_id)
    row = session.scalars(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise _unknown(run_id)
    return row


def _unknown(run_id: str) -> NotFound:
    return NotFound(f"there is no run {run_id!r}; `vlglab runs list` shows those there are")


def living_of_key(session: Session, key: str, *, but: str = "") -> str | None:
    """The first run of a key that has not ended and is not `but`: what computes the same already."""
    query = select(RunRow.id).where(RunRow.key == key, RunRow.state.in_(LIVE), RunRow.id != but)
    return session.scalars(query.order_by(RunRow.id).limit(1)).first()


def living_keys(session: Session, keys: Collection[str]) -> frozenset[str]:
    """Those of some keys that a ready or running run stands for."""
    queries = (select(RunRow.key).where(RunRow.key.in_(some), RunRow.state.in_(LIVE)) for some in pieces(keys))
    return frozenset(key for query in queries for key in session.scalars(query) if key is not None)


def read_row(row: RunRow) -> Run:
    """The run of a row."""
    return Run(
        id=row.id,
        experiment_id=row.experiment_id,
        name=row.name,
        stage=row.stage,
        dataset=row.dataset,
        spec=row.spec,
        spec_digest=row.spec_digest,
        key=row.key,
        state=_state(row),
        reason_code=row.reason_code,
        reason=row.reason,
        scene=row.scene,
        progress=row.progress,
        seed=row.seed,
        attempt=row.attempt,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        host=row.host,
        device=row.device,
        code=row.code,
        environment=row.environment,
        inputs={
            i.port: {"run_id": i.source_run_id, "output": i.output, "artifact_key": i.artifact_key} for i in row.inputs
        },
        outputs={o.output: o.artifact_key for o in row.outputs},
        cancel_requested=row.cancel_requested,
        peak_rss_bytes=row.peak_rss_bytes,
        priority=row.priority,
        owner=row.owner,
        tags=tuple(entry.tag for entry in row.tags),
        notes=row.notes,
        time_limit_s=row.time_limit_s,
        gpus=row.gpus,
        memory_gb=row.memory_gb,
        rerun_of=row.rerun_of,
        anew_after=row.anew_after,
    )


def read_all(session: Session, query: Select[str]) -> list[Run]:
    """The runs whose ids a query finds, in its order."""
    found = pieces(session.scalars(query).all())
    return [Run(**fields) for some in found for fields in run_fields.read(session, some)]


def _state(row: RunRow) -> RunState:
    """The row's state, typed: only `move` and `submissions` write it."""
    state: RunState = row.state  # type: ignore[assignment]
    return state

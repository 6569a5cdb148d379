"""What webhooks are still to be told, and were: an outbox, filled in the transaction that ends a run. Sends nothing.

A message is sent at least once: whoever sends it claims its row first, for so long that nobody else sends it at the
same time; where they die meanwhile, it is due again after that. Its id stays the same: a receiver knows it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, get_args

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage import keys
from storage.records.database import Database, now
from storage.records.pages import Page, clamp, page_of
from storage.records.states import RunState
from storage.records.tables import DeliveryRow, RunRow, WebhookRow

DeliveryState = Literal["waiting", "delivered", "given_up"]
"""waiting: is sent, or will be again; the others are final."""

DELIVERY_STATES: tuple[DeliveryState, ...] = get_args(DeliveryState)

_TARGETS = "vlglab_webhooks"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one webhook."""

    id: str
    webhook_id: str
    run_id: str
    run_state: RunState
    state: DeliveryState
    tries: int
    """How often it was sent, or begun to be."""
    due_at: datetime
    """When it is sent next, where it waits."""
    status: int | None
    """What the receiver answered last; None where it never did."""
    error: str | None
    """Why the last try failed."""
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Due:
    """A message that somebody has claimed to send now."""

    id: str
    claim: str
    """Proves that nobody else has claimed it since."""
    webhook_id: str
    url: str
    salt: str
    body: str
    run_id: str
    tries: int
    """Which try this is, from 1."""


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which messages a list holds; None does not filter."""

    webhook: str | None = None
    run: str | None = None
    state: DeliveryState | None = None


def enqueue(session: Session, row: RunRow, moment: datetime) -> None:
    """Adds what webhooks are told of a run's end, in the ordered transaction that ends it (see `runs.move`)."""
    told = [webhook for webhook, states in _targets(session) if row.state in states]
    if not told:
        return
    body = keys.canonical_json(_message(row, moment))
    for webhook in told:
        session.add(
            DeliveryRow(
                id=keys.new_id("d", moment),
                webhook_id=webhook,
                run_id=row.id,
                run_state=row.state,
                body=body,
                state="waiting",
                tries=0,
                due_at=moment,
                created_at=moment,
            )
        )


def claim_due(db: Database, key_id: str, room: Mapping[str, int], most: int, lasts_s: float) -> list[Due]:
    """Claims messages that are due, so that nobody else sends them meanwhile.

    Args:
        db: the database.
        key_id: the key that the caller signs with; webhooks of other keys are left to whoever has them.
        room: how many messages a webhook may be sent now, by its id; `most` where it is not named.
        most: how many messages each of the others may be sent now.
        lasts_s: seconds after which a message that nobody has reported on is due again.
    """
    due = (DeliveryRow.state == "waiting", WebhookRow.key_id == key_id)
    targets = select(DeliveryRow.webhook_id).join(WebhookRow, WebhookRow.id == DeliveryRow.webhook_id).distinct()
    with db.read() as session:
        found = session.scalars(targets.where(*due, DeliveryRow.due_at <= now(session))).all()
    free = [(webhook, room.get(webhook, most)) for webhook in found if room.get(webhook, most) > 0]
    if not free:
        return []
    with db.write() as session:
        return [one for webhook, count in free for one in _claim(session, webhook, count, lasts_s)]


def delivered(db: Database, due: Due, status: int) -> bool:
    """Records that a message arrived; False where the claim had lapsed and another has it, or it was given up."""
    return _report(db, due, "delivered", status, None, None)


def failed(db: Database, due: Due, status: int | None, error: str, again_in_s: float | None) -> bool:
    """Records that a message did not arrive.

    Args:
        db: the database.
        due: what was claimed.
        status: what the receiver answered, if anything.
        error: why it counts as failed, in words.
        again_in_s: seconds until it is due again; None gives it up.

    Returns:
        False where the claim had lapsed and another has it, or it was given up.
    """
    return _report(db, due, "given_up" if again_in_s is None else "waiting", status, error, again_in_s)


def list_deliveries(
    db: Database, only: DeliveryFilter | None = None, cursor: str | None = None, limit: int = 100
) -> Page[Delivery]:
    """A page of messages, newest first."""
    only, limit = only or DeliveryFilter(), clamp(limit)
    query = select(DeliveryRow).order_by(DeliveryRow.id.desc()).limit(limit + 1)
    for column, value in (
        (DeliveryRow.webhook_id, only.webhook),
        (DeliveryRow.run_id, only.run),
        (DeliveryRow.state, only.state),
    ):
        if value is not None:
            query = query.where(column == value)
    if cursor is not None:
        query = query.where(DeliveryRow.id < cursor)
    with db.read() as session:
        return page_of(session.scalars(query).all(), limit, lambda row: row.id, _read)


def _targets(session: Session) -> list[tuple[str, frozenset[str]]]:
    """Who is told of what, read once a transaction: writers come one at a time, so it cannot change within."""
    found: list[tuple[str, frozenset[str]]] | None = session.info.get(_TARGETS)
    if found is None:
        query = select(WebhookRow.id, WebhookRow.states).where(WebhookRow.removed_at.is_(None))
        found = [(webhook, frozenset(states)) for webhook, states in session.execute(query.order_by(WebhookRow.id))]
        session.info[_TARGETS] = found
    return found


def _message(row: RunRow, moment: datetime) -> dict[str, object]:
    """What a receiver reads. Neither spec nor environment: whoever may see them asks the API."""
    fields = ("id", "name", "stage", "state", "attempt", "experiment_id", "dataset", "owner", "reason_code", "reason")
    moments = {name: _iso(getattr(row, name)) for name in ("created_at", "started_at", "ended_at")}
    run = {**{name: getattr(row, name) for name in fields}, **moments}
    return {"type": f"run.{row.state}", "timestamp": _iso(moment), "data": {"run": run}}


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds")


def _claim(session: Session, webhook: str, count: int, lasts_s: float) -> list[Due]:
    """Claims a webhook's oldest due messages, within an ordered transaction."""
    moment = now(session)
    due = (DeliveryRow.state == "waiting", DeliveryRow.webhook_id == webhook, DeliveryRow.due_at <= moment)
    query = select(DeliveryRow, WebhookRow).join(WebhookRow, WebhookRow.id == DeliveryRow.webhook_id).where(*due)
    claimed = []
    for row, target in session.execute(query.order_by(DeliveryRow.due_at, DeliveryRow.id).limit(count)).all():
        row.claim = keys.new_token()
        row.tries += 1
        row.due_at = moment + timedelta(seconds=lasts_s)
        claimed.append(Due(row.id, row.claim, webhook, target.url, target.salt, row.body, row.run_id, row.tries))
    return claimed


def _report(
    db: Database, due: Due, to: DeliveryState, status: int | None, error: str | None, again_in_s: float | None
) -> bool:
    """Writes down how a try went, where it still is the caller's."""
    with db.write() as session:
        query = select(DeliveryRow).where(DeliveryRow.id == due.id).with_for_update()
        row = session.scalars(query).one_or_none()
        if row is None or row.claim != due.claim or row.state != "waiting":
            return False
        moment = now(session)
        row.state, row.status, row.error, row.claim = to, status, error, None
        if again_in_s is None:
            row.ended_at = moment
        else:
            row.due_at = moment + timedelta(seconds=again_in_s)
        return True


def _read(row: DeliveryRow) -> Delivery:
    run_state: RunState = row.run_state  # type: ignore[assignment]
    state: DeliveryState = row.state  # type: ignore[assignment]
    return Delivery(
        id=row.id,
        webhook_id=row.webhook_id,
        run_id=row.run_id,
        run_state=run_state,
        state=state,
        tries=row.tries,
        due_at=row.due_at,
        status=row.status,
        error=row.error,
        created_at=row.created_at,
        ended_at=row.ended_at,
    )

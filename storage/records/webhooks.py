"""Webhooks: the addresses that admins have allowed to be told of the ends of runs. Knows no secret; sends nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update

from storage import keys
from storage.errors import NotFound
from storage.records.database import Database, now
from storage.records.pages import Page, clamp, page_of
from storage.records.states import RunState
from storage.records.tables import DeliveryRow, WebhookRow


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address and which ends of runs it is told."""

    id: str
    url: str
    states: tuple[RunState, ...]
    """Final states that it is told of."""
    salt: str
    """What its secret is derived from, with the key that only the control planes have."""
    key_id: str
    """Which key that is."""
    owner: str
    """The admin who added it; empty where nobody was asked."""
    created_at: datetime
    removed_at: datetime | None


def add(db: Database, url: str, states: Sequence[RunState], owner: str, salt: str, key_id: str) -> Webhook:
    """Writes a new webhook; it is told of what ends from now on."""
    with db.write() as session:
        moment = now(session)
        row = WebhookRow(
            id=keys.new_id("w", moment),
            url=url,
            states=list(states),
            salt=salt,
            key_id=key_id,
            owner=owner,
            created_at=moment,
            removed_at=None,
        )
        session.add(row)
        session.flush()
        return _read(row)


def list_webhooks(db: Database, cursor: str | None = None, limit: int = 100) -> Page[Webhook]:
    """A page of webhooks, newest first, removed ones included."""
    limit = clamp(limit)
    query = select(WebhookRow).order_by(WebhookRow.id.desc()).limit(limit + 1)
    if cursor is not None:
        query = query.where(WebhookRow.id < cursor)
    with db.read() as session:
        return page_of(session.scalars(query).all(), limit, lambda row: row.id, _read)


def remove(db: Database, webhook_id: str) -> Webhook:
    """Tells a webhook nothing more: messages that wait are given up. One that was removed stays as it is.

    Raises:
        NotFound: there is none of that id.
    """
    with db.write() as session:
        row = session.get(WebhookRow, webhook_id)
        if row is None:
            raise NotFound(f"there is no webhook {webhook_id!r}; `vlglab webhooks list` shows those there are")
        moment = now(session)
        if row.removed_at is None:
            row.removed_at = moment
            waiting = (DeliveryRow.webhook_id == webhook_id) & (DeliveryRow.state == "waiting")
            values = {"state": "given_up", "error": "the webhook was removed", "ended_at": moment, "claim": None}
            session.execute(update(DeliveryRow).where(waiting).values(**values))
        session.flush()
        return _read(row)


def _read(row: WebhookRow) -> Webhook:
    states: tuple[RunState, ...] = tuple(row.states)
    return Webhook(row.id, row.url, states, row.salt, row.key_id, row.owner, row.created_at, row.removed_at)

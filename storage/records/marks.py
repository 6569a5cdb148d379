"""The mark by which somebody's deletion lets artifacts go when the grace period is over, unless a use comes between.

The collector sets marks of its own (`collecting`); whether a marked artifact may still go, `references` says.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from storage.records import part_index, policies
from storage.records.database import now
from storage.records.keeping_tables import CollectionMarkRow


def due(session: Session) -> datetime:
    """When what is marked now is deleted."""
    return now(session) + timedelta(seconds=policies.of(session).grace_s)


def set_deleted(session: Session, keys: Collection[str], why: str) -> datetime:
    """Marks artifacts as deleted within an ordered write transaction; one that was marked waits from now on.

    Args:
        session: the transaction, in which it was seen that nothing keeps them.
        keys: the artifacts.
        why: who deleted what, in words.

    Returns:
        When they go.
    """
    moment, end = now(session), due(session)
    for key, num_bytes in part_index.own_bytes(session, keys).items():
        row = session.get(CollectionMarkRow, ("artifact", key)) or CollectionMarkRow(what="artifact", id=key)
        row.code, row.why, row.num_bytes = "deleted", why, num_bytes
        row.at, row.due_at = moment, end
        session.add(row)
    return end

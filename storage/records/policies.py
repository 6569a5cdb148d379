"""What a store may hold and what of it may go: quota, retention, grace. One row a store; knows no artifact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import get_args

from sqlalchemy.orm import Session

from storage.errors import InvalidInput
from storage.records.database import Database, now
from storage.records.keeping_tables import StorePolicyRow
from storage.specs.spec import ArtifactKind

STORE = "default"
"""The name of the store of this deployment: it has one."""

NEVER_EXPIRING: frozenset[ArtifactKind] = frozenset({"evaluation"})
"""Kinds that no retention reaches: they are small, and scores are what a lab computes all else for."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What holds for a store."""

    quota_bytes: int = 0
    """Bytes that published parts may take together before new runs wait; 0 sets no limit."""
    unused_days: float = 0
    """Days without use after which an artifact of an expiring kind may go; 0: never."""
    expiring: tuple[ArtifactKind, ...] = ("embeddings",)
    """Kinds that this is said of."""
    grace_s: float = 7 * 86_400.0
    """Seconds between marking and deleting."""
    set_by: str = ""
    set_at: datetime | None = None
    """None where nobody has set anything."""


def of(session: Session) -> Policy:
    """The store's policy within a transaction."""
    row = session.get(StorePolicyRow, STORE)
    if row is None:
        return Policy()
    return Policy(row.quota_bytes, row.unused_days, tuple(row.expiring), row.grace_s, row.set_by, row.set_at)


def get(db: Database) -> Policy:
    """The store's policy."""
    with db.read() as session:
        return of(session)


def change(
    db: Database,
    by: str,
    *,
    quota_bytes: int | None = None,
    unused_days: float | None = None,
    expiring: Sequence[ArtifactKind] | None = None,
    grace_s: float | None = None,
) -> Policy:
    """Changes what is given of the policy and leaves the rest as it is.

    Raises:
        InvalidInput: a negative number, or a kind that there is not or that never expires.
    """
    for name, value in (("quota_bytes", quota_bytes), ("unused_days", unused_days), ("grace_s", grace_s)):
        if value is not None and value < 0:
            raise InvalidInput(f"got {name} = {value}, expected 0 or more")
    allowed = sorted(set(get_args(ArtifactKind)) - NEVER_EXPIRING)
    for kind in expiring or ():
        if kind not in allowed:
            raise InvalidInput(f"got the expiring kind {kind!r}, expected some of: {', '.join(allowed)}")
    with db.write() as session:
        was = of(session)
        row = session.get(StorePolicyRow, STORE) or StorePolicyRow(store=STORE)
        row.quota_bytes = was.quota_bytes if quota_bytes is None else quota_bytes
        row.unused_days = was.unused_days if unused_days is None else unused_days
        row.expiring = list(was.expiring if expiring is None else dict.fromkeys(expiring))
        row.grace_s = was.grace_s if grace_s is None else grace_s
        row.set_by, row.set_at = by, now(session)
        session.add(row)
        session.flush()
        return of(session)

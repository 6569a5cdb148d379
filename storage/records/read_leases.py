"""Leases of readers: while one holds, no part of its artifact goes. Taken and renewed by whoever reads for long.

Taking one and deleting an artifact are ordered writes: either the lease is seen, or the artifact is gone (`NotFound`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from storage import keys
from storage.errors import NotFound
from storage.records import uses
from storage.records.database import Database, now
from storage.records.keeping_tables import ReadLeaseRow

KEPT_S = 86_400.0
"""Seconds that the row of a lapsed lease is kept, so that a reader who was away may renew it."""


@dataclass(frozen=True, slots=True)
class ReadLease:
    """A reader's lease."""

    id: str
    artifact_key: str
    owner: str
    """Empty where nobody was asked who they are."""
    until: datetime
    created_at: datetime


def take(db: Database, key: str, owner: str, seconds: float) -> ReadLease:
    """Keeps an artifact for so long from now.

    Raises:
        NotFound: none of that key is published (any more).
    """
    with db.write() as session:
        moment = now(session)
        session.execute(delete(ReadLeaseRow).where(ReadLeaseRow.until < moment - timedelta(seconds=KEPT_S)))
        uses.note(session, key, moment)
        until = moment + timedelta(seconds=seconds)
        row = ReadLeaseRow(id=keys.new_id("l", moment), artifact_key=key, owner=owner, until=until, created_at=moment)
        session.add(row)
        session.flush()
        return _read(row)


def get(db: Database, lease_id: str) -> ReadLease:
    """One lease, lapsed or not.

    Raises:
        NotFound: there is none of that id.
    """
    with db.read() as session:
        return _read(_row_of(session, lease_id))


def renew(db: Database, lease_id: str, seconds: float) -> ReadLease:
    """Keeps its artifact for so long from now; one that has lapsed is good again while its artifact is there.

    Raises:
        NotFound: there is none of that id: it was released, or it lapsed and its artifact is gone.
    """

    def prolong(session: Session, row: ReadLeaseRow) -> None:
        moment = now(session)
        uses.note(session, row.artifact_key, moment)
        row.until = moment + timedelta(seconds=seconds)

    return _change(db, lease_id, prolong)


def release(db: Database, lease_id: str) -> ReadLease:
    """Ends a lease.

    Raises:
        NotFound: there is none of that id.
    """
    return _change(db, lease_id, lambda session, row: session.delete(row))


def list_leases(db: Database) -> list[ReadLease]:
    """The leases that hold now, newest first."""
    with db.read() as session:
        query = select(ReadLeaseRow).where(ReadLeaseRow.until > now(session)).order_by(ReadLeaseRow.id.desc())
        return [_read(row) for row in session.scalars(query)]


def _change(db: Database, lease_id: str, change: Callable[[Session, ReadLeaseRow], None]) -> ReadLease:
    with db.write() as session:
        row = _row_of(session, lease_id)
        change(session, row)
        found = _read(row)
        session.flush()
        return found


def _row_of(session: Session, lease_id: str) -> ReadLeaseRow:
    row = session.get(ReadLeaseRow, lease_id)
    if row is None:
        raise NotFound(
            f"there is no read lease {lease_id!r}: it was released, or it lapsed and its artifact was collected; take a"
            " new one"
        )
    return row


def _read(row: ReadLeaseRow) -> ReadLease:
    return ReadLease(row.id, row.artifact_key, row.owner, row.until, row.created_at)

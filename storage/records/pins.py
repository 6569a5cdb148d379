"""Pins: who wants an artifact to stay, why, and until when. Neither collector nor deletion takes it then."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import delete, select

from storage.errors import InvalidInput, NotFound
from storage.records import uses
from storage.records.database import Database, now
from storage.records.keeping_tables import PinRow


@dataclass(frozen=True, slots=True)
class Pin:
    """One person's pin."""

    artifact_key: str
    owner: str
    """Empty where nobody was asked who they are."""
    reason: str
    until: datetime | None
    """None: until it is taken away."""
    created_at: datetime


def add(db: Database, key: str, owner: str, reason: str, until: datetime | None = None) -> Pin:
    """Pins an artifact; a person who had pinned it already changes reason and end. Where it was marked, it is no more.

    Raises:
        NotFound: none of that key is published.
        InvalidInput: the end is past.
    """
    with db.write() as session:
        moment = now(session)
        if until is not None and until <= moment:
            raise InvalidInput(f"got the end {until.isoformat()} of a pin, which is past; expected a later moment")
        uses.note(session, key, moment)
        row = session.get(PinRow, (key, owner)) or PinRow(artifact_key=key, owner=owner, created_at=moment)
        row.reason, row.until = reason, None if until is None else until.astimezone(UTC)
        session.add(row)
        session.flush()
        return _read(row)


def remove(db: Database, key: str, owner: str) -> Pin:
    """Takes a person's pin away.

    Raises:
        NotFound: they have not pinned it.
    """
    with db.write() as session:
        row = session.get(PinRow, (key, owner))
        if row is None:
            whose = f"{owner} has" if owner else "nobody without a name has"
            raise NotFound(f"{whose} not pinned the artifact {key!r}; `vlglab features pins` shows who has pinned what")
        session.execute(delete(PinRow).where(PinRow.artifact_key == key, PinRow.owner == owner))
        return _read(row)


def list_pins(db: Database) -> list[Pin]:
    """Every pin, newest first, those that have ended included while their artifacts are there."""
    query = select(PinRow).order_by(PinRow.created_at.desc(), PinRow.artifact_key, PinRow.owner)
    with db.read() as session:
        return [_read(row) for row in session.scalars(query)]


def _read(row: PinRow) -> Pin:
    return Pin(row.artifact_key, row.owner, row.reason, row.until, row.created_at)

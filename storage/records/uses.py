"""That somebody who is no run uses an artifact: when they last did. A use takes a collector's mark away."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete
from sqlalchemy.orm import Session

from storage.errors import NotFound
from storage.records.database import Database, now
from storage.records.keeping_tables import ArtifactUseRow, CollectionMarkRow
from storage.records.tables import ArtifactTableRow

FINE_S = 3600.0
"""Seconds within which a second read is not written down: readers ask for thousands of chunks."""


def note(session: Session, key: str, moment: datetime) -> None:
    """Writes a use down within an ordered write transaction, and takes a mark away.

    Raises:
        NotFound: none of that key is published (any more).
    """
    if session.get(ArtifactTableRow, key) is None:
        raise NotFound(f"there is no published artifact {key!r}")
    row = session.get(ArtifactUseRow, key) or ArtifactUseRow(artifact_key=key)
    row.at = moment
    session.add(row)
    marked = CollectionMarkRow.what == "artifact", CollectionMarkRow.id == key
    session.execute(delete(CollectionMarkRow).where(*marked))


def note_read(db: Database, key: str) -> None:
    """Writes down that somebody read an artifact; it writes at most once an hour, or where it is marked.

    Raises:
        NotFound: none of that key is published (any more).
    """
    with db.read() as session:
        row = session.get(ArtifactUseRow, key)
        recent = row is not None and row.at > now(session) - timedelta(seconds=FINE_S)
        if recent and session.get(CollectionMarkRow, ("artifact", key)) is None:
            return
    with db.write() as session:
        note(session, key, now(session))

"""How a database's tables differ from those of this version, in words. Changes nothing; knows no rows."""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy.orm import Session

from storage.records import revision
from storage.records.database import Database
from storage.records.soundness import Finding
from storage.records.tables import Base

_RESTORE = "restore a backup, or make it by hand as migrations/versions has it"


def check_schema(db: Database) -> list[Finding]:
    """The revision, where it is another than this version's; else tables, columns, indexes and keys that differ.

    Raises:
        DatabaseError: the database cannot be asked.
    """
    with db.read() as session:
        found = revision.of(session)
        if found != revision.REVISION:
            return [Finding("revision", found or "none", revision.refusal(found))]
        return [finding for change in _changes(session) for finding in _told(change)]


def _changes(session: Session) -> list[Any]:
    """What Alembic would change to make the tables those of the models."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    logging.getLogger("alembic").setLevel(logging.WARNING)
    context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
    return list(compare_metadata(context, Base.metadata))


def _told(change: Any) -> list[Finding]:
    """One change as findings; Alembic groups those of one column in a list.

    Its kinds: add_*, where something is missing here; remove_*, where something is here that no migration made;
    modify_*, where a column's type, default or nullability is another.
    """
    if isinstance(change, list):
        return [finding for one in change for finding in _told(one)]
    kind = str(change[0])
    verb, _, what = kind.partition("_")
    if verb == "modify":
        table, column, is_now, expected = change[2], change[3], change[5], change[6]
        message = f"its {what} is {is_now!r}, expected {expected!r}; {_RESTORE}"
        return [Finding("schema", f"{table}.{column}", message)]
    subject = _subject(what, change)
    if verb == "add":
        return [Finding("schema", subject, f"this {what} is missing; {_RESTORE}")]
    return [Finding("schema", subject, f"this {what} is none of vlglab's: keep nothing else in its database")]


def _subject(what: str, change: Any) -> str:
    """The name of what a change is about."""
    if what == "column":
        return f"{change[2]}.{change[3].name}"
    if what == "table":
        return str(change[1].name)
    if what == "fk":
        return f"{change[1].parent.name}.{', '.join(change[1].column_keys)}"
    thing = change[1]
    return f"{thing.table.name}.{thing.name or ', '.join(column.name for column in thing.columns)}"

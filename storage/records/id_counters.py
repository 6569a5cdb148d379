"""The largest ids that a database ever gave, of tables whose ids it counts: they only rise, whatever is deleted."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Table, func, select, text
from sqlalchemy.orm import Session


def last_given(session: Session, table: Table, column: Column[Any]) -> int:
    """The largest id that was ever given in a table; 0 before the first.

    PostgreSQL counts one that was given in a transaction that is not committed yet, or never will be: whoever must
    have read all rows up to an id asks for the largest of the rows.
    """
    if session.get_bind().dialect.name == "sqlite":
        given = text("SELECT max(seq) FROM sqlite_sequence WHERE name = :name")
        last = session.scalar(given, {"name": table.name}) if table.dialect_options["sqlite"]["autoincrement"] else 0
    else:
        name = _sequence(session, table, column)
        last = session.scalar(text(f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {name}"))
    return max(last or 0, session.scalar(select(func.max(column))) or 0)


def go_on_after(session: Session, table: Table, column: Column[Any], last: int) -> None:
    """Lets the next id be larger than `last`."""
    if session.get_bind().dialect.name != "sqlite":
        values = {"name": _sequence(session, table, column), "to": last}
        session.execute(text("SELECT setval(CAST(:name AS regclass), :to)"), values)
    elif table.dialect_options["sqlite"]["autoincrement"]:
        session.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), {"name": table.name})
        session.execute(
            text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :to)"), {"name": table.name, "to": last}
        )


def _sequence(session: Session, table: Table, column: Column[Any]) -> str:
    """The name of PostgreSQL's counter of a table, as it may stand in a query."""
    found = session.scalar(text("SELECT pg_get_serial_sequence(:name, :key)"), {"name": table.name, "key": column.name})
    return str(found)

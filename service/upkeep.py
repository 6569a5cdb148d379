"""Upkeep of the settings' database, beside the API: is it sound, out to a file, in from one. Knows no request."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from migrations import schema
from service.routes.health import version
from storage.artifacts import choose
from storage.errors import DatabaseError
from storage.records import soundness, transfer
from storage.records.database import Database
from storage.records.export_format import Header
from storage.records.soundness import Finding
from storage.settings import Settings


def check_database(settings: Settings, *, with_store: bool = False) -> list[Finding]:
    """What is wrong with the settings' database, and with `with_store` between it and the store; changes nothing.

    Where its tables are not those of this version, its rows are not looked at.

    Raises:
        DatabaseError: there is none, or it cannot be asked.
    """
    with _opened(settings) as db:
        found = schema.check_schema(db)
        if found:
            return found
        found = soundness.check_rows(db)
        return [*found, *soundness.check_store(db, choose.open_store(settings))] if with_store else found


def export_database(settings: Settings, path: Path) -> Header:
    """Writes the settings' database into a file; see `transfer.export_to`."""
    with _opened(settings) as db:
        kind = "sqlite" if db.is_sqlite else "postgresql"
        return transfer.export_to(db, path, {"vlglab": version(), "from": kind, "host": socket.gethostname()})


def import_database(settings: Settings, path: Path) -> Header:
    """Fills the settings' database, which has its tables and no rows, from a file; see `transfer.import_from`."""
    with _opened(settings) as db:
        return transfer.import_from(db, path)


@contextmanager
def _opened(settings: Settings) -> Iterator[Database]:
    """The settings' database, which is there already.

    Raises:
        DatabaseError: it is an SQLite file that does not exist: opening would make it.
    """
    url = settings.resolved_database_url
    path = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:///") and not path.exists():
        raise DatabaseError(
            f"there is no database at {path}; `vlglab db upgrade` makes one, VLGLAB_HOME or VLGLAB_DATABASE_URL names"
            " another"
        )
    db = Database.open(url)
    try:
        yield db
    finally:
        db.close()

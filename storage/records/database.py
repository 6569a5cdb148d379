"""One database, SQLite or PostgreSQL, and its transactions. Knows no table.

Writers come one at a time: on SQLite by BEGIN IMMEDIATE, on PostgreSQL by a transaction-level advisory lock. So events
get their ids in the order in which they are committed, and a reader that remembers the last id loses none.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic_core import from_json
from sqlalchemy import Engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.orm import Session

from storage.errors import DatabaseError, InvalidInput
from storage.records import postgres, sqlite

EXPECTED = "sqlite:///PATH or postgresql://USER@HOST/NAME"
"""URLs of databases."""


class Database:
    """A database with its connection pool. Safe for many threads; a forked child must open its own."""

    def __init__(self, engine: Engine, reading: Engine) -> None:
        self._engine = engine
        self._reading = reading
        self._sqlite = engine.dialect.name == "sqlite"
        self._writer = threading.RLock()

    @classmethod
    def open(cls, url: str) -> Database:
        """Opens a database; the file of an SQLite one is made where it is missing (its tables by `migrations`).

        Raises:
            DatabaseError: an URL of another kind, or SQLite on a network file system.
            ExtraMissing: PostgreSQL without its driver.
        """
        parsed = _parsed(url)
        if parsed.get_backend_name() == "postgresql":
            return cls(postgres.engine(parsed, _from_json), postgres.engine(parsed, _from_json, reads=True))
        path = Path(str(parsed.database)).absolute()
        sqlite.check_place(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        parsed = parsed.set(database=str(path))
        return cls(sqlite.engine(parsed, _from_json), sqlite.engine(parsed, _from_json, reads=True))

    @property
    def is_sqlite(self) -> bool:
        """True for SQLite."""
        return self._sqlite

    @property
    def engine(self) -> Engine:
        """The SQLAlchemy engine of its writers, for `migrations`."""
        return self._engine

    @property
    def reading(self) -> Engine:
        """The engine of its readers."""
        return self._reading

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that sees one state of the database and writes nothing.

        Raises:
            DatabaseError: it cannot be reached, or has no such tables.
        """
        with _translated(), Session(self._reading, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def write(self, *, ordered: bool = True) -> Iterator[Session]:
        """A transaction that is committed on leaving the block without an error, else rolled back.

        Args:
            ordered: take the writer's lock. Only a transaction that writes no event and touches the rows of one run
                (a heartbeat) may do without it, on PostgreSQL.

        Raises:
            DatabaseError: it cannot be reached, is busy for half a minute, or has no such tables.
        """
        with (
            _translated(),
            self._writer if self._sqlite else nullcontext(),
            Session(self._engine, expire_on_commit=False) as session,
            session.begin(),
        ):
            if ordered and not self._sqlite:
                postgres.take_writers_lock(session)
            yield session

    def now(self) -> datetime:
        """The database's own time, UTC: what decides leases, whatever the clocks of the hosts say."""
        with self.read() as session:
            return now(session)

    def close(self) -> None:
        """Closes every pooled connection."""
        self._engine.dispose()
        self._reading.dispose()


def now(session: Session) -> datetime:
    """The database's own time within a transaction, UTC; it goes on while the transaction lasts."""
    if session.get_bind().dialect.name == "sqlite":  # its clock is this machine's, and it is on this machine
        moment = datetime.now(UTC)
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    return postgres.now(session)


def _parsed(url: str) -> URL:
    """The URL with its driver filled in. What is wrong with it is said without it: any part may be a password's."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number; `from None`, for both quote the URL
        raise DatabaseError(f"got a database URL {_beginning(url)} that cannot be read, expected {EXPECTED}") from None
    backend = parsed.get_backend_name()
    if backend == "postgresql" and "@" in f"{parsed.host}{parsed.database}":
        raise DatabaseError(
            f"got a database URL {_beginning(url)} with more than one '@', expected {EXPECTED}; write %40 for an '@'"
            " within a name or a password, and %2F for a '/'"
        )
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and parsed.database and parsed.database != ":memory:":
        return parsed.set(database=os.path.realpath(parsed.database))
    raise DatabaseError(
        f"got a database URL {_beginning(url)}, expected {EXPECTED}"
        " (an SQLite database needs a file: worker processes share it)"
    )


def _beginning(url: str) -> str:
    """What of a URL can hold no password: its beginning, up to the first colon."""
    kind, colon, _ = url.partition(":")
    return f"that begins with {kind + colon!r}" if colon else "without a colon"


def _from_json(text: str | bytes) -> Any:
    """The value of a JSON column; twice as fast as the standard library, which reads what this does not."""
    try:
        return from_json(text)
    except ValueError:
        return json.loads(text)


@contextmanager
def _translated() -> Iterator[None]:
    """Turns the driver's errors into ours."""
    try:
        yield
    except (OperationalError, ProgrammingError, InterfaceError, InternalError, NotSupportedError) as error:
        said = str(error.orig).strip()
        missing = "no such table" in said or "does not exist" in said or "no such column" in said
        advice = "run `vlglab db upgrade`" if missing else "see that it runs, is reachable and not full"
        raise DatabaseError(f"the database answered: {said}; {advice}") from error
    except DataError as error:
        raise InvalidInput(f"got a value that the database can neither hold nor look up: {error.orig}") from error

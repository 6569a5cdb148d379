"""One database, SQLite or PostgreSQL, and its transactions. Knows no table.

Writers come one at a time: on SQLite by BEGIN IMMEDIATE (a deferred read that upgrades to a write fails at once,
whatever the busy timeout), on PostgreSQL by a transaction-level advisory lock. So events get their ids in the order in
which they are committed, and a reader that remembers the last id loses none.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic_core import from_json
from sqlalchemy import Connection, Engine, create_engine, event
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
from storage.records import postgres

NETWORK_FILE_SYSTEMS = frozenset(
    {"afs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "glusterfs", "gpfs", "lustre"}
    | {"ncpfs", "nfs", "nfs4", "smb3", "smbfs"}
)
"""Types of file systems on which SQLite's WAL mode does not work: its shared memory is not shared between hosts."""

EXPECTED = "sqlite:///PATH or postgresql://USER@HOST/NAME"
"""URLs of databases."""

_WRITE = "vlglab_write"


class Database:
    """A database with its connection pool. Safe for many threads; a forked child must open its own."""

    def __init__(self, engine: Engine, reading: Engine | None = None) -> None:
        self._engine = engine
        self._reading = engine if reading is None else reading
        self._writing = engine.execution_options(**{_WRITE: True})
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
        kind = file_system_of(path, _mounts())
        if kind in NETWORK_FILE_SYSTEMS:
            raise DatabaseError(
                f"{path} lies on a network file system ({kind}), on which SQLite's WAL mode loses data;"
                " put VLGLAB_HOME on a local disk, or set VLGLAB_DATABASE_URL to a PostgreSQL database"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(
            parsed.set(database=str(path)),
            connect_args={"timeout": 30.0, "check_same_thread": False},
            pool_size=20,
            max_overflow=40,
            json_deserializer=_from_json,
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return cls(engine)

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
        """The engine of its readers; on SQLite the same."""
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
            Session(self._writing, expire_on_commit=False) as session,
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
        for engine in {self._engine, self._reading}:
            engine.dispose()


def now(session: Session) -> datetime:
    """The database's own time within a transaction, UTC; it goes on while the transaction lasts."""
    if session.get_bind().dialect.name == "sqlite":  # its clock is this machine's, and it is on this machine
        moment = datetime.now(UTC)
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    return postgres.now(session)


def file_system_of(path: Path, mounts: str) -> str:
    """The type of the file system that holds `path`.

    Args:
        path: absolute; it need not exist.
        mounts: text like that of /proc/mounts: device, mount point, type, ... a line.

    Returns:
        The type, such as "ext4"; empty where it is not known.

    Examples:
        >>> file_system_of(Path("/home/a/x.db"), "d / ext4 rw 0 0\\nsrv:/h /home nfs4 rw 0 0")
        'nfs4'
    """
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ")
        if path.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind


def _mounts() -> str:
    """The system's table of mounts; empty where there is none to read."""
    try:
        return Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


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


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    """Sets a new SQLite connection up: transactions are begun by us, not by the driver."""
    connection.isolation_level = None
    for pragma in ("busy_timeout=30000", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
    _use_wal(connection)


def _use_wal(connection: Any) -> None:
    """Turns write-ahead logging on, where it is not yet.

    The change needs the file for itself, and SQLite refuses at once, whatever the busy timeout, while another
    process is about the same change: it is asked for again until one of them has made it.
    """
    deadline = time.monotonic() + 30
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _begin_sqlite(connection: Connection) -> None:
    """Begins an SQLite transaction, by the driver itself: writers take their lock at once."""
    begin = "BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITE, False) else "BEGIN"
    driver: Any = connection.connection.driver_connection
    try:
        driver.execute(begin)
    except sqlite3.Error as error:
        raise OperationalError(begin, None, error) from error


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

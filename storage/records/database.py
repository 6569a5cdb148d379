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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic_core import from_json
from sqlalchemy import Connection, Engine, create_engine, event, text
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

from storage.errors import DatabaseError, ExtraMissing, InvalidInput

NETWORK_FILE_SYSTEMS = frozenset(
    {"afs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "glusterfs", "gpfs", "lustre"}
    | {"ncpfs", "nfs", "nfs4", "smb3", "smbfs"}
)
"""Types of file systems on which SQLite's WAL mode does not work: its shared memory is not shared between hosts."""

WRITER_LOCK = 0x766C676C  # "vlgl"
"""The PostgreSQL advisory lock that makes writers come one at a time."""

IDLE_S = 20.0
"""Seconds after which PostgreSQL ends a session that does nothing in an open transaction: a process that hangs, or a
machine that is gone, must not keep the writer's lock from all others."""

CONNECTION: Mapping[str, str | int] = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""libpq's options of every connection to PostgreSQL, unless the URL gives them. A database whose machine vanishes
sends nothing, not even an end: so that its clients find out within ten seconds, and not in the kernel's minutes. One
whose processes hang while its machine answers is found by `postgres_waiting`."""

EXPECTED = "sqlite:///PATH or postgresql://USER@HOST/NAME"
"""URLs of databases."""

_WRITE = "vlglab_write"


class Database:
    """A database with its connection pool. Safe for many threads; a forked child must open its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
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
            return cls(_postgres_engine(parsed))
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
        """The SQLAlchemy engine, for `migrations`."""
        return self._engine

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that sees one state of the database and writes nothing.

        Raises:
            DatabaseError: it cannot be reached, or has no such tables.
        """
        with _translated(), Session(self._engine, expire_on_commit=False) as session, session.begin():
            if not self._sqlite:
                session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
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
                session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": WRITER_LOCK})
            yield session

    def now(self) -> datetime:
        """The database's own time, UTC: what decides leases, whatever the clocks of the hosts say."""
        with self.read() as session:
            return now(session)

    def close(self) -> None:
        """Closes every pooled connection."""
        self._engine.dispose()


def now(session: Session) -> datetime:
    """The database's own time within a transaction, UTC; it goes on while the transaction lasts."""
    if session.get_bind().dialect.name == "sqlite":  # its clock is this machine's, and it is on this machine
        moment = datetime.now(UTC)
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    value = session.scalar(text("SELECT clock_timestamp()"))
    assert isinstance(value, datetime)
    return value.astimezone(UTC)


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


def _postgres_engine(url: URL) -> Engine:
    """An engine for PostgreSQL; its driver is an extra."""
    options = f"-c idle_in_transaction_session_timeout={int(IDLE_S * 1000)}"
    arguments = {name: value for name, value in {**CONNECTION, "options": options}.items() if name not in url.query}
    try:
        from storage.records.postgres_waiting import WatchedConnection

        engine = create_engine(
            url,
            pool_pre_ping=True,
            pool_size=10,
            max_overflow=20,
            connect_args=arguments,
            json_deserializer=_from_json,
        )
    except ModuleNotFoundError as error:
        raise ExtraMissing(
            f"a PostgreSQL database needs the driver {error.name}: pip install 'vlglab[postgres]'"
        ) from error

    def connect(_dialect: Any, _record: Any, positional: list[Any], named: dict[str, Any]) -> Any:
        return WatchedConnection.opened(*positional, **named)

    event.listen(engine, "do_connect", connect)
    return engine


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
    """Begins an SQLite transaction: writers take their lock at once."""
    writes = connection.get_execution_options().get(_WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


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

"""SQLite as `database` uses it: where its file may lie, its connections, how transactions begin. Knows no table."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL

from storage.errors import DatabaseError

NETWORK_FILE_SYSTEMS = frozenset(
    {"afs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "glusterfs", "gpfs", "lustre"}
    | {"ncpfs", "nfs", "nfs4", "smb3", "smbfs"}
)
"""Types of file systems on which SQLite's WAL mode does not work: its shared memory is not shared between hosts."""

PRAGMAS = ("busy_timeout=30000", "synchronous=NORMAL", "foreign_keys=ON", "wal_autocheckpoint=4000")
"""What every connection is told. The log is written back into the file after 4,000 pages, 16 MB, and not after 1,000:
most of them are then pages that were written several times, and the waits for the disk are a quarter."""


def engine(url: URL, from_json: Callable[[str | bytes], Any], *, reads: bool = False) -> Engine:
    """An engine for an SQLite file, with a pool of its own.

    Args:
        url: the database, with the absolute path of its file.
        from_json: reads a JSON column.
        reads: each transaction sees one state of the database and writes nothing. Others take the writer's lock as
            they begin: a reading that turns to writing fails at once where another writes, whatever the busy timeout.
    """
    made = create_engine(
        url,
        connect_args={"timeout": 30.0, "check_same_thread": False},
        pool_size=20,
        max_overflow=40,
        json_deserializer=from_json,
    )
    event.listen(made, "connect", _prepare_reader if reads else _prepare)

    def begin(dbapi_connection: Any) -> None:
        dbapi_connection.execute("BEGIN" if reads else "BEGIN IMMEDIATE")

    # Not by an event of the engine: one listener there, and every statement looks for more, a third of its time.
    made.dialect.do_begin = begin  # type: ignore[method-assign]
    return made


def check_place(path: Path) -> None:
    """Checks where a database's file lies.

    Raises:
        DatabaseError: on a network file system.
    """
    kind = file_system_of(path, _mounts())
    if kind in NETWORK_FILE_SYSTEMS:
        raise DatabaseError(
            f"{path} lies on a network file system ({kind}), on which SQLite's WAL mode loses data;"
            " put VLGLAB_HOME on a local disk, or set VLGLAB_DATABASE_URL to a PostgreSQL database"
        )


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


def _prepare_reader(connection: Any, record: Any) -> None:
    """Sets a new connection up that writes nothing."""
    _prepare(connection, record)
    connection.execute("PRAGMA query_only=ON")


def _prepare(connection: Any, _record: Any) -> None:
    """Sets a new connection up: transactions are begun by us, not by the driver."""
    connection.isolation_level = None
    for pragma in PRAGMAS:
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

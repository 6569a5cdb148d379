"""A whole database out to a file and in from one, row for row, whatever kind it is. Knows tables as tables: no meaning.

Both stream: what is held in memory is a few hundred rows, however many there are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import JSON, Boolean, Column, Float, Integer, LargeBinary, String, Table, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from storage.errors import Conflict, DatabaseError, ExportInvalid, InvalidInput, WrongRevision
from storage.records import revision
from storage.records.database import Database, now
from storage.records.export_format import Header, Kind, Reader, TableHeader, Writer, encode
from storage.records.id_counters import go_on_after, last_given
from storage.records.tables import Base, UtcDateTime

BATCH_ROWS = 500
"""Most rows that are read or written at once."""
BATCH_BYTES = 1 << 20
"""Bytes of rows after which they are written at once."""

_KINDS: tuple[tuple[type[Any], Kind], ...] = (
    (UtcDateTime, "time"), (JSON, "json"), (Boolean, "boolean"), (Integer, "integer"), (Float, "float"),
    (String, "text"), (LargeBinary, "bytes"),
)  # fmt: skip


def export_to(db: Database, path: Path, about: Mapping[str, str]) -> Header:
    """Writes every row of a database into a file of `export_format`, which is complete or not there.

    All tables are read as they were at one moment; the lab may go on meanwhile.

    Args:
        db: the database.
        path: a file that does not exist yet; only its owner may read it.
        about: what the file says of itself to people.

    Raises:
        InvalidInput: the file exists, or cannot be written.
        WrongRevision: the database's tables are not those of this code.
    """
    with _new_file(path) as file, db.read() as session:
        revision.check(session)
        tables = tuple(_described(table, _count(session, table)) for table in Base.metadata.sorted_tables)
        counters = {table.name: last_given(session, table, column) for table, column in _counted()}
        said = {**about, "at": now(session).isoformat(timespec="seconds")}
        header = Header(revision.REVISION, tables, said, counters)
        writer = Writer(file, header)
        for table in Base.metadata.sorted_tables:
            kinds = [_kind(column) for column in table.columns]
            for row in _rows(session, table):
                writer.row([encode(kind, value) for kind, value in zip(kinds, row, strict=True)])
        writer.end()
    return header


def import_from(db: Database, path: Path) -> Header:
    """Writes every row of such a file into an empty database, in one transaction: all of them or none.

    Raises:
        ExportInvalid: the file is none, is truncated or was changed; or its rows contradict each other.
        Conflict: the database has rows already.
        WrongRevision: the file or the database is of another revision than this code.
        InvalidInput: a value that this kind of database cannot hold.
    """
    with Reader(path) as reader:
        _check_header(reader.header, path)
        try:
            with db.write() as session:
                revision.check(session)
                _check_empty(session)
                for table, described in zip(Base.metadata.sorted_tables, reader.header.tables, strict=True):
                    _fill(session, table, described, reader)
                reader.end()
                for table, column in _counted():
                    if last := max(reader.header.counters.get(table.name, 0), last_given(session, table, column)):
                        go_on_after(session, table, column, last)
        except IntegrityError as error:
            raise ExportInvalid(
                f"the rows of {path} contradict each other ({str(error.orig).strip()}); `vlglab db check` on the"
                " database that it came from says which"
            ) from error
        except (OverflowError, UnicodeError) as error:
            raise InvalidInput(f"{path} has a value that this kind of database cannot hold: {error}") from error
        return reader.header


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name when it is complete and on the disk."""
    partial = path.with_name(f".{path.name}.part")
    if path.exists():
        raise InvalidInput(f"got the file {path}, which exists; name another, or remove it")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise InvalidInput(f"got the file {path}, which cannot be written ({error})") from error
    finally:
        partial.unlink(missing_ok=True)


def _rows(session: Session, table: Table) -> Iterator[Any]:
    """The rows of a table by its primary key; a part of them at a time is in memory."""
    query = select(table).order_by(*table.primary_key.columns).execution_options(yield_per=BATCH_ROWS)
    yield from session.connection().execute(query)


def _count(session: Session, table: Table) -> int:
    return session.scalar(select(func.count()).select_from(table)) or 0


def _kind(column: Column[Any]) -> Kind:
    """How a column's values stand in a file."""
    for kind_of_type, kind in _KINDS:
        if isinstance(column.type, kind_of_type):
            return kind
    raise DatabaseError(f"no export knows the type {column.type!r} of {column}; add it to storage/records/transfer.py")


def _described(table: Table, rows: int) -> TableHeader:
    return TableHeader(table.name, rows, tuple((column.name, _kind(column)) for column in table.columns))


def _check_header(header: Header, path: Path) -> None:
    """Checks that a file's tables are those of this code."""
    if header.revision != revision.REVISION:
        raise WrongRevision(
            f"the export {path} is of revision {header.revision}, this vlglab has {revision.REVISION}; import it with"
            " the vlglab that wrote it, run this one's `vlglab db upgrade` on that database, and export it again"
        )
    ours = [_described(table, 0) for table in Base.metadata.sorted_tables]
    if [(t.name, t.columns) for t in header.tables] != [(t.name, t.columns) for t in ours]:
        raise ExportInvalid(f"the export {path} has other tables or columns than its revision {header.revision} has")


def _check_empty(session: Session) -> None:
    full = [table.name for table in Base.metadata.sorted_tables if session.execute(select(table).limit(1)).first()]
    if full:
        raise Conflict(
            f"the database has rows already, in {', '.join(full)}; import into an empty one (`vlglab db upgrade` on a"
            " new database makes it)"
        )


def _fill(session: Session, table: Table, described: TableHeader, reader: Reader) -> None:
    """Inserts a table's rows, a batch at a time."""
    connection, batch, held = session.connection(), list[dict[str, Any]](), 0
    names = [name for name, _ in described.columns]
    for row, size in reader.rows(described):
        batch.append(dict(zip(names, row, strict=True)))
        held += size
        if len(batch) >= BATCH_ROWS or held >= BATCH_BYTES:
            connection.execute(table.insert(), batch)
            batch, held = [], 0
    if batch:
        connection.execute(table.insert(), batch)


def _counted() -> Iterator[tuple[Table, Column[Any]]]:
    """The tables whose ids the database counts."""
    for table in Base.metadata.sorted_tables:
        if table.autoincrement_column is not None:
            yield table, table.autoincrement_column

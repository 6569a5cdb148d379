"""The file that a database's rows travel in: what its lines are, and how values stand in them. Knows no database.

Gzip of JSON lines, UTF-8 (docs/operating.md describes them for other readers):

    {"format": "vlglab-database", "version": 1, "revision": "0004", "counters": {"events": 17}, ...,
     "tables": [{"name", "rows", "columns"}, ...]}
    [value, value, ...]            one line a row: the tables in the header's order, each by its primary key
    {"end": true, "rows": 12, "digest": "<BLAKE3 of every byte before this line>"}
"""

from __future__ import annotations

import base64
import gzip
import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal

import blake3

from storage.errors import ExportInvalid

FORMAT = "vlglab-database"
VERSION = 1
"""Version of the layout of these files; a reader refuses any other."""

Kind = Literal["text", "integer", "float", "boolean", "time", "json", "bytes"]

_LEVEL = 6
_NO_FILE = "take a whole file that `vlglab db export` wrote"


@dataclass(frozen=True, slots=True)
class TableHeader:
    """One table of a file."""

    name: str
    rows: int
    columns: tuple[tuple[str, Kind], ...]


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself."""

    revision: str
    tables: tuple[TableHeader, ...]
    about: Mapping[str, str]
    """When and from what it was written: for people."""
    counters: Mapping[str, int] = field(default_factory=dict)
    """Table -> the largest id that was ever given there, where ids are counted: rows may have been deleted."""


def encode(kind: Kind, value: Any) -> Any:
    """A column's value as JSON holds it.

    Examples:
        >>> encode("float", float("-inf")), encode("integer", 2**62), encode("bytes", b"\\x00")
        ('-inf', 4611686018427387904, 'AA==')
        >>> encode("time", datetime(2026, 1, 31, 12, tzinfo=UTC))
        '2026-01-31T12:00:00.000000+00:00'
    """
    if value is None:
        return None
    if kind == "time":
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if kind == "float":
        return float(value) if math.isfinite(value) else str(float(value))
    if kind == "bytes":
        return base64.b64encode(value).decode()
    return value


def decode(kind: Kind, value: Any) -> Any:
    """The value that `encode` was given.

    Raises:
        ValueError: it is none of that kind.

    Examples:
        >>> decode("time", "2026-01-31T12:00:00.000000+00:00").year, decode("float", "nan")
        (2026, nan)
    """
    if value is None or kind == "json":
        return value
    if kind == "time":
        return datetime.fromisoformat(_of(str, value))
    if kind == "float":
        return float(_of((str, float, int), value))
    if kind == "bytes":
        return base64.b64decode(_of(str, value), validate=True)
    wanted = {"text": str, "integer": int, "boolean": bool}[kind]
    if isinstance(value, bool) != (kind == "boolean"):
        raise ValueError(f"got {value!r}, expected {kind}")
    return _of(wanted, value)


def _of(wanted: type | tuple[type, ...], value: Any) -> Any:
    if not isinstance(value, wanted):
        raise ValueError(f"got {value!r}, expected {wanted}")
    return value


class Writer:
    """Writes such a file into an open binary file, line by line."""

    def __init__(self, file: BinaryIO, header: Header) -> None:
        """Writes the header."""
        self._zip = gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=_LEVEL, mtime=0)
        self._digest = blake3.blake3()
        self._rows = 0
        tables = [{"name": t.name, "rows": t.rows, "columns": [list(c) for c in t.columns]} for t in header.tables]
        first = {"format": FORMAT, "version": VERSION, "revision": header.revision, "counters": dict(header.counters)}
        self._line({**first, **header.about, "tables": tables})

    def row(self, values: Sequence[Any]) -> None:
        """Writes one row, its values already encoded."""
        self._rows += 1
        self._line(list(values))

    def end(self) -> None:
        """Writes the last line; without it the file is refused."""
        digest = self._digest.hexdigest()
        self._line({"end": True, "rows": self._rows, "digest": digest})
        self._zip.close()

    def _line(self, value: Any) -> None:
        # ASCII: halves of surrogate pairs, which UTF-8 cannot hold, travel too; NaN within JSON columns as Python does.
        content = json.dumps(value, separators=(",", ":")).encode() + b"\n"
        self._digest.update(content)
        self._zip.write(content)


class Reader:
    """Reads such a file line by line; a context manager.

    Raises:
        ExportInvalid: from any method, where the file is none, is truncated or was changed.
    """

    def __init__(self, path: Path) -> None:
        """Opens the file and reads its header."""
        self._path = path
        self._digest = blake3.blake3()
        try:
            self._zip = gzip.open(path, "rb")  # noqa: SIM115 - closed by `close`
        except OSError as error:
            raise ExportInvalid(f"got the file {path}, which cannot be read ({error}); {_NO_FILE}") from error
        try:
            self.header = self._header()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Reader:
        """The reader itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the file."""
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._zip.close()

    def rows(self, table: TableHeader) -> Iterator[tuple[list[Any], int]]:
        """The rows of the next table of the header, decoded, each with the bytes of its line."""
        kinds = [kind for _, kind in table.columns]
        for number in range(1, table.rows + 1):
            value, size = self._line()
            if not isinstance(value, list) or len(value) != len(kinds):
                raise self._bad(f"row {number} of the table {table.name} is no list of {len(kinds)} values")
            try:
                row = [decode(kind, one) for kind, one in zip(kinds, value, strict=True)]
            except ValueError as error:
                raise self._bad(f"row {number} of the table {table.name}: {error}") from error
            yield row, size

    def end(self) -> None:
        """Checks the last line against all that was read, and that nothing follows it."""
        digest = self._digest.hexdigest()
        value, _ = self._line()
        total = sum(table.rows for table in self.header.tables)
        if value != {"end": True, "rows": total, "digest": digest}:
            raise self._bad("its contents do not have the digest or the number of rows that its last line says")
        if self._read(lambda: self._zip.read(1)):
            raise self._bad("something follows its last line")

    def _header(self) -> Header:
        value, _ = self._line()
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise self._bad("it does not begin as one")
        if value.get("version") != VERSION:
            raise ExportInvalid(
                f"the export {self._path} is of format version {value.get('version')}, this vlglab reads {VERSION};"
                " import it with the vlglab that wrote it, upgrade that database, and export it again"
            )
        try:
            tables = tuple(
                TableHeader(t["name"], int(t["rows"]), tuple((str(n), k) for n, k in t["columns"]))
                for t in value["tables"]
            )
            about = {name: said for name, said in value.items() if isinstance(said, str) and name != "format"}
            counters = {str(name): int(last) for name, last in value["counters"].items()}
            return Header(str(value["revision"]), tables, about, counters)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._bad(f"its header cannot be read ({error})") from error

    def _line(self) -> tuple[Any, int]:
        content = self._read(self._zip.readline)
        if not content.endswith(b"\n"):
            raise self._bad("it ends before its last line: it is truncated")
        self._digest.update(content)
        try:
            return json.loads(content), len(content)
        except (ValueError, RecursionError) as error:
            raise self._bad(f"a line is no JSON ({error})") from error

    def _read(self, read: Callable[[], bytes]) -> bytes:
        try:
            return read()
        except EOFError as error:
            raise self._bad("it is truncated") from error
        except (OSError, zlib.error) as error:
            raise self._bad(str(error)) from error

    def _bad(self, why: str) -> ExportInvalid:
        return ExportInvalid(f"the file {self._path} is no whole export of a database: {why}; {_NO_FILE}")

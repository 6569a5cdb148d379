"""A lab moved from one database to another by a file: nothing is lost, nothing half there, however large it is."""

from __future__ import annotations

import gzip
import json
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import blake3
import pytest
from hypothesis import HealthCheck, given, settings
from sqlalchemy import text

from storage.errors import Conflict, ExportInvalid, InvalidInput, VlglabError, WrongRevision
from storage.records import events, runs, transfer
from storage.records.claims import Claim
from storage.records.database import Database
from storage.records.runs import Run
from storage.records.tables import Base, EventRow
from tests.fixtures.any_rows import Rows, any_rows, contents, insert_all
from tests.fixtures.postgres import empty

SEARCH = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def moved(source: Database, target: Database, folder: Path) -> Path:
    """The file that took everything from one database to another."""
    path = Path(tempfile.mkdtemp(dir=folder)) / "lab.jsonl.gz"
    out = transfer.export_to(source, path, {"vlglab": "test"})
    assert transfer.import_from(target, path).tables == out.tables
    return path


@pytest.fixture
def new_sqlite(_migrated_sqlite: Path, tmp_path: Path) -> Callable[[], Database]:
    """Makes another SQLite database with its tables and no rows."""

    def make() -> Database:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        return Database.open(f"sqlite:///{shutil.copy(_migrated_sqlite, folder / 'lab.db')}")

    return make


@SEARCH
@given(rows=any_rows())
def test_whatever_a_lab_holds_goes_to_the_other_database_and_back(
    database_url: str, new_sqlite: Callable[[], Database], tmp_path: Path, rows: Rows
) -> None:
    """SQLite -> this kind -> SQLite: on PostgreSQL, the round trip that a lab makes."""
    first, last = new_sqlite(), new_sqlite()
    other = Database.open(database_url) if database_url.startswith("postgresql") else new_sqlite()
    if not other.is_sqlite:
        empty(database_url)
    insert_all(first, rows)
    moved(first, other, tmp_path)
    assert contents(other) == contents(first)
    moved(other, last, tmp_path)
    assert contents(last) == contents(first)
    assert sum(map(len, contents(last).values())) == sum(map(len, rows.values()))
    for db in (first, other, last):
        db.close()


def test_a_lab_goes_on_where_it_was_with_ids_after_the_largest(
    db: Database, claimed: Callable[..., Claim], new_sqlite: Callable[[], Database], tmp_path: Path
) -> None:
    source = new_sqlite()
    claim = claimed()
    before = events.last(db)
    with db.write() as session:
        session.execute(text("DELETE FROM events WHERE id = :last"), {"last": before})
    path = tmp_path / "lab.jsonl.gz"
    transfer.export_to(db, path, {})
    transfer.import_from(source, path)
    target = source
    if not db.is_sqlite:  # and back into PostgreSQL, whose counters must be set
        back = tmp_path / "back.jsonl.gz"
        transfer.export_to(source, back, {})
        with db.write() as session:
            for table in reversed(Base.metadata.sorted_tables):
                session.execute(table.delete())
            session.execute(text("SELECT setval(pg_get_serial_sequence('events', 'id'), 1, false)"))
        transfer.import_from(db, back)
        target = db
    last = events.last(target)
    assert runs.get(target, claim.run_id).state == "running"
    assert last == before - 1
    last = before  # the id of the event that was deleted is not given again
    runs.request_cancel(target, claim.run_id)
    assert [event.id for event in events.after(target, cursor=last)] == [last + 1]
    source.close()


def test_a_file_is_its_owner_s_alone_and_overwrites_nothing(db: Database, tmp_path: Path) -> None:
    path = tmp_path / "lab.jsonl.gz"
    transfer.export_to(db, path, {})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(InvalidInput, match="exists"):
        transfer.export_to(db, path, {})
    with pytest.raises(InvalidInput, match="cannot be written"):
        transfer.export_to(db, tmp_path / "nowhere" / "x", {})
    assert [p.name for p in tmp_path.iterdir() if "jsonl" in p.name] == ["lab.jsonl.gz"]


def test_the_file_is_what_the_documents_say(db: Database, claimed: Callable[..., Claim], tmp_path: Path) -> None:
    """Read by a program that knows the document alone."""
    claimed()
    path = tmp_path / "lab.jsonl.gz"
    transfer.export_to(db, path, {"vlglab": "0.1.0"})
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    header, end = json.loads(lines[0]), json.loads(lines[-1])
    assert (header["format"], header["version"], header["vlglab"]) == ("vlglab-database", 1, "0.1.0")
    assert end == {"end": True, "rows": len(lines) - 2, "digest": blake3.blake3(b"".join(lines[:-1])).hexdigest()}
    place = 1
    for table in header["tables"]:
        rows = [json.loads(line) for line in lines[place : place + table["rows"]]]
        assert all(len(row) == len(table["columns"]) for row in rows)
        place += table["rows"]
    assert place == len(lines) - 1
    assert {table["name"]: table["rows"] for table in header["tables"]}["attempts"] == 1


# -- what is refused, and that it leaves nothing


@pytest.fixture
def exported(claimed: Callable[..., Claim], db: Database, tmp_path: Path) -> Path:
    """A whole export of a lab with rows in several tables."""
    claimed()
    path = tmp_path / "whole.jsonl.gz"
    transfer.export_to(db, path, {})
    return path


def clear(db: Database) -> None:
    with db.write() as session:
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(table.delete())


def refused(db: Database, path: Path, error: type[VlglabError], match: str) -> None:
    with pytest.raises(error, match=match):
        transfer.import_from(db, path)
    assert not any(contents(db).values()), "a failed import leaves the database empty"


def relined(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> Path:
    """The same file with other lines, its digest made anew where the last line still is one."""
    lines = change(gzip.decompress(path.read_bytes()).splitlines(keepends=True))
    changed = path.with_name("changed.jsonl.gz")
    changed.write_bytes(gzip.compress(b"".join(lines)))
    return changed


def sealed(lines: list[bytes]) -> list[bytes]:
    """The lines with a last line that fits them."""
    body = lines[:-1]
    end = {"end": True, "rows": len(body) - 1, "digest": blake3.blake3(b"".join(body)).hexdigest()}
    return [*body, json.dumps(end).encode() + b"\n"]


def test_a_file_cut_anywhere_is_refused(db: Database, exported: Path, tmp_path: Path) -> None:
    clear(db)
    whole = exported.read_bytes()
    cut = tmp_path / "cut"
    for share in (0.0, 0.1, 0.5, 0.9, 1.0):
        cut.write_bytes(whole[: min(int(len(whole) * share), len(whole) - 1)])
        refused(db, cut, ExportInvalid, "truncated|cannot be read|begin")
    lines = gzip.decompress(whole).splitlines(keepends=True)
    for count in range(len(lines)):
        refused(db, relined(exported, lambda all_lines, n=count: all_lines[:n]), ExportInvalid, "truncated")  # type: ignore[misc]


def test_a_changed_file_is_refused(db: Database, exported: Path, tmp_path: Path) -> None:
    clear(db)
    whole, flipped = exported.read_bytes(), tmp_path / "flipped"
    for place in range(10, len(whole), max(1, len(whole) // 40)):  # from 10 on: before lies gzip's own header
        changed = bytearray(whole)
        changed[place] ^= 0x10
        flipped.write_bytes(changed)
        refused(db, flipped, VlglabError, ".")
    other = relined(exported, lambda lines: [line.replace(b"offices", b"affices") for line in lines])
    refused(db, other, ExportInvalid, "digest")
    refused(db, relined(exported, lambda lines: [*lines, b"1\n"]), ExportInvalid, "follows its last line")
    swapped = relined(exported, lambda lines: sealed([lines[0], lines[-2], *lines[2:-2], lines[1], lines[-1]]))
    refused(db, swapped, ExportInvalid, "row 1")


@pytest.mark.parametrize(
    "content",
    [b"", b"nothing of the kind", gzip.compress(b'{"format": "other"}\n'), gzip.compress(b"[]\n")],
    ids=["empty", "text", "another format", "no header"],
)
def test_what_is_no_export_is_refused(db: Database, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    refused(db, tmp_path / "x", ExportInvalid, "take a whole file that `vlglab db export` wrote")
    refused(db, tmp_path / "none", ExportInvalid, "cannot be read")


def header_with(**changes: Any) -> Callable[[list[bytes]], list[bytes]]:
    def change(lines: list[bytes]) -> list[bytes]:
        return sealed([json.dumps({**json.loads(lines[0]), **changes}).encode() + b"\n", *lines[1:]])

    return change


def test_a_file_of_another_revision_or_format_says_to_upgrade(db: Database, exported: Path) -> None:
    clear(db)
    refused(db, relined(exported, header_with(revision="0001")), WrongRevision, "vlglab db upgrade")
    refused(db, relined(exported, header_with(revision="9999")), WrongRevision, "the vlglab that wrote it")
    refused(db, relined(exported, header_with(version=2)), ExportInvalid, "format version 2")
    refused(db, relined(exported, header_with(tables=[])), ExportInvalid, "other tables")


def test_rows_that_contradict_each_other_are_refused(db: Database, exported: Path) -> None:
    clear(db)

    def orphaned(lines: list[bytes]) -> list[bytes]:
        header = json.loads(lines[0])
        place = 1
        for table in header["tables"]:
            if table["name"] == "datasets":
                table["rows"] -= 1
                return sealed([json.dumps(header).encode() + b"\n", *lines[1:place], *lines[place + 1 :]])
            place += table["rows"]
        raise AssertionError("no datasets")

    refused(db, relined(exported, orphaned), ExportInvalid, "contradict each other")


def test_a_database_with_rows_is_left_as_it_is(db: Database, exported: Path) -> None:
    before = contents(db)
    with pytest.raises(Conflict, match=r"rows already, in .*datasets.*empty one"):
        transfer.import_from(db, exported)
    assert contents(db) == before


def test_a_database_of_another_revision_neither_gives_nor_takes(
    empty_database_url: str, exported: Path, tmp_path: Path, new_sqlite: Callable[[], Database]
) -> None:
    old = new_sqlite()
    with old.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    with pytest.raises(WrongRevision, match="vlglab db upgrade"):
        transfer.import_from(old, exported)
    with pytest.raises(WrongRevision, match="vlglab db upgrade"):
        transfer.export_to(old, tmp_path / "old.jsonl.gz", {})
    assert not (tmp_path / "old.jsonl.gz").exists()
    old.close()


def test_text_that_the_other_database_cannot_hold_is_refused_by_name(
    db: Database, new_sqlite: Callable[[], Database], tmp_path: Path
) -> None:
    source = new_sqlite()
    insert_all(source, {t.name: [] for t in Base.metadata.sorted_tables} | {"experiments": [
        {"id": "e1", "name": "a\0b", "recipe": None, "preset": None, "request": {"a\0": "\ud800"}, "owner": "",
         "created_at": datetime(2026, 1, 31, tzinfo=UTC)}
    ]})  # fmt: skip
    path = tmp_path / "nul.jsonl.gz"
    transfer.export_to(source, path, {})
    if db.is_sqlite:
        transfer.import_from(db, path)
        assert contents(db) == contents(source)
    else:
        refused(db, path, InvalidInput, "NUL")
    source.close()


# -- however large


MEMORY = """
import re, sys
from pathlib import Path
from storage.records import transfer
from storage.records.database import Database
verb, url, path = sys.argv[1:]
db = Database.open(url)
transfer.export_to(db, Path(path), {}) if verb == "export" else transfer.import_from(db, Path(path))
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024)
"""
"""Not ru_maxrss: that of a child begins with what its parent held when it forked."""
MORE_BYTES = 24 << 20
"""What 100,000 rows may take beyond a hundred; held whole they are over 60 MB."""


def memory_of(verb: str, url: str, path: Path) -> int:
    command = [sys.executable, "-c", MEMORY, verb, url, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_a_hundred_thousand_rows_pass_through_little_memory(
    database_url: str, db: Database, new_run: Callable[..., Run], tmp_path: Path, new_sqlite: Callable[[], Database]
) -> None:
    run = new_run()
    target = new_sqlite()
    small = memory_of("export", database_url, tmp_path / "small"), memory_of("import", _url(target), tmp_path / "small")
    clear(target)
    with db.write() as session:
        for first in range(0, 100_000, 10_000):
            rows = [_event(run.id, number) for number in range(first, first + 10_000)]
            session.connection().execute(EventRow.__table__.insert(), rows)  # type: ignore[attr-defined]
    large = memory_of("export", database_url, tmp_path / "large"), memory_of("import", _url(target), tmp_path / "large")
    assert [b - a < MORE_BYTES for a, b in zip(small, large, strict=True)] == [True, True], (small, large)
    assert events.last(target) == events.last(db)
    clear(db)
    again = memory_of("import", database_url, tmp_path / "large")
    assert again - small[1] < MORE_BYTES, (small, again)
    with db.read() as session, target.read() as other:
        count = text("SELECT count(*), sum(length(message)), max(id) FROM events")
        assert tuple(session.execute(count).one()) == tuple(other.execute(count).one())
    target.close()


def _event(run_id: str, number: int) -> dict[str, Any]:
    at = datetime(2026, 1, 31, tzinfo=UTC)
    message = f"{number} {'x' * 300}"
    return {"run_id": run_id, "at": at, "kind": "note", "state": "queued", "attempt": 0, "message": message}


def _url(db: Database) -> str:
    return db.engine.url.render_as_string(hide_password=False)

from __future__ import annotations

import sys
import threading
import time
import traceback
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import JSON, literal, select, text
from sqlalchemy.orm import Session

from storage.errors import DatabaseError, ExtraMissing
from storage.records import database, postgres, postgres_waiting, sqlite
from storage.records.database import Database
from storage.records.sqlite import file_system_of
from tests.fixtures.postgres import running_server

MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
tmpfs /tmp tmpfs rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb1 /home/lab/local\\040disk xfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/x.db", "ext4"),
        ("/tmp/x.db", "tmpfs"),
        ("/tmpfoo/x.db", "ext4"),
        ("/home/lab/.vlglab/x.db", "nfs4"),
        ("/home/lab/local disk/x.db", "xfs"),
    ],
)
def test_the_file_system_is_that_of_the_longest_mount_point(path: str, kind: str) -> None:
    assert file_system_of(Path(path), MOUNTS) == kind


@given(st.text(), st.text())
def test_any_table_of_mounts_can_be_read(path: str, mounts: str) -> None:
    assert isinstance(file_system_of(Path("/") / path.replace("\0", ""), mounts), str)


def test_sqlite_on_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_mounts", lambda: f"server:/x {tmp_path} nfs4 rw 0 0")
    with pytest.raises(DatabaseError, match=r"network file system \(nfs4\).*local disk"):
        Database.open(f"sqlite:///{tmp_path / 'x.db'}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://a/b", "sqlite://", "sqlite:///:memory:"])
def test_another_url_is_refused_with_what_is_expected(url: str) -> None:
    with pytest.raises(DatabaseError, match=r"expected sqlite:///PATH or postgresql://"):
        Database.open(url)


def test_postgres_without_its_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ExtraMissing, match=r"vlglab\[postgres\]"):
        Database.open("postgresql://lab@host/name")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:/lab:hush99@h/x",
        "postgresql//lab:hush99@h/x",
        "://lab:hush99@h/x",
        "postgresql://lab@h:hush99/x",
        "postgresql://lab:p@hush99@h/x",
        "postgresql://lab:p@h/hush99@h/x",
        "mysql://lab:hush99@host/name",
        "mysql://lab@host/name?password=hush99",
        "sqlite://lab:hush99@h",
        "hush99@h/x",
    ],
)
def test_a_password_is_never_shown(url: str) -> None:
    with pytest.raises(DatabaseError, match=r"expected sqlite:///PATH or postgresql://") as caught:
        Database.open(url)
    shown = "".join(traceback.format_exception_only(caught.value)) + repr(caught.value.__cause__)
    assert "hush99" not in shown
    assert caught.value.__suppress_context__ or caught.value.__context__ is None, "nor by what it was raised from"


def test_the_beginning_of_a_wrong_url_is_shown() -> None:
    with pytest.raises(DatabaseError, match="begins with 'postgresql:' that cannot be read"):
        Database.open("postgresql:/lab:hush99@h/x")


def connecting(url: str) -> dict[str, object]:
    """What the driver is given to connect with."""
    told: dict[str, object] = {}

    class Stop(Exception):
        pass

    def stop(**named: object) -> None:
        told.update(named)
        raise Stop

    db = Database.open(url)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(postgres_waiting.WatchedConnection, "opened", stop)
        with pytest.raises(Stop):
            db.engine.connect()
    db.close()
    return told


def test_a_postgres_machine_that_vanishes_is_noticed_in_seconds() -> None:
    given = connecting("postgresql://lab@h/x")
    assert given["connect_timeout"] == 5
    assert given["keepalives"] == 1
    idle, interval, count = (given[f"keepalives_{name}"] for name in ("idle", "interval", "count"))
    assert (idle, interval, count) == (4, 2, 3)  # found gone after 4 + 3 * 2 seconds without a word
    assert given["tcp_user_timeout"] == 10_000


def test_what_a_url_says_of_its_connections_wins() -> None:
    given = connecting(
        "postgresql://lab@h/x?connect_timeout=60&keepalives=0&tcp_user_timeout=0&options=-c%20work_mem=1MB"
    )
    assert (given["connect_timeout"], given["keepalives"], given["tcp_user_timeout"]) == ("60", "0", "0")
    assert given["options"] == "-c work_mem=1MB"
    assert given["keepalives_idle"] == 4, "what it does not say stays"


@pytest.mark.postgres
@pytest.mark.timeout(60)  # the driver's own patience is 130 s
def test_a_server_that_has_stopped_is_a_database_error_to_a_new_connection() -> None:
    """A stopped process, like a machine that hangs: the kernel takes the connection, and nobody ever answers."""
    with running_server() as server:
        db, other = Database.open(f"{server}postgres"), Database.open(f"{server}postgres")
        with db.read() as session:
            postmaster = psutil.Process(int(session.scalar(text("SELECT pg_backend_pid()")) or 0)).parent()
        assert postmaster is not None
        postmaster.suspend()
        try:
            with pytest.raises(DatabaseError, match="timeout"):
                other.now()
        finally:
            postmaster.resume()
        with other.read() as session:
            assert session.scalar(text("SELECT 1")) == 1
        db.close()
        other.close()


@pytest.mark.postgres
@pytest.mark.timeout(120)
def test_a_server_that_hangs_is_a_database_error_to_a_connection_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """All its processes are stopped: the kernel answers keepalives, and statements would wait for ever."""
    monkeypatch.setattr(postgres_waiting, "SILENCE_S", 0.5)
    with running_server() as server:
        db, processes = Database.open(f"{server}postgres"), list[psutil.Process]()

        def hang(session: Session) -> None:
            backend = psutil.Process(int(session.scalar(text("SELECT pg_backend_pid()")) or 0))
            processes.extend([*backend.parents()[:1], *backend.parents()[0].children(recursive=True)])
            for process in processes:
                process.suspend()
            session.execute(text("SELECT 1"))

        try:
            with pytest.raises(DatabaseError, match="answers no new connection either"), db.write() as session:
                hang(session)
        finally:
            for process in processes:
                process.resume()
        with db.read() as session:
            assert session.scalar(text("SELECT 1")) == 1, "and when it goes on, so does its client"
        db.close()


@pytest.mark.postgres
def test_a_statement_that_takes_long_is_not_cut_off(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_waiting, "SILENCE_S", 0.2)
    asked, connect = [], psycopg.connect

    def counted(*arguments: Any, **options: Any) -> Any:
        asked.append(options)
        return connect(*arguments, **options)

    monkeypatch.setattr(psycopg, "connect", counted)
    db = Database.open(postgres_url)
    with db.read() as session:
        assert session.scalar(text("SELECT 7 FROM pg_sleep(1.5)")) == 7
    db.close()
    assert asked, "the server was asked meanwhile"


def test_sqlite_keeps_a_write_ahead_log_and_foreign_keys(tmp_path: Path) -> None:
    db = Database.open(f"sqlite:///{tmp_path / 'deeper' / 'x.db'}")
    with db.read() as session:
        pragmas = {name: session.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "foreign_keys")}
    db.close()
    assert pragmas == {"journal_mode": "wal", "foreign_keys": 1}


def test_tables_that_are_missing_are_named_with_the_command_that_makes_them(empty_database_url: str) -> None:
    db = Database.open(empty_database_url)
    with pytest.raises(DatabaseError, match="vlglab db upgrade"), db.read() as session:
        session.execute(text("SELECT * FROM runs"))
    db.close()


def test_a_database_that_does_not_answer_is_a_database_error() -> None:
    db = Database.open("postgresql://nobody@127.0.0.1:1/none?connect_timeout=2")
    with pytest.raises(DatabaseError, match="reachable"):
        db.now()
    db.close()


def test_its_time_is_utc_and_goes_on(db: Database) -> None:
    first, second = db.now(), db.now()
    assert first.tzinfo is not None
    assert first.utcoffset() == timedelta(0)
    assert first <= second
    assert abs(datetime.now(UTC) - second) < timedelta(minutes=5)


def test_a_failed_write_leaves_nothing(db: Database) -> None:
    class Stop(Exception):
        pass

    statement = text(
        "INSERT INTO hosts (id, name, pid, slots, gpus, registered_at, heartbeat_at, retired_at, rss_bytes,"
        " peak_rss_bytes) VALUES ('h1', 'a', 1, 1, '[]', :now, :now, NULL, 0, 0)"
    )

    def fail() -> None:
        with db.write() as session:
            session.execute(statement, {"now": "2026-01-01 00:00:00"})
            raise Stop

    with pytest.raises(Stop):
        fail()
    with db.read() as session:
        assert session.scalar(text("SELECT count(*) FROM hosts")) == 0


def test_reads_that_turn_into_writes_by_many_threads_lose_nothing(db: Database) -> None:
    """A counter that every thread reads, then writes: without one writer at a time some steps would be lost."""
    with db.write() as session:
        session.execute(text("CREATE TABLE counter (n INTEGER)"))
        session.execute(text("INSERT INTO counter VALUES (0)"))

    def count() -> None:
        for _ in range(20):
            with db.write() as session:
                n = session.scalar(text("SELECT n FROM counter"))
                session.execute(text("UPDATE counter SET n = :n"), {"n": int(n or 0) + 1})

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with db.read() as session:
        assert session.scalar(text("SELECT n FROM counter")) == 80


@pytest.mark.postgres
def test_a_process_that_hangs_in_a_transaction_does_not_keep_the_writers_lock(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "IDLE_S", 0.3)
    hangs, other = Database.open(postgres_url), Database.open(postgres_url)
    try:
        with pytest.raises(DatabaseError, match="idle-in-transaction"):
            _hang_until_another_has_written(hangs, other)
        with other.read() as session:
            assert session.scalar(text("SELECT count(*) FROM written")) == 0
    finally:
        hangs.close()
        other.close()


def _hang_until_another_has_written(hangs: Database, other: Database) -> None:
    with hangs.write() as held:
        with other.write() as session:
            session.execute(text("CREATE TABLE written (id int)"))
        held.execute(text("SELECT 1"))


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, -0.0, 1.5e-300, 2**70, True, None], "é😀\u2028": {"": "\\ \" /"}},
        [0.1 + 0.2, 1.7976931348623157e308, 5e-324, 123456789.123456789],
        "half of a pair: \ud800",
        {"lr": float("inf")},
    ],
)  # fmt: skip
def test_documents_come_back_as_they_were(tmp_path: Path, value: object) -> None:
    db = Database.open(f"sqlite:///{tmp_path / 'lab.db'}")
    try:
        with db.read() as session:
            assert repr(session.scalar(select(literal(value, JSON())))) == repr(value)
    finally:
        db.close()


def test_the_time_of_a_writer_that_waited_is_after_the_other_has_written(db: Database) -> None:
    """What its leases begin with must not be of before the wait."""
    asks, times = threading.Event(), []

    def wait() -> None:
        asks.set()
        with db.write() as session:
            times.append(database.now(session))

    thread = threading.Thread(target=wait)
    with db.write() as session:
        thread.start()
        assert asks.wait(10)
        time.sleep(0.3)  # by now it waits for the lock
        last = database.now(session)
    thread.join()
    assert times[0] >= last


def test_the_time_goes_on_within_a_transaction(db: Database) -> None:
    for transaction in (db.write, db.read):
        with transaction() as session:
            first = database.now(session)
            time.sleep(0.05)
            assert timedelta(seconds=0.04) < database.now(session) - first < timedelta(seconds=5)


def _end_connection(used: Database, other: Database) -> int:
    """Ends the server's side of the connection that a database reads by, which lies in its pool; its process's id."""
    with used.read() as session:
        pid = session.scalar(text("SELECT pg_backend_pid()"))
    with other.write() as session:
        assert session.scalar(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    return int(pid or 0)


@pytest.mark.postgres
def test_connections_that_died_while_they_rested_are_replaced(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "TRUSTED_S", 0.0)
    rests, other = Database.open(postgres_url), Database.open(postgres_url)
    pid = _end_connection(rests, other)
    with rests.read() as session:
        assert session.scalar(text("SELECT pg_backend_pid()")) != pid
    rests.close()
    other.close()


@pytest.mark.postgres
def test_a_connection_that_dies_right_after_its_use_costs_one_answer_and_no_more(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "TRUSTED_S", 600.0)
    used, other = Database.open(postgres_url), Database.open(postgres_url)
    pid = _end_connection(used, other)
    with pytest.raises(DatabaseError), used.read() as session:
        session.execute(text("SELECT 1"))
    with used.read() as session:
        assert session.scalar(text("SELECT pg_backend_pid()")) != pid
    used.close()
    other.close()


@pytest.mark.postgres
def test_a_reader_writes_nothing_and_sees_one_state(postgres_url: str) -> None:
    db = Database.open(postgres_url)
    with db.write() as session:
        session.execute(text("CREATE TABLE seen (n int)"))
    with db.read() as reader:
        assert reader.scalar(text("SELECT count(*) FROM seen")) == 0
        with db.write() as writer:
            writer.execute(text("INSERT INTO seen VALUES (1)"))
        assert reader.scalar(text("SELECT count(*) FROM seen")) == 0
    with pytest.raises(DatabaseError, match="read-only"), db.read() as reader:
        reader.execute(text("INSERT INTO seen VALUES (2)"))
    with db.write() as writer:  # the connections are as they were before
        assert writer.scalar(text("SHOW transaction_isolation")) == "read committed"
        writer.execute(text("INSERT INTO seen VALUES (3)"))
    with db.read() as reader:
        assert list(reader.scalars(text("SELECT n FROM seen ORDER BY n"))) == [1, 3]
    db.close()

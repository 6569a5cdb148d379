"""`python -m workers host --check`: whether a host of this machine beats, by its row."""

from __future__ import annotations

import socket
from datetime import timedelta

import pytest

from storage.records import hosts
from storage.records.database import Database
from storage.records.hosts import ALIVE_S
from storage.records.tables import HostRow
from storage.settings import settings
from workers.__main__ import main


@pytest.fixture(autouse=True)
def _here(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLGLAB_DATABASE_URL", database_url)
    settings.cache_clear()


def check(capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = main(["host", "--check"])
    settings.cache_clear()
    return status, *capsys.readouterr()


def test_a_host_that_beats_is_well(db: Database, capsys: pytest.CaptureFixture[str]) -> None:
    host = hosts.register(db, socket.gethostname(), 4242, 1, [])
    status, out, err = check(capsys)
    assert (status, err) == (0, "")
    assert host in out and "process 4242" in out


def test_a_host_that_fell_silent_is_not_and_a_later_one_is(db: Database, capsys: pytest.CaptureFixture[str]) -> None:
    silent = hosts.register(db, socket.gethostname(), 1, 1, [])
    with db.write() as session:
        row = session.get(HostRow, silent)
        assert row is not None
        row.heartbeat_at -= timedelta(seconds=2 * ALIVE_S)
    status, out, err = check(capsys)
    assert (status, out) == (1, "")
    assert "the last beat was at" in err and "python -m workers host" in err
    hosts.register(db, socket.gethostname(), 2, 1, [])
    settings.cache_clear()
    assert main(["host", "--check"]) == 0


def test_hosts_that_stopped_and_those_of_other_machines_do_not_count(
    db: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts.register(db, "another-machine", 1, 1, [])
    assert check(capsys)[0] == 1
    hosts.retire(db, hosts.register(db, socket.gethostname(), 1, 1, []))
    assert check(capsys)[0] == 1


def test_a_database_that_cannot_be_used_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VLGLAB_DATABASE_URL", "mysql://lab")
    settings.cache_clear()
    assert check(capsys)[0] == 2

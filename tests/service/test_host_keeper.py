"""The watch over the worker host: hosts that die at once, one of an earlier service, and the end of the watch."""

from __future__ import annotations

import logging
import os
import re
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from migrations.upgrade import upgrade
from service.cli.host_keeper import HostKeeper
from service.cli.host_process import HostProcess, living_host
from storage.records import hosts
from storage.records.database import Database
from storage.settings import Settings
from tests.fixtures import waiting

eventually = partial(waiting.wait_until, within_s=60)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Settings:
    """Settings of a home with a database, in the environment too: the hosts read them there."""
    monkeypatch.setenv("VLGLAB_HOME", str(tmp_path))
    upgrade(f"sqlite:///{tmp_path / 'vlglab.db'}")
    caplog.set_level(logging.INFO, logger="vlglab.serve")
    return Settings()


@pytest.fixture
def keeper(config: Settings) -> Iterator[HostKeeper]:
    """A watch with short pauses; ended with its host after the test."""
    made = HostKeeper(config, first_pause_s=0.2)
    yield made
    made.stop(end_host=True)


def children() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if "workers" in one.cmdline()]


def said(caplog: pytest.LogCaptureFixture, pattern: str) -> list[str]:
    return [found for record in caplog.records for found in re.findall(pattern, record.getMessage())]


def test_hosts_that_die_at_once_are_started_after_growing_pauses(
    keeper: HostKeeper, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("VLGLAB_GPUS", "both")
    keeper.start()
    eventually(lambda: len(said(caplog, r"has ended, with status 2 ")) == 3)
    keeper.stop(end_host=True)
    assert said(caplog, r"another is started in ([0-9.]+) s") == ["0.2", "0.4", "0.8"]
    assert len(said(caplog, r"started the worker host, process \d+")) == 3
    assert "expected indices such as 0,1" in (keeper.config.home_path / "host.log").read_text()
    assert children() == []


def test_a_database_that_is_away_is_logged_and_asked_again(
    config: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    away = config.model_copy(update={"database_url": f"sqlite:///{tmp_path / 'empty.db'}"})
    keeper = HostKeeper(away, first_pause_s=0.05)
    keeper.start()
    eventually(lambda: len(said(caplog, r"no worker host could be started .*db upgrade")) >= 2)
    keeper.stop(end_host=True)
    assert children() == []


def test_the_host_of_an_earlier_service_is_left_alone_until_it_dies(
    config: Settings, keeper: HostKeeper, caplog: pytest.LogCaptureFixture
) -> None:
    earlier = HostProcess.start(config)
    try:
        eventually(lambda: living_host(config) is not None)
        keeper.start()
        eventually(lambda: bool(said(caplog, rf"earlier service \(process {earlier.pid}\) goes on")))
        assert [one.pid for one in children()] == [earlier.pid]
        os.kill(earlier.pid, signal.SIGKILL)
        eventually(lambda: len(said(caplog, r"started the worker host, process \d+")) == 2)
    finally:
        earlier.process.kill()
        earlier.process.wait()


def test_the_end_of_the_watch_ends_its_host_only_when_asked(config: Settings) -> None:
    keeper = HostKeeper(config)
    keeper.start()
    eventually(lambda: living_host(config) is not None)
    keeper.stop(end_host=False)
    found = living_host(config)
    assert found is not None
    assert not found.ended()
    later = HostKeeper(config)
    later.start()
    time.sleep(1)
    later.stop(end_host=True)
    assert not found.ended()
    keeper.stop(end_host=True)
    assert found.ended()


def test_a_host_that_was_drained_gets_no_follower(
    config: Settings, keeper: HostKeeper, caplog: pytest.LogCaptureFixture
) -> None:
    keeper.start()
    eventually(lambda: living_host(config) is not None)
    db = Database.open(config.resolved_database_url)
    (host,) = hosts.list_hosts(db).items
    hosts.set_mode(db, host.id, "draining")
    eventually(lambda: bool(said(caplog, r"is drained; the next start")))
    assert hosts.list_hosts(db).items[0].retired_at is not None
    db.close()
    keeper.stop(end_host=False)
    assert len(said(caplog, r"started the worker host, process \d+")) == 1
    assert children() == []

"""What dead attempts have left is swept beside a host's other work."""

from __future__ import annotations

import errno
import threading
from functools import partial
from pathlib import Path

import pytest

from storage.artifacts.store import ArtifactStore
from storage.errors import StoreUnreachable
from storage.records.database import Database
from storage.settings import Settings
from tests.fixtures import waiting
from workers import sweeping
from workers.sweeping import Sweeper

wait_until = partial(waiting.wait_until, within_s=20)


@pytest.fixture
def sweeper(db: Database, settings: Settings) -> Sweeper:
    return Sweeper(db, settings)


def leave(settings: Settings) -> Path:
    """Something that a dead attempt has staged."""
    path = settings.store_path / "staging" / "dead" / "x"
    path.parent.mkdir(parents=True)
    path.touch()
    return path


@pytest.mark.parametrize("fault", [errno.EROFS, errno.ENOSPC])
def test_a_disk_that_says_no_is_tried_again(
    sweeper: Sweeper, settings: Settings, fault: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = leave(settings)

    def refuse(*_: object) -> None:
        raise OSError(fault, "the disk says no")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        sweeper.sweep()
    assert "the disk says no" in caplog.text and path.exists()
    sweeper.sweep()
    assert not path.exists()


def test_a_bucket_that_does_not_answer_is_a_warning(
    sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(_: Settings) -> ArtifactStore:
        raise StoreUnreachable("the bucket sleeps")

    monkeypatch.setattr("workers.sweeping.choose.open_store", away)
    sweeper.sweep()
    assert "the bucket sleeps" in caplog.text


def test_one_sweep_goes_on_at_a_time(sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ends = list[int](), threading.Event()

    def wait(self: Sweeper) -> None:
        begun.append(1)
        ends.wait(20)

    monkeypatch.setattr(Sweeper, "sweep", wait)
    monkeypatch.setattr(sweeping, "EVERY_S", 0.0)
    sweeper.look()
    wait_until(lambda: len(begun) == 1)
    for _ in range(5):
        sweeper.look()
    assert len(begun) == 1
    ends.set()
    sweeper.close()
    sweeper.look()
    wait_until(lambda: len(begun) == 2)
    sweeper.close()

"""Which store the settings name; a bucket that hangs holds nobody up for long, and a slow one gets its time."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storage.artifacts import choose
from storage.artifacts.objects import Objects
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import StoreUnreachable
from storage.settings import Settings


@pytest.fixture
def hung(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Object storage that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        for name, value in {
            "AWS_ENDPOINT": f"http://127.0.0.1:{server.getsockname()[1]}", "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        yield


def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, store_url="s3://lab/store")


def test_a_folder_is_a_folder(tmp_path: Path) -> None:
    named = Settings(home=tmp_path)
    assert isinstance(choose.open_store(named), ZarrStore)
    assert not choose.open_run_files(named).are_sent


@contextmanager
def told_in_seconds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small things get little time, and the block, which asks a hung bucket for one, hears of it within that."""
    monkeypatch.setattr(choose, "SMALL_TIMEOUT", "1s")
    monkeypatch.setattr(choose, "SMALL_RETRY_S", 2)
    began = time.monotonic()
    with pytest.raises(StoreUnreachable, match="did not answer"):
        yield
    assert 1 <= time.monotonic() - began < 30, "not at once, and not after the minutes that the library would take"


@pytest.mark.usefixtures("hung")
@pytest.mark.timeout(60)
def test_whoever_asks_a_hung_bucket_for_something_small_is_told_in_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with told_in_seconds(monkeypatch):
        choose.open_store(settings(tmp_path)).manifest("ab12")


@pytest.mark.usefixtures("hung")
@pytest.mark.timeout(60)
def test_a_file_gets_as_long_as_the_variable_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "SMALL_TIMEOUT", "1s")
    monkeypatch.setenv("AWS_TIMEOUT", "3s")
    small, files = (bucket.client_options for bucket in choose.buckets(settings(tmp_path)) or ())
    assert small == {"allow_http": "true", "timeout": "1s"}
    assert files == {"allow_http": "true", "timeout": "3s"}
    monkeypatch.delenv("AWS_TIMEOUT")
    _, files = (bucket.client_options for bucket in choose.buckets(settings(tmp_path)) or ())
    assert files is not None and files["timeout"] == choose.FILE_TIMEOUT


@pytest.mark.usefixtures("hung")
@pytest.mark.timeout(60)
def test_whoever_withdraws_from_a_hung_bucket_is_told_in_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Marks and notes are small: they are written while others wait for the writers' lock."""
    with told_in_seconds(monkeypatch):
        Objects(*choose.buckets(settings(tmp_path)) or ()).put("withdrawn/x", b"parts/ab/ab12/")

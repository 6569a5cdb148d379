"""Fixtures for every test; the databases' own lie in `tests/fixtures/postgres.py`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from storage.records.database import Database
from storage.settings import Settings

if TYPE_CHECKING:
    from tests.fixtures.object_storage import ObjectStorage

pytest_plugins = ["tests.fixtures.postgres"]

with warnings.catch_warnings():
    # Starlette asks for httpx2, which nothing else here needs; imported here once, so that no test meets the warning.
    warnings.simplefilter("ignore")
    import fastapi.testclient  # noqa: F401


@pytest.fixture(autouse=True)
def _no_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes the VLGLAB_* variables of whoever runs the tests away, so that no test touches their home."""
    for name in [name for name in os.environ if name.startswith("VLGLAB_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """A database with its tables, once on SQLite and once on PostgreSQL."""
    opened = Database.open(database_url)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def bucket_server() -> Iterator[ObjectStorage]:
    """A server that speaks S3's protocol."""
    from tests.fixtures.object_storage import object_storage

    with object_storage() as started:
        yield started


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings under which everything lies in a temporary home, on SQLite."""
    return Settings(home=tmp_path / "home", tick_s=0.02)

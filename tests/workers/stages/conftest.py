"""The world of `boxes`, and another lab with an artifact, as fixtures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.artifacts.memory_store import MemoryStore
from storage.artifacts.zarr_store import ZarrStore
from tests.fixtures.lab_artifact import publish
from tests.fixtures.lab_source import LabSource, lab_source
from tests.workers.stages import boxes
from workers import sources


@pytest.fixture
def world() -> boxes.World:
    """A world in a memory store of its own."""
    return boxes.build(MemoryStore())


@pytest.fixture
def there(tmp_path: Path) -> ZarrStore:
    """The other lab's store, with an artifact."""
    store = ZarrStore(tmp_path / "there")
    publish(store)
    return store


@pytest.fixture
def source(there: ZarrStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[LabSource]:
    """What serves it; whoever asks it again does so at once."""
    monkeypatch.setattr(sources, "FIRST_PAUSE_S", 0.001)
    with lab_source(there.root) as serving:
        yield serving

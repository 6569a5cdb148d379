"""The world of `boxes` as a fixture."""

from __future__ import annotations

import pytest

from storage.artifacts.memory_store import MemoryStore
from tests.workers.stages import boxes


@pytest.fixture
def world() -> boxes.World:
    """A world in a memory store of its own."""
    return boxes.build(MemoryStore())

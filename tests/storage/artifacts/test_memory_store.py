from __future__ import annotations

import pytest

from storage.artifacts.memory_store import MemoryStore
from storage.artifacts.store import ArtifactStore
from tests.conformance.artifact_store import ArtifactStoreConformance, embeddings, put


class TestMemoryStore(ArtifactStoreConformance):
    @pytest.fixture
    def store(self) -> ArtifactStore:
        return MemoryStore()


def test_two_stores_share_nothing() -> None:
    one, two = MemoryStore(), MemoryStore()
    put(one, "ab12", "room", embeddings())
    assert two.part("ab12") is None

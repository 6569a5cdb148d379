"""Arrays kept between epochs: read once while the budget lasts, never written to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from storage.artifacts.memory_store import MemoryStore
from storage.artifacts.store import Array, ArtifactStore, scene_of
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import StoreCorrupt
from tests.workers.stages import boxes
from workers.learning.kept import Kept


def test_arrays_are_kept_up_to_the_budget_and_cannot_be_changed() -> None:
    world = boxes.build(MemoryStore())
    parts = []
    for scene in ("room_a", "room_b"):
        entry = scene_of(world.artifacts["scenes"], scene)
        assert entry is not None
        part = world.store.part(entry.key)
        assert part is not None
        parts.append(part)
    size = parts[0].array("points").nbytes
    kept = Kept(budget_bytes=size)
    first = kept.array(parts[0], "points")
    np.testing.assert_array_equal(first, parts[0].array("points"))
    assert kept.array(parts[0], "points") is first
    assert kept.array(parts[1], "points") is not kept.array(parts[1], "points"), "past the budget it is read again"
    with pytest.raises(ValueError, match="read-only"):
        first += 1


@pytest.fixture(params=["memory", "disk"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    return MemoryStore() if request.param == "memory" else ZarrStore(tmp_path)


@pytest.mark.parametrize("budget", [0, 1 << 20])
def test_rows_are_those_of_the_array_whether_it_is_kept_or_not(store: ArtifactStore, budget: int) -> None:
    world = boxes.build(store)
    entry = scene_of(world.artifacts["embeddings"], "room_a")
    assert entry is not None
    kept, chosen = Kept(budget), np.array([3, 5, 699])
    for _ in range(3):
        part = store.part(entry.key)
        assert part is not None
        np.testing.assert_array_equal(kept.rows(part, "embeddings", chosen), part.array("embeddings")[chosen])


def test_of_an_array_that_is_not_kept_the_checksums_are_read_once(tmp_path: Path) -> None:
    store = ZarrStore(tmp_path)
    world = boxes.build(store)
    entry = scene_of(world.artifacts["embeddings"], "room_a")
    assert entry is not None
    chosen = np.array([0, 1])
    file = next(path for path in (store.part_path(entry.key) / "embeddings" / "c").rglob("*") if path.is_file())

    def rows(kept: Kept) -> Array:
        part = store.part(entry.key)
        assert part is not None
        return kept.rows(part, "embeddings", chosen)

    read_before = Kept(0)
    first = rows(read_before)
    content = bytearray(file.read_bytes())
    content[-100] ^= 1  # of a row that is not asked for
    file.write_bytes(content)
    np.testing.assert_array_equal(rows(read_before), first)
    with pytest.raises(StoreCorrupt, match="room_a"):
        rows(Kept(0))

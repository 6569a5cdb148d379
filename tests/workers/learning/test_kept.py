"""Arrays kept between epochs: read once while the budget lasts, never written to."""

from __future__ import annotations

import numpy as np
import pytest

from storage.artifacts.memory_store import MemoryStore
from storage.artifacts.store import scene_of
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

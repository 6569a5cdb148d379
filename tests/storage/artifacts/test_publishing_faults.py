"""A writer killed at any moment: the store is as before or complete, and the next attempt ends what was begun."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from storage.artifacts.zarr_store import ZarrStore
from tests.fixtures.dying import Dying
from tests.fixtures.dying_publisher import arrays, artifact_keys, part_key, publish, weights, write_scene
from tests.fixtures.used_store import LIVING, Before, before, check_nothing_half, check_swept

OLD = ("old_a", "old_b")
NEW = ("new_a", "new_b")


def fill(store: ZarrStore, chance: random.Random) -> tuple[Before, tuple[str, ...]]:
    """Something published before, at times also a part of nobody's; and the scenes that are to be published now."""
    publish(store, "old", OLD)
    scenes = [*NEW, *chance.sample(OLD, chance.randint(0, 2))]
    if chance.random() < 0.3:
        write_scene(store, "old", "left")
        scenes.append("left")
    chance.shuffle(scenes)
    return before(store), tuple(scenes)


def check_as_meant(store: ZarrStore, scenes: tuple[str, ...]) -> None:
    """What can be seen of the artifacts of some scenes is what their writer meant, read without our readers."""
    embeddings, checkpoint = artifact_keys(scenes)
    if store.manifest(embeddings) is not None:
        for scene in scenes:
            group = zarr.open_group(store.part_path(part_key(scene)), mode="r")
            for name, values in arrays(scene).items():
                np.testing.assert_array_equal(group[name][...], values)  # type: ignore[index]
    if store.manifest(checkpoint) is not None:
        folder = store.part_path(checkpoint) / "files"
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == weights(scenes)


def storm(folder: Path, rounds: int, seed: int) -> None:
    """Rounds of publishing into a used store by processes that are killed, then by one that is not."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    dying = Dying("tests.fixtures.dying_publisher", chance)
    for number in range(rounds + 1):  # the first only counts the steps
        store = ZarrStore(folder / f"store-{number}")
        was, scenes = fill(store, chance)
        tokens = [f"t{attempt}" for attempt in range(chance.randint(1, 2))]
        for attempt, token in enumerate(tokens):
            died = dying.start(store.root, token, ",".join(scenes))
            check_nothing_half(store, was, artifact_keys(scenes))
            check_as_meant(store, scenes)
            assert store.staged() <= {LIVING, *tokens[: attempt + 1]}
            assert died or store.staged() <= {LIVING, *tokens[:attempt]}, "who lives leaves nothing staged"
        if chance.random() < 0.5:
            check_swept(store)
        publish(store, "retry", scenes)
        check_nothing_half(store, was, artifact_keys(scenes))
        check_as_meant(store, scenes)
        assert set(store.artifacts()) == {*was.artifacts, *artifact_keys(scenes)}
        check_swept(store)
        shutil.rmtree(store.root)
    assert dying.steps > 50, "a writer makes more steps than that"
    assert dying.killed > dying.begun // 4, "too few writers were killed"


@pytest.mark.slow
def test_a_writer_that_is_killed_leaves_the_store_as_before_or_complete(tmp_path: Path) -> None:
    storm(tmp_path, 5, random.SystemRandom().randrange(2**32))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_writers_that_are_killed_200_times_publish_nothing_half(tmp_path: Path) -> None:
    storm(tmp_path, 200, random.SystemRandom().randrange(2**32))

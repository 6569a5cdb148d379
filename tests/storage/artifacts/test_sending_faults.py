"""A writer to a bucket killed at any moment, while requests fail: the bucket is as before or complete."""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import obstore
import pytest
import zarr
from zarr.storage import ObjectStore as ZarrObjects

from storage.artifacts.object_store import ObjectStore
from tests.fixtures.dying import Dying
from tests.fixtures.dying_publisher import arrays, artifact_keys, part_key, publish, weights, write_scene
from tests.fixtures.faulty_storage import FAULTS, Faults, faulty_storage
from tests.fixtures.object_storage import ObjectStorage
from tests.fixtures.used_bucket import LIVING, Before, before, check_nothing_half, check_swept

OLD = ("old_a", "old_b")
NEW = ("new_a", "new_b")


def fill(storage: ObjectStorage, name: str, folder: Path, chance: random.Random) -> tuple[Before, tuple[str, ...]]:
    """Something published before, at times also a part of nobody's; and the scenes that are to be published now."""
    store = ObjectStore(storage.opened(name), folder)
    publish(store, "old", OLD)
    scenes = [*NEW, *chance.sample(OLD, chance.randint(0, 2))]
    if chance.random() < 0.3:
        write_scene(store, "old", "left")
        scenes.append("left")
    chance.shuffle(scenes)
    return before(storage, name), tuple(scenes)


def check_as_meant(
    now: Mapping[str, bytes], storage: ObjectStorage, name: str, reader: ObjectStore, scenes: tuple[str, ...]
) -> None:
    """What can be seen of the artifacts of some scenes is what their writer meant: by plain zarr, and by a reader."""
    embeddings, checkpoint = artifact_keys(scenes)
    if f"artifacts/{embeddings}/manifest.json" in now:
        assert reader.verify(embeddings) == []
        for scene in scenes:
            key = part_key(scene)
            there = ZarrObjects(storage.opened(name, prefix=f"parts/{key[:2]}/{key}"), read_only=True)
            group, part = zarr.open_group(there, mode="r"), reader.part(key)
            assert part is not None
            for array, values in arrays(scene).items():
                np.testing.assert_array_equal(group[array][...], values)  # type: ignore[index]
                np.testing.assert_array_equal(part.array(array), values)
    if f"artifacts/{checkpoint}/manifest.json" in now:
        assert reader.verify(checkpoint) == []
        prefix = f"parts/{checkpoint[:2]}/{checkpoint}/files/"
        assert {file: now[prefix + file] for file in weights(scenes)} == weights(scenes)


def sweep(storage: ObjectStorage, name: str, folder: Path) -> None:
    """Sweeping takes what the dead left, there and here, and nothing of the living."""
    store = ObjectStore(storage.opened(name), folder)
    store.sweep(frozenset({LIVING}))
    assert store.staged() == {LIVING}
    check_swept(storage.objects(name))
    assert not (folder / "staging").exists() or list((folder / "staging").iterdir()) == []


def a_round(storage: ObjectStorage, faults: Faults, dying: Dying, folder: Path, chance: random.Random) -> None:
    """Publishes into a used bucket by processes that are killed, then by one that is not."""
    bucket = storage.bucket()
    name = str(bucket.config["bucket"])
    was, scenes = fill(storage, name, folder / "old", chance)
    reader = ObjectStore(bucket, folder / "reader")

    def check() -> None:
        now = storage.objects(name)
        check_nothing_half(now, was, artifact_keys(scenes))
        for some in (OLD, scenes):
            check_as_meant(now, storage, name, reader, some)
        assert storage.unfinished(name) == 0

    for attempt in range(chance.randint(1, 2)):
        token = f"{name}-{attempt}"
        faults.share = chance.choice((0, 0.02, 0.1)) if dying.begun else 0
        dying.start(folder / "here", storage.endpoint, name, token, ",".join(scenes))
        faults.share = 0
        faults.gone(token)
        check()
    if chance.random() < 0.5:
        sweep(storage, name, folder / "here")
    publish(ObjectStore(bucket, folder / chance.choice(("here", "elsewhere"))), "retry", scenes)
    check()
    assert set(reader.artifacts()) == {*was.artifacts, *artifact_keys(scenes)}
    sweep(storage, name, folder / "here")
    obstore.delete(bucket, list(storage.objects(name)))  # the server holds them in memory


def storm(folder: Path, rounds: int, seed: int) -> None:
    """Rounds of publishing, the first of which only counts the steps."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    dying, faults = Dying("tests.fixtures.dying_sender", chance), Faults(random.Random(seed + 1))
    with faulty_storage(faults) as storage:
        for number in range(rounds + 1):
            a_round(storage, faults, dying, folder / str(number), chance)
            shutil.rmtree(folder / str(number))
    print(f"{dying.begun} writers of {dying.steps} steps: {dying.killed} killed, {dying.failed} failed; {faults.met}")
    assert dying.steps > 100, "a writer makes more steps than that"
    assert dying.killed > dying.begun // 4, "too few writers were killed"
    assert rounds < 100 or (dying.failed and all(faults.met[fault] for fault in FAULTS)), "too few requests failed"


@pytest.mark.slow
def test_a_writer_that_is_killed_leaves_the_bucket_as_before_or_complete(tmp_path: Path) -> None:
    storm(tmp_path, 5, random.SystemRandom().randrange(2**32))


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_writers_that_are_killed_200_times_publish_nothing_half_in_a_bucket(tmp_path: Path) -> None:
    storm(tmp_path, 200, random.SystemRandom().randrange(2**32))

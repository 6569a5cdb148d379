"""Random points for training: those of the store, random, reproducible, and shared out among processes."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from storage.artifacts.memory_store import MemoryStore
from storage.artifacts.scaled import decode, encode
from storage.artifacts.store import ArtifactStore
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import NotFound, SpecInvalid, StoreCorrupt
from storage.training import DrawnPoints, FeaturePoints
from tests.conformance.artifact_store import TOKEN, Arrays, artifact, embeddings, put

SCENES = {f"room-{i}": embeddings(i, num_points=900, covered=500 + 20 * i, dimension=40) for i in range(7)}


def publish(store: ArtifactStore, scenes: dict[str, Arrays]) -> None:
    entries = [put(store, f"part-{scene}", scene, arrays) for scene, arrays in scenes.items()]
    splits = {scene: "test" if scene == "room-3" else "train" for scene in scenes}
    store.publish(replace(artifact("beef01", *entries), attributes={"splits": splits}), token=TOKEN)


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    made: ArtifactStore = ZarrStore(tmp_path) if request.param == "local" else MemoryStore()
    publish(made, SCENES)
    return made


def assert_true(drawn: DrawnPoints) -> None:
    """Each row is the embedding that the store holds for the point it names."""
    arrays = SCENES[drawn.scene]
    row_of = {int(point): row for row, point in enumerate(arrays["point_index"])}
    rows = [row_of[int(point)] for point in drawn.point_index]
    np.testing.assert_array_equal(drawn.embeddings, arrays["embeddings"][rows])


@pytest.mark.parametrize("ahead", [0, 2, 50])
def test_an_epoch_gives_every_scene_once_and_no_point_twice(store: ArtifactStore, ahead: int) -> None:
    reader = FeaturePoints(store, "beef01", points_per_scene=120, ahead=ahead)
    drawn = list(reader.epoch(0))
    assert sorted(one.scene for one in drawn) == sorted(SCENES) and len(reader) == 7
    for one in drawn:
        assert one.embeddings.shape == (120, 40) and len(set(one.point_index.tolist())) == 120
        assert_true(one)
    places = np.concatenate([np.searchsorted(SCENES[o.scene]["point_index"], o.point_index) for o in drawn])
    assert 200 < places.mean() < 360, "from all of a scene, not from its beginning"


def test_a_small_scene_gives_all_that_it_has(store: ArtifactStore) -> None:
    for one in FeaturePoints(store, "beef01", points_per_scene=10_000).epoch(0):
        assert sorted(one.point_index) == SCENES[one.scene]["point_index"].tolist()
        assert_true(one)


def test_seed_and_epoch_and_nothing_else_make_the_draw(store: ArtifactStore) -> None:
    def told(seed: int, epoch: int, ahead: int = 2) -> list[tuple[str, list[int]]]:
        reader = FeaturePoints(store, "beef01", points_per_scene=50, seed=seed, ahead=ahead)
        return [(one.scene, one.point_index.tolist()) for one in reader.epoch(epoch)]

    assert told(1, 3) == told(1, 3, ahead=0)
    assert told(1, 3) != told(1, 4) and told(1, 3) != told(2, 3)
    assert [scene for scene, _ in told(1, 3)] != [scene for scene, _ in told(1, 4)]
    assert dict(told(1, 3))["room-0"] != dict(told(1, 4))["room-0"]


def test_processes_share_the_scenes_out_and_keep_their_own(store: ArtifactStore) -> None:
    reader = FeaturePoints(store, "beef01", points_per_scene=50)
    whole = {one.scene: one.point_index.tolist() for one in reader.epoch(5)}
    shares = [{o.scene: o.point_index.tolist() for o in reader.epoch(5, worker=w, workers=3)} for w in range(3)]
    assert sorted(scene for share in shares for scene in share) == sorted(SCENES)
    assert {scene: points for share in shares for scene, points in share.items()} == whole
    later = [{one.scene for one in reader.epoch(6, worker=w, workers=3)} for w in range(3)]
    assert later == [set(share) for share in shares]
    with pytest.raises(SpecInvalid, match="worker 3 of 3"):
        next(reader.epoch(0, worker=3, workers=3))


def test_only_the_wanted_splits(store: ArtifactStore) -> None:
    assert [one.scene for one in FeaturePoints(store, "beef01", splits=("test",)).epoch(0)] == ["room-3"]
    with pytest.raises(NotFound, match="val"):
        FeaturePoints(store, "beef01", splits=("val",))
    with pytest.raises(NotFound, match="beef02"):
        FeaturePoints(store, "beef02")


def test_any_type_is_given_as_the_reader_gives_it(tmp_path: Path) -> None:
    store = ZarrStore(tmp_path)
    arrays = SCENES["room-1"]
    numbers, scales = encode(arrays["embeddings"])
    publish(store, {"room-1": {**arrays, "embeddings": numbers, "scales": scales}})
    (drawn,) = FeaturePoints(store, "beef01", points_per_scene=100).epoch(0)
    rows = np.searchsorted(arrays["point_index"], drawn.point_index)
    np.testing.assert_array_equal(drawn.embeddings, decode(numbers, scales)[rows])


def test_a_flipped_bit_is_found_before_a_point_of_its_scene_is_given(tmp_path: Path) -> None:
    store = ZarrStore(tmp_path)
    publish(store, SCENES)
    file = store.part_path("part-room-5") / "embeddings" / "c" / "0" / "0"
    content = bytearray(file.read_bytes())
    content[-100] ^= 8
    file.write_bytes(content)
    given = []
    with pytest.raises(StoreCorrupt, match="room-5.*chunk 0") as caught:
        given += [one.scene for one in FeaturePoints(store, "beef01", ahead=0).epoch(0)]
    assert caught.value.scene == "room-5" and "room-5" not in given


def _share(reader: FeaturePoints, worker: int, queue: multiprocessing.Queue[list[tuple[str, list[int]]]]) -> None:
    queue.put([(one.scene, one.point_index.tolist()) for one in reader.epoch(1, worker=worker, workers=2)])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_loader_processes_draw_what_one_process_draws(tmp_path: Path, method: str) -> None:
    store = ZarrStore(tmp_path)
    publish(store, SCENES)
    reader = FeaturePoints(store, "beef01", points_per_scene=30)
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    workers = [context.Process(target=_share, args=(reader, number, queue)) for number in range(2)]
    for worker in workers:
        worker.start()
    got = [drawn for _ in workers for drawn in queue.get(timeout=120)]
    for worker in workers:
        worker.join()
    assert sorted(got) == sorted((one.scene, one.point_index.tolist()) for one in reader.epoch(1))


def test_it_imports_no_torch() -> None:
    program = "import sys, storage.training\nsys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])

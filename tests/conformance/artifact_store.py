"""What every artifact store must do; a store's test module subclasses `ArtifactStoreConformance` and gives `store`.

Arrays are held against the very values that were written; digests are not compared between stores.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from storage.artifacts.kinds import KINDS
from storage.artifacts.store import WHOLE, ArtifactManifest, ArtifactStore, PartEntry, scene_of
from storage.errors import InvalidInput, NotFound, SpecInvalid, StoreCorrupt, UnknownName
from storage.specs.spec import ArtifactKind

TOKEN = "token-1"
Arrays = dict[str, NDArray[Any]]


def embeddings(seed: int = 0, num_points: int = 300, covered: int = 200, dimension: int = 8) -> Arrays:
    """The arrays of an `embeddings` part."""
    generator = np.random.default_rng(seed)
    point_index = np.sort(generator.choice(num_points, covered, replace=False)).astype(np.int64)
    views = np.zeros(num_points, np.uint16)
    views[point_index] = generator.integers(1, 9, covered)
    values = generator.standard_normal((covered, dimension)).astype(np.float16)
    return {"embeddings": values, "point_index": point_index, "views": views}


def put(store: ArtifactStore, key: str, scene: str, arrays: Arrays, **attributes: object) -> PartEntry:
    """Publishes an `embeddings` part and returns its line."""
    with store.write_part(key, kind="embeddings", scene=scene, token=TOKEN) as part:
        for name, values in arrays.items():
            part.write(name, values)
        part.set(num_points=len(arrays["views"]), split="train", point_order="abc", **attributes)
    entry = store.entry(key)
    assert entry is not None
    return entry


def write(store: ArtifactStore, arrays: Arrays, kind: ArtifactKind = "embeddings", **attributes: object) -> None:
    """Publishes the part ab12 of the scene room-7."""
    with store.write_part("ab12", kind=kind, scene="room-7", token=TOKEN) as part:
        part.set(**attributes)
        for name, values in arrays.items():
            part.write(name, values)


def artifact(key: str, *parts: PartEntry, kind: ArtifactKind = "embeddings") -> ArtifactManifest:
    """A manifest of `parts`."""
    return ArtifactManifest(
        key, kind, "extract", "embeddings", {"stage": "extract", "width": 320}, {"scenes": "beef"}, parts, {"images": 8}
    )


class ArtifactStoreConformance:
    """Inherit, and give the fixture `store`: an empty store."""

    @pytest.fixture
    def store(self) -> ArtifactStore:
        """An empty store."""
        raise NotImplementedError

    def test_an_empty_store_holds_nothing(self, store: ArtifactStore) -> None:
        assert store.part("ab12") is None
        assert store.entry("ab12") is None
        assert store.manifest("ab12") is None
        assert list(store.artifacts()) == []
        assert store.sweep(frozenset()) == 0
        with pytest.raises(NotFound, match="ab12"):
            store.verify("ab12")

    def test_a_part_reads_back_as_it_was_written(self, store: ArtifactStore) -> None:
        arrays = embeddings()
        entry = put(store, "ab12", "room-1", arrays, views={"count": 8}, names=("a", "b"), mean=np.float32(0.5))
        part = store.part("ab12")
        assert part is not None
        assert (part.key, part.scene) == ("ab12", "room-1")
        assert part.names() == ("embeddings", "point_index", "views")
        assert part.files() == ()
        for name, values in arrays.items():
            np.testing.assert_array_equal(part.array(name), values)
            assert part.array(name).dtype == values.dtype
        assert part.attributes == {
            "num_points": 300, "split": "train", "point_order": "abc", "views": {"count": 8}, "names": ["a", "b"],
            "mean": 0.5,
        }  # fmt: skip
        assert (entry.scene, entry.key, entry.num_points) == ("room-1", "ab12", 300)
        assert entry.num_bytes >= sum(values.nbytes for values in arrays.values())

    @pytest.mark.parametrize("kind", sorted(KINDS))
    def test_every_kind_can_be_written_and_read(self, store: ArtifactStore, kind: ArtifactKind) -> None:
        layout = KINDS[kind]
        lengths = {"xyz": 3, "rgb": 3, "row": 3, "column": 3}
        with store.write_part("ab12", kind=kind, scene="room" if layout.scene_wise else WHOLE, token=TOKEN) as writer:
            required = {name: array for name, array in layout.arrays.items() if array.required}
            for name, array in required.items():
                writer.write(name, np.ones([lengths.get(dim, 5) for dim in array.dims], array.dtype))
            if layout.files:
                writer.path("weights.bin").write_bytes(b"weights")
        part = store.part("ab12")
        assert part is not None
        assert set(part.names()) == set(required)
        assert all(part.array(name).dtype == np.dtype(layout.arrays[name].dtype) for name in part.names())
        assert [part.file(name).read_bytes() for name in part.files()] == ([b"weights"] if layout.files else [])

    def test_big_endian_and_strided_values_read_back_equal(self, store: ArtifactStore) -> None:
        arrays = embeddings()
        odd = {
            "embeddings": np.asfortranarray(arrays["embeddings"]),
            "point_index": arrays["point_index"].astype(">i8"),
            "views": np.repeat(arrays["views"], 2)[::2],
        }
        put(store, "ab12", "room", odd)
        part = store.part("ab12")
        assert part is not None
        for name, values in arrays.items():
            np.testing.assert_array_equal(part.array(name), values)

    def test_empty_and_all_zero_arrays_read_back(self, store: ArtifactStore) -> None:
        with store.write_part("ab12", kind="scenes", scene="room", token=TOKEN) as writer:
            writer.write("points", np.zeros((40_000, 3), np.float32))
            writer.write("colours", np.zeros((40_000, 3), np.uint8))
            writer.write("intrinsics", np.zeros((0, 3, 3)))
            writer.write("camera_to_world", np.zeros((0, 4, 4)))
        part = store.part("ab12")
        assert part is not None
        assert part.array("points").shape == (40_000, 3)
        assert not part.array("points").any()
        assert part.array("intrinsics").shape == (0, 3, 3)

    def test_a_reader_may_change_what_it_read_without_changing_the_store(self, store: ArtifactStore) -> None:
        arrays = embeddings()
        put(store, "ab12", "room", arrays)
        part = store.part("ab12")
        assert part is not None
        part.array("views")[:] = 7
        np.testing.assert_array_equal(part.array("views"), arrays["views"])

    def test_a_writer_may_reuse_its_buffer(self, store: ArtifactStore) -> None:
        arrays = embeddings()
        buffer = arrays["embeddings"].copy()
        with store.write_part("ab12", kind="embeddings", scene="room", token=TOKEN) as writer:
            writer.write("embeddings", buffer)
            buffer[:] = 0
            writer.write("point_index", arrays["point_index"])
            writer.write("views", arrays["views"])
        part = store.part("ab12")
        assert part is not None
        np.testing.assert_array_equal(part.array("embeddings"), arrays["embeddings"])
        np.testing.assert_array_equal(part.rows("embeddings", np.array([2, 0])), arrays["embeddings"][[2, 0]])

    def test_nothing_is_seen_before_the_block_ends(self, store: ArtifactStore) -> None:
        with store.write_part("ab12", kind="embeddings", scene="room", token=TOKEN) as writer:
            for name, values in embeddings().items():
                writer.write(name, values)
            assert store.part("ab12") is None
            assert store.entry("ab12") is None
        assert store.part("ab12") is not None

    def test_a_block_that_fails_publishes_nothing(self, store: ArtifactStore) -> None:
        def fail_midway() -> None:
            with store.write_part("ab12", kind="embeddings", scene="room", token=TOKEN) as writer:
                for name, values in embeddings().items():
                    writer.write(name, values)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail_midway()
        assert store.part("ab12") is None
        put(store, "ab12", "room", embeddings())
        assert store.part("ab12") is not None

    def test_publishing_onto_a_key_keeps_what_is_there(self, store: ArtifactStore) -> None:
        first = put(store, "ab12", "room", embeddings(seed=1))
        assert put(store, "ab12", "room", embeddings(seed=2)) == first
        part = store.part("ab12")
        assert part is not None
        np.testing.assert_array_equal(part.array("embeddings"), embeddings(seed=1)["embeddings"])

    def test_equal_content_has_equal_digests_and_other_content_another(self, store: ArtifactStore) -> None:
        one, two = put(store, "ab12", "room", embeddings(seed=1)), put(store, "cd34", "room", embeddings(seed=2))
        assert one.digest != two.digest
        assert put(store, "ab12", "room", embeddings(seed=1)).digest == one.digest

    def test_two_writers_of_one_key_both_end_well_and_one_wins(self, store: ArtifactStore) -> None:
        barrier = threading.Barrier(2)

        def race(seed: int) -> None:
            with store.write_part("ab12", kind="embeddings", scene="room", token=f"token-{seed}") as writer:
                for name, values in embeddings(seed).items():
                    writer.write(name, values)
                barrier.wait(timeout=30)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(race, (1, 2)))
        part = store.part("ab12")
        assert part is not None
        won = part.array("embeddings")
        assert any((won == embeddings(seed)["embeddings"]).all() for seed in (1, 2))

    @pytest.mark.parametrize("missing", ["embeddings", "point_index", "views"])
    def test_a_part_that_misses_an_array_is_not_published(self, store: ArtifactStore, missing: str) -> None:
        with pytest.raises(StoreCorrupt, match=f"room-7.*{missing}"):
            write(store, {name: values for name, values in embeddings().items() if name != missing})
        assert store.part("ab12") is None

    def test_arrays_that_disagree_on_a_length_are_not_published(self, store: ArtifactStore) -> None:
        arrays = embeddings()
        arrays["point_index"] = arrays["point_index"][:-1]
        with pytest.raises(StoreCorrupt, match="covered_point"):
            put(store, "ab12", "room", arrays)
        assert store.part("ab12") is None

    def test_a_point_count_that_is_not_the_arrays_is_not_published(self, store: ArtifactStore) -> None:
        with pytest.raises(StoreCorrupt, match="num_points says 299"):
            write(store, {"labels": np.zeros(300, np.int16)}, "ground_truth", num_points=299)
        assert store.part("ab12") is None

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("dtype", ["float16", "float32"])
    def test_a_value_that_is_not_finite_is_refused_by_row(self, store: ArtifactStore, value: float, dtype: str) -> None:
        kind: ArtifactKind = "embeddings" if dtype == "float16" else "scenes"
        name = "embeddings" if dtype == "float16" else "points"
        values = np.zeros((20_000, 3), dtype)
        values[17_123, 1] = value
        with pytest.raises(StoreCorrupt, match=f"row 17123 .*{name}.*room-7") as caught:
            write(store, {name: values}, kind)
        assert caught.value.scene == "room-7"
        assert store.part("ab12") is None

    def test_scaled_embeddings_read_as_what_number_times_scale_is(self, store: ArtifactStore) -> None:
        arrays = embeddings(dimension=40)
        numbers = np.random.default_rng(0).integers(-127, 128, (200, 40)).astype(np.int8)
        scales = np.random.default_rng(1).uniform(0.01, 2, (200, 2)).astype(np.float16)
        write(store, {**arrays, "embeddings": numbers, "scales": scales})
        part = store.part("ab12")
        assert part is not None
        by_hand = [[np.float16(np.float32(n) * np.float32(scales[i, j // 32])) for j, n in enumerate(row)]
                   for i, row in enumerate(numbers)]  # fmt: skip
        assert part.array("embeddings").dtype == np.float16
        np.testing.assert_array_equal(part.array("embeddings"), np.array(by_hand))
        np.testing.assert_array_equal(part.array("scales"), scales)

    def test_float32_embeddings_read_as_they_are(self, store: ArtifactStore) -> None:
        values = np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)
        write(store, {**embeddings(), "embeddings": values})
        part = store.part("ab12")
        assert part is not None
        assert part.array("embeddings").dtype == np.float32
        np.testing.assert_array_equal(part.array("embeddings"), values)

    @pytest.mark.parametrize(
        ("dtype", "scales", "words"),
        [("int8", None, "misses the array scales"), ("float16", 2, "not int8"), ("int8", 1, "expected 2")],
    )
    def test_numbers_and_scales_belong_together(
        self, store: ArtifactStore, dtype: str, scales: int | None, words: str
    ) -> None:
        arrays = {**embeddings(dimension=40), "embeddings": np.ones((200, 40), dtype)}
        if scales is not None:
            arrays["scales"] = np.ones((200, scales), np.float16)
        with pytest.raises(StoreCorrupt, match=words):
            write(store, arrays)
        assert store.part("ab12") is None

    def test_arrays_that_are_not_of_the_kind_are_refused(self, store: ArtifactStore) -> None:
        arrays = embeddings()
        with store.write_part("ab12", kind="embeddings", scene="room", token=TOKEN) as writer:
            with pytest.raises(SpecInvalid, match="confidence"):
                writer.write("confidence", arrays["views"])
            with pytest.raises(SpecInvalid, match="float64"):
                writer.write("embeddings", arrays["embeddings"].astype(np.float64))
            with pytest.raises(SpecInvalid, match="dims"):
                writer.write("embeddings", arrays["embeddings"][0])
            for name, values in arrays.items():
                writer.write(name, values)
            with pytest.raises(SpecInvalid, match="written before"):
                writer.write("views", arrays["views"])
        assert store.part("ab12") is not None

    @pytest.mark.parametrize("value", [float("nan"), {1, 2}, object()])
    def test_attributes_that_json_cannot_hold_are_refused(self, store: ArtifactStore, value: object) -> None:
        with pytest.raises(SpecInvalid, match="odd"):
            write(store, {}, "ground_truth", odd=value)

    @pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "/a", "a\\b", ".hidden", "a\0", "x" * 129])
    def test_file_names_that_leave_the_part_are_refused(self, store: ArtifactStore, name: str) -> None:
        with pytest.raises(InvalidInput), store.write_part("ab12", kind="figures", scene=WHOLE, token=TOKEN) as writer:
            writer.path(name)
        assert store.part("ab12") is None

    def test_files_only_lie_where_the_kind_has_them_and_a_checkpoint_has_some(self, store: ArtifactStore) -> None:
        with (
            pytest.raises(SpecInvalid, match="no plain files"),
            store.write_part("ab12", kind="ground_truth", scene="room", token=TOKEN) as writer,
        ):
            writer.path("a.txt")
        with pytest.raises(StoreCorrupt), store.write_part("ab12", kind="checkpoint", scene=WHOLE, token=TOKEN):
            pass
        assert store.part("ab12") is None

    @pytest.mark.parametrize("key", ["", "a", "..", "../x", "a/b", "a b", "ab\n"])
    def test_keys_and_tokens_that_are_no_names_are_refused(self, store: ArtifactStore, key: str) -> None:
        assert store.part(key) is None
        assert store.entry(key) is None
        assert store.manifest(key) is None
        with pytest.raises(InvalidInput), store.write_part(key, kind="figures", scene=WHOLE, token=TOKEN):
            pass
        with pytest.raises(InvalidInput), store.write_part("ab12", kind="figures", scene=WHOLE, token=key):
            pass
        with pytest.raises(InvalidInput):
            store.publish(artifact(key), token=TOKEN)

    def test_kinds_and_scenes_must_fit(self, store: ArtifactStore) -> None:
        with pytest.raises(UnknownName), store.write_part("ab12", kind="rooms", scene="r", token=TOKEN):  # type: ignore[arg-type]
            pass
        with pytest.raises(SpecInvalid), store.write_part("ab12", kind="embeddings", scene=WHOLE, token=TOKEN):
            pass
        with pytest.raises(SpecInvalid), store.write_part("ab12", kind="checkpoint", scene="room", token=TOKEN):
            pass

    def test_what_a_part_does_not_hold_is_not_found(self, store: ArtifactStore) -> None:
        put(store, "ab12", "room", embeddings())
        part = store.part("ab12")
        assert part is not None
        with pytest.raises(NotFound, match="labels"):
            part.array("labels")
        with pytest.raises(NotFound, match=r"a\.png"):
            part.file("a.png")
        with pytest.raises(NotFound):
            part.file("../manifest.json")

    def test_an_artifact_is_published_once_and_read_back(self, store: ArtifactStore) -> None:
        parts = put(store, "ab12", "room-1", embeddings(1)), put(store, "cd34", "room-2", embeddings(2))
        manifest = artifact("beef01", *parts)
        digest = store.publish(manifest, token=TOKEN)
        assert store.manifest("beef01") == manifest
        assert manifest.scenes == ("room-1", "room-2")
        assert scene_of(manifest, "room-2") == parts[1]
        assert store.publish(artifact("beef01", parts[0]), token=TOKEN) == digest
        assert store.manifest("beef01") == manifest
        store.publish(artifact("beef00", parts[0]), token=TOKEN)
        assert list(store.artifacts()) == ["beef00", "beef01"]
        assert store.verify("beef01") == []

    def test_an_artifact_of_parts_that_are_not_there_is_not_published(self, store: ArtifactStore) -> None:
        part = put(store, "ab12", "room-1", embeddings())
        absent = PartEntry("room-2", "cd34", "0" * 64)
        other = PartEntry("room-1", "ab12", "0" * 64)
        for entry in (absent, other):
            with pytest.raises(StoreCorrupt, match=entry.scene):
                store.publish(artifact("beef01", part, entry), token=TOKEN)
        assert store.manifest("beef01") is None
        assert list(store.artifacts()) == []

    def test_a_swept_writer_cannot_publish_and_a_living_one_can(self, store: ArtifactStore) -> None:
        def sweep_midway(token: str, swept: int) -> None:
            with store.write_part("ab12", kind="embeddings", scene="room", token=token) as writer:
                for name, values in embeddings().items():
                    writer.write(name, values)
                assert store.sweep(frozenset({"alive"})) == swept

        with pytest.raises(StoreCorrupt, match="swept"):
            sweep_midway("dead", 1)
        assert store.part("ab12") is None
        sweep_midway("alive", 0)
        assert store.part("ab12") is not None

    def test_what_is_staged_is_listed_and_only_what_was_listed_is_swept(self, store: ArtifactStore) -> None:
        listed = store.staged()
        assert listed == frozenset()
        with store.write_part("ab12", kind="embeddings", scene="room", token="late") as writer:
            for name, values in embeddings().items():
                writer.write(name, values)
            assert store.staged() == {"late"}
            assert store.sweep(frozenset(), among=listed) == 0
        assert store.part("ab12") is not None
        assert store.staged() == frozenset()

    def test_a_plain_file_that_was_changed_is_found_and_named(self, store: ArtifactStore) -> None:
        with store.write_part("ab12", kind="figures", scene=WHOLE, token=TOKEN) as writer:
            writer.path("room.png").write_bytes(b"picture")
            writer.path("other.png").write_bytes(b"picture")
        part, entry = store.part("ab12"), store.entry("ab12")
        assert part is not None
        assert entry is not None
        store.publish(artifact("beef01", entry, kind="figures"), token=TOKEN)
        part.file("room.png").write_bytes(b"Picture")
        (fault,) = store.verify("beef01")
        assert "room.png" in fault
        assert "ab12" in fault

    def test_what_is_withdrawn_is_gone_and_what_it_shares_stays(self, store: ArtifactStore) -> None:
        one, two = put(store, "ab12", "room-1", embeddings(1)), put(store, "cd34", "room-2", embeddings(2))
        small, large = artifact("5ma11", one), artifact("1a46e", one, two)
        for manifest in (small, large):
            store.publish(manifest, token=TOKEN)
        assert store.is_whole(small) and store.is_whole(large)
        store.withdraw("1a46e", ["cd34"])
        assert (store.part("cd34"), store.entry("cd34"), store.manifest("1a46e")) == (None, None, None)
        assert list(store.artifacts()) == ["5ma11"]
        assert store.verify("5ma11") == []
        assert store.is_whole(small) and not store.is_whole(large)
        store.withdraw("1a46e", ["cd34"])
        assert store.clear() == 2
        assert store.clear() == 0
        assert put(store, "cd34", "room-2", embeddings(2)) == two
        store.publish(large, token=TOKEN)
        assert store.is_whole(large)

    def test_parts_are_listed_while_they_are_published(self, store: ArtifactStore) -> None:
        assert list(store.parts()) == []
        for key in ("ab12", "ab34", "cd56"):
            put(store, key, "room-1", embeddings())
        assert sorted(store.parts()) == ["ab12", "ab34", "cd56"]
        store.withdraw("none", ["ab34"])
        assert sorted(store.parts()) == ["ab12", "cd56"]

    def test_an_artifact_whose_part_was_withdrawn_is_not_published(self, store: ArtifactStore) -> None:
        entry = put(store, "ab12", "room-1", embeddings())
        store.withdraw("none", ["ab12"])
        with pytest.raises(StoreCorrupt, match="publish the part first"):
            store.publish(artifact("5ma11", entry), token=TOKEN)
        assert store.manifest("5ma11") is None

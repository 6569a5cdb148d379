"""Every bit counts: one that flips in any file of any kind of artifact is found, and named with scene and file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage import keys
from storage.artifacts import checking
from storage.artifacts.kinds import KINDS
from storage.artifacts.memory_store import MemoryStore
from storage.artifacts.store import WHOLE, ArtifactManifest, ArtifactStore
from storage.artifacts.zarr_store import ZarrStore
from storage.specs.spec import ArtifactKind
from tests.conformance.artifact_store import Arrays, embeddings

KEY, PART = "beef01", "ab12"


def publish(
    store: ArtifactStore, kind: ArtifactKind, arrays: Arrays, dimension: int = 8, **about: Any
) -> tuple[ArtifactManifest, str]:
    """An artifact of one part (of the scene room-3 where its kind has scenes), and the digest that is recorded."""
    scene = "room-3" if KINDS[kind].scene_wise else WHOLE
    with store.write_part(PART, kind=kind, scene=scene, token="t1") as part:
        for name, values in arrays.items():
            part.write(name, values)
        if KINDS[kind].files:
            part.path("weights.bin").write_bytes(b"weights")
        part.set(**about)
    entry = store.entry(PART)
    assert entry is not None
    manifest = ArtifactManifest(
        KEY, kind, "extract", kind, {"stage": "extract"}, {}, (entry,), {"dimension": dimension}
    )
    return manifest, store.publish(manifest, token="t1")


def of_kind(kind: ArtifactKind) -> Arrays:
    """Arrays of a kind; of embeddings such as pass for real, and so many that they are several chunks in a shard."""
    if kind == "embeddings":
        return embeddings(num_points=60_000, covered=50_000, dimension=64)
    lengths = {"xyz": 3, "rgb": 3, "row": 3, "column": 3}
    return {
        name: np.ones([lengths.get(dim, 5) for dim in array.dims], array.dtype)
        for name, array in KINDS[kind].arrays.items()
    }


def found(store: ArtifactStore, manifest: ArtifactManifest, recorded: str) -> list[str]:
    """All faults, as a verification looks for them."""
    faults = checking.manifest_faults(store, KEY, recorded)
    return [*faults, *(one for entry in manifest.parts for one in checking.part_faults(store, manifest, entry))]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_flipped_bit_in_any_file_is_found_and_named(kind: ArtifactKind, tmp_path: Path) -> None:
    store = ZarrStore(tmp_path)
    manifest, recorded = publish(store, kind, of_kind(kind), dimension=64)
    assert found(store, manifest, recorded) == []
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    folder = store.part_path(PART)
    looked = {path.relative_to(folder).as_posix() for path in files if path.is_relative_to(folder)}
    assert {"zarr.json", "manifest.json"} <= looked
    needed = [name for name, array in KINDS[kind].arrays.items() if array.required]
    assert {f"{name}/zarr.json" for name in needed} <= looked
    assert all(any(file.startswith(f"{name}/c/") for file in looked) for name in needed)
    rng = np.random.default_rng(0)
    for path in files:
        whole = path.read_bytes()
        for place in {0, len(whole) - 1, *rng.integers(0, len(whole), 6).tolist()}:
            bit = 1 << int(rng.integers(8))
            path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
            faults = found(store, manifest, recorded)
            assert len(faults) == 1, (path, place, bit)
            if path == store.artifact_path(KEY):
                assert f"the manifest of the artifact {KEY} was changed" in faults[0]
            else:
                assert path.relative_to(folder).as_posix() in faults[0]
                assert f"the part {PART} (scene {manifest.parts[0].scene or 'none'})" in faults[0]
        path.write_bytes(whole)
    assert found(store, manifest, recorded) == []


def test_a_missing_manifest_and_a_missing_part(tmp_path: Path) -> None:
    store = ZarrStore(tmp_path)
    manifest, recorded = publish(store, "embeddings", embeddings())
    store.part_path(PART).rename(tmp_path / "elsewhere")
    store.artifact_path(KEY).parent.rename(tmp_path / "artifacts" / "beef02")
    assert found(store, manifest, recorded) == [
        f"the manifest of the artifact {KEY} is missing from the store",
        f"the part {PART} (scene room-3) is missing from the store",
    ]


def change(name: str, at: Any, value: Any) -> Arrays:
    """Sound embeddings with something changed before they are published: the bytes are as published then."""
    arrays = embeddings()
    arrays[name][at] = value
    return arrays


def swapped() -> Arrays:
    arrays = embeddings()
    arrays["point_index"][[4, 5]] = arrays["point_index"][[5, 4]]
    return arrays


@pytest.mark.parametrize(
    ("arrays", "about", "words"),
    [
        (change("embeddings", 3, 0), {}, "embedding of zeros"),
        (change("point_index", -1, 300), {}, "point_index runs from .* to 300, of 300 points"),
        (change("point_index", 0, -1), {}, "point_index runs from -1"),
        (swapped(), {}, "does not rise strictly"),
        (change("views", slice(None), 1), {}, "views: the points"),
        (embeddings(dimension=6), {}, "dimension is 6, 8 was recorded"),
        (embeddings(), {"num_covered": 3}, "num_covered is 200, 3 was recorded"),
        (embeddings(), {"norms": {"least": 0.99, "largest": 1.01}}, r"norms run from .* 0\.99 to 1\.01 were recorded"),
    ],
)
def test_values_that_cannot_be_right_are_named(arrays: Arrays, about: dict[str, Any], words: str) -> None:
    store = MemoryStore()
    manifest, recorded = publish(store, "embeddings", arrays, **about)
    (fault,) = found(store, manifest, recorded)
    assert re.search(words, fault), fault
    assert "(scene room-3)" in fault


def test_norms_are_those_of_numpy_and_what_was_recorded_passes() -> None:
    arrays = embeddings(covered=200)
    norms = checking.Norms.of(arrays["embeddings"])
    expected = np.sqrt((arrays["embeddings"].astype(np.float64) ** 2).sum(1))
    np.testing.assert_allclose([norms.least, norms.largest], [expected.min(), expected.max()], rtol=1e-6)
    store = MemoryStore()
    manifest, recorded = publish(store, "embeddings", arrays, norms=norms.as_attribute())
    assert found(store, manifest, recorded) == []


def scene_of_points(store: ArtifactStore, points: np.ndarray, order: str) -> Any:
    with store.write_part("cd34", kind="scenes", scene="room-3", token="t1") as part:
        part.write("points", points)
        part.write("colours", np.zeros((len(points), 3), np.uint8))
        part.write("intrinsics", np.zeros((0, 3, 3)))
        part.write("camera_to_world", np.zeros((0, 4, 4)))
        part.set(num_points=len(points), point_order=order)
    return store.part("cd34")


def test_the_order_of_the_points_is_held_against_the_points_themselves() -> None:
    points = np.random.default_rng(0).random((300, 3)).astype(np.float32)
    order = keys.point_order(points)
    for kept, named, words in (
        (points, order, None),
        (points[::-1].copy(), order, "have the order digest"),
        (points, "another", "was made for points with the order digest"),
    ):
        store = MemoryStore()
        publish(store, "embeddings", embeddings(), point_order=order, num_points=300)
        part = store.part(PART)
        assert part is not None
        faults = checking.order_faults(part, scene_of_points(store, kept, named))
        assert faults == [] if words is None else words in faults[0]

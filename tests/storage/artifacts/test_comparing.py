"""Feature stores side by side, against NumPy in float64 and values whose distance is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from storage.artifacts.comparing import Limits, Side, apart, compare, cosines, differences, steps_allowed, steps_apart
from storage.artifacts.memory_store import MemoryStore
from storage.artifacts.scaled import encode
from storage.artifacts.store import ArtifactManifest, PartReader
from storage.errors import NotFound, SpecInvalid
from tests.conformance.artifact_store import Arrays, embeddings


def side(scenes: dict[str, Arrays], key: str = "beef", order: dict[str, str] | None = None, **changes: Any) -> Side:
    """An artifact in a store of its own; by default all scenes have the order "abc"."""
    store = MemoryStore()
    entries = []
    for scene, arrays in scenes.items():
        with store.write_part(f"{key}{scene}", kind="embeddings", scene=scene, token="t1") as part:
            for name, values in arrays.items():
                part.write(name, values)
            part.set(num_points=len(arrays["views"]), point_order=(order or {}).get(scene, "abc"))
        entry = store.entry(f"{key}{scene}")
        assert entry is not None
        entries.append(entry)
    spec = {"stage": "extract", "lifting": {"width": 320, "height": 240}}
    fields: dict[str, Any] = {"spec": spec, "inputs": {"scenes": "points"}, "attributes": {"dimension": 8}, **changes}
    manifest = ArtifactManifest(key, "embeddings", "extract", "embeddings", parts=tuple(entries), **fields)
    store.publish(manifest, token="t1")
    return Side.of(store, key)


def moved(arrays: Arrays, factor: float) -> Arrays:
    """The same points with embeddings a factor away, rounded once to float16."""
    return arrays | {"embeddings": (arrays["embeddings"].astype(np.float64) * factor).astype(np.float16)}


def test_parts_equal_to_the_byte_are_not_read() -> None:
    scenes = {"a": embeddings(1), "b": embeddings(2)}
    found = compare(side(scenes), side(scenes))
    assert (found.verdict, found.same, found.compared, found.cosines) == ("same", ("a", "b"), (), None)
    assert found.differences == ()


def test_rounding_is_told_from_a_difference() -> None:
    left = {"a": embeddings(1)}
    near = compare(side(left), side({"a": moved(left["a"], 1 + 2.0**-11)}))
    assert near.verdict == "rounding"
    assert 0 < near.compared[0].steps <= 1
    far = compare(side(left), side({"a": moved(left["a"], 1 + 2.0**-7)}))
    assert far.verdict == "different"
    assert far.compared[0].steps > 1
    assert far.cosines is not None and far.cosines.least > 0.9999, "a factor turns no vector"


def test_one_value_that_is_two_steps_off_is_a_difference() -> None:
    arrays = embeddings(1)
    other = arrays | {"embeddings": arrays["embeddings"].copy()}
    column = int(np.abs(arrays["embeddings"][17]).argmax())
    value = other["embeddings"][17, column]
    other["embeddings"][17, column] = np.nextafter(np.nextafter(value, np.float16(0)), np.float16(0))
    found = compare(side({"a": arrays}), side({"a": other}))
    assert found.verdict == "different"
    assert 1 <= found.compared[0].steps <= 2.01


def test_the_distribution_is_that_of_the_common_points() -> None:
    left, right = embeddings(1, covered=200), embeddings(5, covered=180)
    found = compare(side({"a": left}), side({"a": right}), Limits(rows=None))
    shared = sorted(set(left["point_index"].tolist()) & set(right["point_index"].tolist()))
    expected = []
    for point in shared:
        a = left["embeddings"][left["point_index"].tolist().index(point)].astype(np.float64)
        b = right["embeddings"][right["point_index"].tolist().index(point)].astype(np.float64)
        expected.append(a @ b / np.sqrt(a @ a) / np.sqrt(b @ b))
    assert found.cosines is not None
    assert found.cosines.num_rows == len(shared)
    np.testing.assert_allclose(found.cosines.least, min(expected), atol=1e-6)
    np.testing.assert_allclose(found.cosines.mean, np.mean(expected), atol=1e-6)
    for name, value in found.cosines.percentiles.items():
        np.testing.assert_allclose(value, np.percentile(expected, name), atol=1e-6)
    (scene,) = found.compared
    assert (scene.num_common, scene.num_left, scene.num_right) == (len(shared), 200, 180)
    assert found.verdict == "different"


def test_other_points_and_other_dimensions_are_named_and_not_compared() -> None:
    left = side({"a": embeddings(1), "b": embeddings(2), "c": embeddings(3)})
    right = side(
        {"a": embeddings(4), "b": embeddings(5, dimension=4), "d": embeddings(6)}, order={"a": "other"}
    )  # fmt: skip
    found = compare(left, right)
    assert found.other_order == ("a", "b")
    assert (found.only_left, found.only_right, found.num_common) == (("c",), ("d",), 2)
    assert (found.cosines, found.verdict) == (None, "different")
    assert compare(side({"a": embeddings(1)}), side({"b": embeddings(1)})).verdict == "not compared"


class Counted(MemoryStore):
    """Counts the arrays that are read."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner, self.opened = inner, 0

    def part(self, key: str) -> PartReader | None:
        self.opened += 1
        found: PartReader | None = self.inner.part(key)
        return found


@pytest.mark.parametrize("order", [None, "other"])
def test_the_work_is_bounded_and_what_was_left_out_is_said(order: str | None) -> None:
    names = [f"s{number}" for number in range(10)]
    left = side({name: embeddings(number) for number, name in enumerate(names)})
    orders = dict.fromkeys(names, order) if order else None
    right = side({name: embeddings(number + 50) for number, name in enumerate(names)}, order=orders)
    counted = Side(Counted(left.store), left.manifest)
    found = compare(counted, right, Limits(scenes=3, rows=20))
    assert isinstance(counted.store, Counted) and counted.store.opened == 3
    assert len(found.not_read) == 7
    assert len(found.compared) + len(found.other_order) == 3
    assert all(one.num_rows <= 20 for one in found.compared)
    assert compare(left, right, Limits(scenes=3, rows=20)) == found, "the sample is always the same"
    one_scene = 2 * max(entry.num_bytes for entry in left.manifest.parts)
    few = compare(left, right, Limits(num_bytes=one_scene))
    assert len(few.not_read) == 9


def test_it_stops_when_it_is_told_to() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(side({"a": embeddings(1)}), side({"a": embeddings(2)}), check=stop)


def test_differences_are_named_by_their_dotted_path() -> None:
    left = side({"a": embeddings()}, attributes={"dimension": 8, "splits": {"a": "train"}, "encoder": {"name": "x"}})
    spec = {"stage": "extract", "lifting": {"width": 640, "height": 240}}
    right = side({"a": embeddings()}, spec=spec, inputs={"scenes": "points", "weights": "w"})
    found = {one.name: (one.left, one.right) for one in differences(left.manifest, right.manifest)}
    assert found == {
        "spec.lifting.width": (320, 640), "inputs.weights": (None, "w"), "attributes.encoder.name": ("x", None),
    }  # fmt: skip


def test_what_is_no_feature_store_is_refused() -> None:
    store = MemoryStore()
    with pytest.raises(NotFound, match="beef"):
        Side.of(store, "beef")
    with store.write_part("ab12", kind="figures", scene="", token="t1") as part:
        part.path("a.png").write_bytes(b"x")
    entry = store.entry("ab12")
    assert entry is not None
    store.publish(ArtifactManifest("beef", "figures", "report", "figures", {}, {}, (entry,)), token="t1")
    with pytest.raises(SpecInvalid, match="kind figures"):
        Side.of(store, "beef")


def test_cosines_and_steps_of_long_arrays() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(9000, 6)).astype(np.float16), rng.normal(size=(9000, 6)).astype(np.float16)
    x, y = a.astype(np.float64), b.astype(np.float64)
    expected = (x * y).sum(1) / np.sqrt((x * x).sum(1) * (y * y).sum(1))
    np.testing.assert_allclose(cosines(a, b), expected, atol=1e-6)
    assert steps_apart(a, a) == 0.0
    c = a.copy()
    c[8999] = np.nextafter(c[8999], np.float16(np.inf))
    assert 0 < steps_apart(a, c) <= 1


def as_int8(values: Any, by: int = 0) -> Arrays:
    """Embeddings as int8, the numbers of the first column `by` steps off."""
    numbers, scales = encode(values)
    numbers[:, 0] = np.where(numbers[:, 0] > 0, numbers[:, 0] - by, numbers[:, 0] + by)
    return {"embeddings": numbers, "scales": scales}


def test_stores_of_int8_agree_within_a_step_of_int8() -> None:
    made = embeddings(1)
    left = made | as_int8(made["embeddings"])
    near = compare(side({"a": left}), side({"a": made | as_int8(made["embeddings"], 1)}))
    (scene,) = near.compared
    assert near.verdict == "rounding" and 1 < scene.steps <= scene.steps_allowed == 17
    assert compare(side({"a": left}), side({"a": made})).verdict == "rounding", "one side is the coarser one"
    far = compare(side({"a": left}), side({"a": made | as_int8(made["embeddings"], 5)}))
    assert far.verdict == "different"
    assert compare(side({"a": made}), side({"a": moved(made, 1 + 2.0**-8)})).verdict == "different"


def test_stores_of_float32_agree_within_a_step_of_float16() -> None:
    made = embeddings(1)
    left = made | {"embeddings": made["embeddings"].astype(np.float32)}
    near = compare(side({"a": left}), side({"a": made | {"embeddings": left["embeddings"] * np.float32(1 + 2.0**-12)}}))
    assert near.verdict == "rounding" and near.compared[0].steps_allowed == 1
    far = compare(side({"a": left}), side({"a": made | {"embeddings": left["embeddings"] * np.float32(1 + 2.0**-8)}}))
    assert far.verdict == "different"


@pytest.mark.parametrize(("by", "agree"), [(1, True), (5, False)])
def test_what_was_made_again_may_differ_by_what_two_stores_may(by: int, agree: bool) -> None:
    made = embeddings(1)
    left, right = (side({"a": made | as_int8(made["embeddings"], number)}) for number in (0, by))
    published, again = left.open(left.entries()["a"]), right.open(right.entries()["a"])
    assert steps_allowed(published, again) == 17
    assert (apart(published, again) == "") == agree == (compare(left, right).verdict == "rounding")

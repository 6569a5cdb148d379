"""docs/format.md, written by: keys derived and a store made from its text with hashing, struct and JSON alone.

Nothing of the store's code is used for deriving or writing; vlglab's own reader, checks and keys say whether it is so.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import blake3
import numpy as np
import pytest

from storage.artifacts import checking, copies
from storage.artifacts.kinds import KINDS
from storage.artifacts.store import PartEntry, PartReader
from storage.artifacts.zarr_store import ZarrStore
from storage.labels import LABEL_SETS
from storage.specs import stages
from storage.specs.stages import STAGES
from tests.conformance.artifact_store import embeddings
from tests.storage.artifacts.test_format import FORMAT, crc32c
from tests.workers.stages import boxes
from tests.workers.stages.rooms import HERE, REFUSE, Rooms
from workers import trial

TEXT = FORMAT.read_text(encoding="utf-8")


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(value: Any) -> str:
    return blake3.blake3(canonical(value)).hexdigest()[:32]


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without its first two lines."""
    section = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def words(cell: str) -> list[str]:
    """What stands in backticks, without what is explained in brackets."""
    return re.findall(r"`([^`]+)`", re.sub(r"\([^)]*\)", "", cell))


def rules() -> dict[str, tuple[int, dict[str, Any], set[str]]]:
    """Stage -> its algorithm, its added fields with their values, its fields that choose scenes."""
    found = {}
    for stage, algorithm, added, choose in rows("Keys"):
        values = {name: json.loads(value) for name, value in re.findall(r"`([\w.]+)` = `([^`]+)`", added)}
        found[words(stage)[0]] = int(algorithm), values, set(words(choose))
    return found


def keyed(stage: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A manifest's spec as it enters keys."""
    fields: dict[str, Any] = json.loads(json.dumps(spec))
    for path, before in rules()[stage][1].items():
        *outer, name = path.split(".")
        holder = fields
        for part in outer:
            holder = holder[part]
        if holder[name] == before:
            del holder[name]
    return fields


def artifact_key(stage: str, output: str, spec: dict[str, Any], inputs: dict[str, str]) -> str:
    algorithm = rules()[stage][0]
    fields = keyed(stage, spec)
    return digest({"stage": stage, "output": output, "algorithm": algorithm, "spec": fields, "inputs": inputs})


def scene_key(stage: str, output: str, spec: dict[str, Any], inputs: dict[str, str]) -> str:
    algorithm, _, choose = rules()[stage]
    fields = {name: value for name, value in keyed(stage, spec).items() if name not in choose}
    return digest({"scene_of": stage, "output": output, "algorithm": algorithm, "spec": fields, "inputs": inputs})


def test_the_table_of_stages_is_what_the_code_has() -> None:
    expected = {
        name: (model.algorithm, dict(model.added), set(model.scene_choosing))
        for name, model in STAGES.items()
        if model.outputs and name not in ("pull", "repair")
    }
    assert rules() == expected


def test_the_table_of_label_sets_is_what_the_code_has() -> None:
    said = {words(name)[0]: tuple(classes.split(", ")) for name, classes in rows("Label sets")}
    assert said == {name: known.classes for name, known in LABEL_SETS.items()}


def manifest(store: ZarrStore, key: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((store.root / "artifacts" / key / "manifest.json").read_bytes())
    return found


@pytest.mark.parametrize("fields", [{}, {"dtype": "int8"}, {"splits": ("train",)}])
def test_keys_of_artifacts_and_scenes_are_derived_from_manifests_by_the_text(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    store = ZarrStore(tmp_path / "store")
    rooms = Rooms(tmp_path / "s3dis", store)
    rooms.add("office_1", HERE)
    made = rooms.extract(REFUSE.model_copy(update=fields)).artifacts["embeddings"]
    said = manifest(store, made.key)
    assert artifact_key("extract", said["output"], said["spec"], said["inputs"]) == made.key
    points = manifest(store, said["inputs"]["scenes"])
    assert artifact_key("ingest", points["output"], points["spec"], points["inputs"]) == points["key"]
    of = {part["scene"]: part["key"] for part in points["parts"]}
    for part in said["parts"]:
        inputs = {"scenes": of[part["scene"]], "weights": said["inputs"]["weights"], "scene": part["scene"]}
        assert scene_key("extract", "embeddings", said["spec"], inputs) == part["key"]


def test_the_only_part_of_an_output_without_scenes_has_a_key_of_the_text(tmp_path: Path) -> None:
    store = ZarrStore(tmp_path)
    spec = stages.parse({"stage": "embed_labels", "label_set": "s3dis13"})
    made = trial.run_stage(spec, store).artifacts["text_embeddings"]
    said = manifest(store, made.key)
    assert artifact_key("embed_labels", "text_embeddings", said["spec"], said["inputs"]) == made.key
    part = artifact_key("embed_labels", "text_embeddings/part", said["spec"], said["inputs"])
    assert [line["key"] for line in said["parts"]] == [part]


def test_added_fields_within_others_leave_keys_as_they_were() -> None:
    for values in ({}, {"coarse_epochs": 3}):
        spec = stages.parse({"stage": "supervise", "training": values})
        assert keyed("supervise", spec.model_dump(mode="json")) == spec.keyed()


def test_every_kind_with_arrays_has_a_row_and_the_stages_write_what_it_names(tmp_path: Path) -> None:
    store = ZarrStore(tmp_path / "store")
    rooms = Rooms(tmp_path / "s3dis", store)
    rooms.add("office_1", HERE)
    made = list(rooms.extract(REFUSE.model_copy(update={"dtype": "int8"})).artifacts.values())
    made.append(
        trial.run_stage(stages.parse({"stage": "embed_labels", "label_set": "s3dis13"}), store).artifacts[
            "text_embeddings"
        ]
    )
    scenes = store.manifest(made[0].inputs["scenes"])
    assert scenes is not None
    inputs = {"scenes": scenes, "embeddings": made[0], "text_embeddings": made[1]}
    made.append(trial.run_stage(stages.parse({"stage": "pseudo_label"}), store, inputs).artifacts["labels"])
    ingested = trial.run_stage(stages.parse({"stage": "ingest", "label_set": "s3dis13"}), store, dataset=rooms.dataset)
    made += ingested.artifacts.values()
    table = {words(kind)[0]: (words(part), words(artifact)) for kind, part, artifact in rows("Attributes by kind")}
    assert set(table) == {kind for kind, layout in KINDS.items() if layout.arrays} - {"evaluation"}
    assert {one.kind for one in made} == set(table)
    for one in made:
        of_part, of_artifact = table[one.kind]
        part = store.part(one.parts[0].key)
        assert part is not None
        assert not set(of_part) - set(part.attributes), one.kind
        assert not set(of_artifact) - set(one.attributes), one.kind


def metadata(values: np.ndarray) -> dict[str, Any]:
    """The zarr.json of an array that is one chunk."""
    codecs: list[dict[str, Any]] = [{"name": "bytes"}, {"name": "crc32c"}]
    if values.itemsize > 1:
        codecs[0]["configuration"] = {"endian": "little"}
    return {
        "zarr_format": 3, "node_type": "array", "shape": list(values.shape), "data_type": values.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(values.shape)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0, "codecs": codecs, "attributes": {}, "storage_transformers": [],
    }  # fmt: skip


def write(root: Path, key: str, arrays: dict[str, np.ndarray], attributes: dict[str, Any]) -> bytes:
    """Writes a store with one artifact of embeddings of one scene, by the text; the artifact's manifest."""
    part = digest([key, "room"])
    folder = root / "parts" / part[:2] / part
    described = {name: metadata(values) for name, values in arrays.items()}
    group = {
        "zarr_format": 3, "node_type": "group", "attributes": attributes,
        "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": described},
    }  # fmt: skip
    files = {"zarr.json": json.dumps(group).encode()}
    for name, values in arrays.items():
        files[f"{name}/zarr.json"] = json.dumps(described[name]).encode()
        content = values.astype(values.dtype.newbyteorder("<")).tobytes()
        chunk = "/".join([name, "c", "0", *["0"] * (values.ndim - 1)])
        files[chunk] = content + crc32c(content).to_bytes(4, "little")
    version = 2 if "scales" in arrays else 1
    held = canonical({
        "format_version": version, "key": part, "kind": "embeddings", "scene": "room",
        "arrays": {name: {"shape": list(v.shape), "dtype": v.dtype.name} for name, v in arrays.items()},
        "files": {name: {"blake3": blake3.blake3(c).hexdigest(), "bytes": len(c)} for name, c in files.items()},
        "attributes": {name: attributes[name] for name in ("num_points", "point_order", "split")},
    })  # fmt: skip
    for name, content in {**files, "manifest.json": held}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    line = {
        "scene": "room", "key": part, "digest": blake3.blake3(held).hexdigest(), "points": attributes["num_points"],
        "bytes": sum(map(len, files.values())),
    }  # fmt: skip
    content = canonical({
        "format_version": 1, "key": key, "kind": "embeddings", "stage": "ours", "output": "embeddings",
        "spec": {"stage": "ours", "net": 7}, "inputs": {"scenes": "f00d"}, "parts": [line],
        "attributes": {"splits": {"room": "train"}, "dimension": 40, "dtype": arrays["embeddings"].dtype.name},
    })  # fmt: skip
    (root / "artifacts" / key).mkdir(parents=True)
    (root / "artifacts" / key / "manifest.json").write_bytes(content)
    return content


def written(root: Path, dtype: str, **changes: np.ndarray) -> tuple[list[str], PartReader, dict[str, np.ndarray]]:
    """A store that was written by the text: what a verification finds of it, its part, and what was written."""
    arrays = embeddings(dimension=40)
    attributes = {"num_points": 300, "point_order": "ab" * 16, "split": "train"}
    if dtype == "int8":
        rng = np.random.default_rng(0)
        arrays |= {
            "embeddings": rng.integers(-127, 128, (200, 40)).astype(np.int8),
            "scales": rng.uniform(0.001, 0.01, (200, 2)).astype(np.float16),
        }
        attributes |= {"dtype": "int8", "scale_block": 32}
    arrays |= changes
    content = write(root, "0a" * 16, arrays, attributes)
    store = ZarrStore(root)
    said = store.manifest("0a" * 16)
    assert said is not None
    (entry,) = said.parts
    faults = checking.manifest_faults(store, said.key, blake3.blake3(content).hexdigest())
    faults += checking.part_faults(store, said, entry)
    copies.check_part(
        store.part_path(entry.key), PartEntry(entry.scene, entry.key, entry.digest, 300, entry.num_bytes), "embeddings"
    )
    part = store.part(entry.key)
    assert part is not None
    return faults, part, arrays


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_a_store_that_is_written_by_the_text_is_read_verified_and_may_be_pulled(tmp_path: Path, dtype: str) -> None:
    faults, part, arrays = written(tmp_path, dtype)
    assert faults == []
    np.testing.assert_array_equal(part.array("point_index"), arrays["point_index"])
    expected = arrays["embeddings"]
    if dtype == "int8":
        wide = np.repeat(arrays["scales"].astype(np.float32), 32, axis=1)[:, :40]
        expected = (expected * wide).astype(np.float16)
    np.testing.assert_array_equal(part.array("embeddings"), expected)


def test_what_the_text_calls_a_fault_is_one(tmp_path: Path) -> None:
    assert "exactly those that `point_index`" in TEXT and "a row of `embeddings` that is all zeros is a fault" in TEXT
    arrays = embeddings(dimension=40)
    covered, bare = arrays["point_index"][0], np.flatnonzero(arrays["views"] == 0)[0]
    views, zeros = arrays["views"].copy(), arrays["embeddings"].copy()
    views[covered], zeros[5] = 0, 0
    more = arrays["views"].copy()
    more[bare] = 1
    for number, (changes, fault) in enumerate((
        ({"views": views}, "views: the points that a frame saw are not those that point_index names"),
        ({"views": more}, "views: the points"),
        ({"embeddings": zeros}, "an embedding of zeros"),
        ({"point_index": arrays["point_index"][::-1].copy()}, "does not rise strictly"),
    )):  # fmt: skip
        (found,) = written(tmp_path / str(number), "float16", **changes)[0]
        assert fault in found


def test_some_scenes_pulled_alone_have_a_key_of_the_text(tmp_path: Path) -> None:
    from workers.stages.pull import only

    world = boxes.build(ZarrStore(tmp_path))
    whole = world.artifacts["embeddings"]
    made = only(whole, ("room_c", "room_a"))
    assert made.key == digest({"scenes_of": whole.key, "scenes": ["room_a", "room_c"]})

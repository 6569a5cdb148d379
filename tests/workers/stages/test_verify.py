"""Verify as a stage: what it says of sound embeddings, of damaged ones, and of points that are not theirs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from storage.artifacts.manifests import digest
from storage.artifacts.store import WHOLE, ArtifactManifest
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import StoreCorrupt
from storage.specs.stages import Verify
from tests.workers.stages import boxes
from workers import trial


@pytest.fixture
def lab(tmp_path: Path) -> boxes.World:
    return boxes.build(ZarrStore(tmp_path))


def store_of(lab: boxes.World) -> ZarrStore:
    assert isinstance(lab.store, ZarrStore)
    return lab.store


def verify(
    lab: boxes.World, recorded: str | None = None, *, scenes: ArtifactManifest | None = None
) -> tuple[trial.Recorder, str | None]:
    """Runs the stage; what it reported, and the message it failed with."""
    heard = trial.Recorder()
    inputs = {"artifact": lab.artifacts["embeddings"]} | ({} if scenes is None else {"scenes": scenes})
    known = {"artifact": recorded} if recorded is not None else {}
    try:
        done = trial.run_stage(Verify(), lab.store, inputs, recorder=heard, recorded=known)
    except StoreCorrupt as error:
        return heard, error.message
    assert done.artifacts == {}, "it publishes nothing"
    return heard, None


def test_sound_embeddings_verify_and_their_points_are_counted(lab: boxes.World) -> None:
    key = lab.artifacts["embeddings"].key
    heard, fault = verify(lab, digest(store_of(lab).manifest_file(key) or b""), scenes=lab.artifacts["scenes"])
    assert (fault, heard.findings) == (None, {key: ([], 3 * 700)})
    assert heard.last_progress["done"] == heard.last_progress["total"] == 3
    (note,) = heard.notes
    assert "verified 3 scenes" in note and "points of 3 scenes were at hand" in note
    (note,) = verify(lab)[0].notes
    assert "points of 0 scenes were at hand" in note, "their manifest names no scenes"


def test_the_scenes_that_they_were_made_from_are_found(lab: boxes.World) -> None:
    made_from = replace(lab.artifacts["embeddings"], key="f00d", inputs={"scenes": lab.artifacts["scenes"].key})
    lab.store.publish(made_from, token="test")
    lab.artifacts["embeddings"] = made_from
    (note,) = verify(lab)[0].notes
    assert "points of 3 scenes were at hand" in note


def test_every_damaged_scene_is_named_and_the_run_fails_with_the_first(lab: boxes.World) -> None:
    manifest = lab.artifacts["embeddings"]
    for entry in manifest.parts[:2]:
        chunk = store_of(lab).part_path(entry.key) / "embeddings" / "c" / "0" / "0"
        whole = chunk.read_bytes()
        chunk.write_bytes(whole[:500] + bytes([whole[500] ^ 4]) + whole[501:])
    heard, fault = verify(lab)
    faults, covered = heard.findings[manifest.key]
    assert covered is None and len(faults) == 2
    assert [scene for scene in ("room_a", "room_b") if any(f"(scene {scene})" in one for one in faults)] == [
        "room_a", "room_b",
    ]  # fmt: skip
    assert all(one.startswith("embeddings/c/0/0 of the part") for one in faults)
    assert heard.notes == faults
    assert fault is not None and fault.startswith(faults[0]) and "1 more faults" in fault


def test_a_manifest_that_is_not_the_recorded_one_is_a_fault_though_it_reads(lab: boxes.World) -> None:
    key = lab.artifacts["embeddings"].key
    path = store_of(lab).artifact_path(key)
    recorded = digest(store_of(lab).manifest_file(key) or b"")
    path.write_bytes(path.read_bytes().replace(b'"by_hand"', b'"by_hane"'))
    heard, fault = verify(lab, recorded)
    assert fault is not None and f"the manifest of the artifact {key} was changed" in fault
    assert len(heard.findings[key][0]) == 1


def test_embeddings_of_other_points_are_found(lab: boxes.World) -> None:
    other = lab.add(
        "others",
        "scenes",
        {
            scene: (
                {
                    "points": np.random.default_rng(9).random((900, 3)).astype(np.float32),
                    "colours": np.zeros((900, 3), np.uint8),
                    "intrinsics": np.zeros((0, 3, 3)),
                    "camera_to_world": np.zeros((0, 4, 4)),
                },
                {"num_points": 900, "point_order": "0" * 32, "split": "train"},
            )
            for scene in ("room_a",)
        },
    )
    heard, fault = verify(lab, scenes=other)
    assert fault is not None and "room_a" in fault and "made for points with the order digest" in fault
    assert len(heard.notes) == 1


def test_a_number_of_covered_points_that_is_not_that_of_the_parts_is_a_fault(lab: boxes.World) -> None:
    made = replace(lab.artifacts["embeddings"], key="f00d", attributes={"num_covered": 9 * 700})
    lab.store.publish(made, token="test")
    lab.artifacts["embeddings"] = made
    heard, fault = verify(lab)
    assert fault is not None and "f00d says that 6300 points are covered, its parts hold 2100" in fault
    assert heard.findings["f00d"][1] is None


def published(lab: boxes.World, kind: str) -> ArtifactManifest:
    """An artifact of a kind: of the world, or made here of arrays or of plain files."""
    about = {"num_points": 900, "point_order": "0" * 32, "split": "train"}
    labels = {"labels": np.zeros(900, np.int16), "confidence": np.ones(900, np.float16)}
    made_here = {
        "labels": {"room_a": (labels, about)},
        "evaluation": {WHOLE: ({"confusion": np.ones((1, 3, 3), np.int64)}, {})},
    }
    if kind in made_here:
        lab.add(kind, kind, made_here[kind])  # type: ignore[arg-type]
    if kind in lab.artifacts:
        return lab.artifacts[kind]
    with lab.store.write_part("ab12", kind=kind, scene=WHOLE, token="test") as part:  # type: ignore[arg-type]
        for name in ("one.bin", "two.json"):
            part.path(name).write_bytes(name.encode() * 100)
    entry = lab.store.entry("ab12")
    assert entry is not None
    made = ArtifactManifest("f00d", kind, "by_hand", kind, {}, {}, (entry,))  # type: ignore[arg-type]
    lab.store.publish(made, token="test")
    return made


@pytest.mark.parametrize(
    "kind", ["scenes", "ground_truth", "text_embeddings", "labels", "checkpoint", "evaluation", "figures", "inspection"]
)
def test_any_kind_of_artifact_is_checked_to_the_last_file(lab: boxes.World, kind: str) -> None:
    made = lab.artifacts["embeddings"] = published(lab, kind)
    heard, fault = verify(lab, digest(store_of(lab).manifest_file(made.key) or b""))
    assert (fault, heard.findings) == (None, {made.key: ([], None)})
    assert heard.notes[0].startswith(f"verified {len(made.parts)} parts of {made.key} ({kind})")
    last = made.parts[-1]
    files = [path for path in store_of(lab).part_path(last.key).rglob("*") if path.is_file()]
    assert len(files) >= 3
    for file in files:
        whole = file.read_bytes()
        file.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        heard, fault = verify(lab)
        assert fault is not None and file.name in fault and f"(scene {last.scene or 'none'})" in fault
        assert heard.findings[made.key][0] and heard.notes == heard.findings[made.key][0]
        file.write_bytes(whole)
    _, fault = verify(lab, "0" * 64)
    assert fault is not None and f"the manifest of the artifact {made.key} was changed" in fault


def test_a_value_that_is_not_finite_is_a_fault_of_any_kind(lab: boxes.World) -> None:
    """What a writer of another program may publish, with every digest right."""
    made = lab.artifacts["text_embeddings"]
    folder = store_of(lab).part_path(made.parts[0].key)
    array = zarr.open_array(folder / "embeddings", mode="r+")
    array[3, 2] = np.nan
    document = json.loads((folder / "manifest.json").read_text())
    for name, entry in document["files"].items():
        content = (folder / name).read_bytes()
        entry["blake3"], entry["bytes"] = digest(content), len(content)
    content = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    (folder / "manifest.json").write_bytes(content)
    line = replace(made.parts[0], digest=digest(content), num_bytes=sum(f["bytes"] for f in document["files"].values()))
    lab.artifacts["embeddings"] = other = replace(made, key="f00d", parts=(line,))
    lab.store.publish(other, token="test")
    _, fault = verify(lab)
    assert fault is not None and "not finite" in fault and line.key in fault

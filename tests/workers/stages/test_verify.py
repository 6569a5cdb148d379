"""Verify as a stage: what it says of sound embeddings, of damaged ones, and of points that are not theirs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from storage.artifacts.manifests import digest
from storage.artifacts.store import ArtifactManifest
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
    inputs = {"embeddings": lab.artifacts["embeddings"]} | ({} if scenes is None else {"scenes": scenes})
    known = {"embeddings": recorded} if recorded is not None else {}
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

"""Ingest: what may be shared between datasets and between looks at one, and what of a bad scene is told when."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from storage.artifacts.memory_store import MemoryStore
from storage.artifacts.store import ArtifactManifest, PartReader, scene_of
from storage.errors import DatasetInvalid, FrameInvalid
from storage.specs.parts import Lifting
from storage.specs.stages import Extract, Ingest, Inspect, PseudoLabel
from tests.workers.scenes.captured import HEIGHT, WIDTH, write_capture
from tests.workers.stages import boxes
from workers import trial
from workers.context import RawDataset

SMALL = Lifting(width=WIDTH, height=HEIGHT, border_px=1)


def captures(root: Path) -> RawDataset:
    return RawDataset(root.name, "rgbd", root, {})


def ingest(store: MemoryStore, root: Path, recorder: trial.Recorder | None = None) -> ArtifactManifest:
    spec = Ingest(label_set="scannet20")
    return trial.run_stage(spec, store, dataset=captures(root), recorder=recorder).artifacts["scenes"]


def part_of(store: MemoryStore, manifest: ArtifactManifest, scene: str) -> PartReader:
    entry = scene_of(manifest, scene)
    assert entry is not None
    part = store.part(entry.key)
    assert part is not None
    return part


@pytest.mark.parametrize("turn", [1, -1], ids=["alone first", "among others first"])
def test_a_capture_and_the_folder_around_it_are_both_extracted_from_one_store(tmp_path: Path, turn: int) -> None:
    """Each look lifts in its own way, so that none is spared reading the images."""
    alone = write_capture(tmp_path / "caps" / "lounge", 2)
    store = MemoryStore()
    for border, root in enumerate((alone, alone.parent)[::turn]):
        scenes = ingest(store, root)
        spec = Extract(lifting=SMALL.model_copy(update={"border_px": border}))
        made = trial.run_stage(spec, store, {"scenes": scenes}, dataset=captures(root))
        embeddings = made.artifacts["embeddings"]
        assert embeddings.scenes == ("lounge",)
        assert part_of(store, embeddings, "lounge").attributes["num_covered"] > 0


def test_a_scene_that_is_no_longer_held_out_is_ingested_anew(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_capture(tmp_path / "caps" / name, 2)
    (tmp_path / "caps" / "test.txt").write_text("b\n")
    store = MemoryStore()
    held_out = ingest(store, tmp_path / "caps")
    (tmp_path / "caps" / "test.txt").unlink()
    trains = ingest(store, tmp_path / "caps")
    assert part_of(store, held_out, "b").attributes["split"] == "test"
    assert part_of(store, trains, "b").attributes["split"] == "train" == trains.attributes["splits"]["b"]
    assert scene_of(held_out, "a") == scene_of(trains, "a"), "a scene that stays where it was is reused"


def test_a_scene_without_labels_may_be_held_out_and_may_not_come_to_train(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_capture(tmp_path / "caps" / name, 2)
    (tmp_path / "caps" / "b" / "scene_labels.txt").unlink()
    (tmp_path / "caps" / "test.txt").write_text("b\n")
    store = MemoryStore()
    assert part_of(store, ingest(store, tmp_path / "caps"), "b").attributes["scene_labels"] == []
    (tmp_path / "caps" / "test.txt").unlink()
    with pytest.raises(DatasetInvalid, match=r"scene b: b/scene_labels\.txt is missing") as caught:
        ingest(store, tmp_path / "caps")
    assert caught.value.scene == "b"


def test_a_scene_that_lacks_a_file_is_told_before_any_is_read(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_capture(tmp_path / "caps" / name, 2)
    (tmp_path / "caps" / "b" / "pose" / "1.txt").unlink()
    heard = trial.Recorder()
    with pytest.raises(FrameInvalid, match=r"b/pose/1\.txt is missing") as caught:
        ingest(MemoryStore(), tmp_path / "caps", heard)
    assert caught.value.scene == "b" and heard.last_progress == {}


def test_scenes_that_cannot_be_read_are_left_out_and_named_where_the_spec_says_so(tmp_path: Path) -> None:
    """One lacks a file, which shows before it is loaded; one is broken within."""
    for name in ("a", "b", "c", "d"):
        write_capture(tmp_path / "caps" / name, 2)
    whole = ingest(MemoryStore(), tmp_path / "caps")
    (tmp_path / "caps" / "b" / "depth" / "0.png").unlink()
    (tmp_path / "caps" / "c" / "pose" / "0.txt").write_text("left of the sofa")
    store, heard = MemoryStore(), trial.Recorder()
    spec = Ingest(label_set="scannet20", bad_scenes="leave_out")
    scenes = trial.run_stage(spec, store, dataset=captures(tmp_path / "caps"), recorder=heard).artifacts["scenes"]
    assert scenes.scenes == ("a", "d") and set(scenes.attributes["splits"]) == {"a", "d"}
    assert [part.key for part in scenes.parts] == [part.key for part in whole.parts if part.scene in "ad"]
    for scene, words in (("b", "b/depth/0.png is missing"), ("c", "c/pose/0.txt")):
        assert any(f"left out the scene {scene}" in note and words in note for note in heard.notes)
    for name in ("a", "d"):
        (tmp_path / "caps" / name / "depth" / "0.png").unlink()
    with pytest.raises(FrameInvalid, match=r"a/depth/0\.png is missing"):
        trial.run_stage(spec, MemoryStore(), dataset=captures(tmp_path / "caps"))


def test_poses_that_are_none_do_not_reach_extract(tmp_path: Path) -> None:
    root = write_capture(tmp_path / "lounge", 3)
    (root / "pose" / "1.txt").write_text("0 " * 16)
    store, heard = MemoryStore(), trial.Recorder()
    scenes = ingest(store, root, heard)
    assert "scene lounge: pose that is no rigid motion: 1" in heard.notes
    made = trial.run_stage(Extract(lifting=SMALL), store, {"scenes": scenes}, dataset=captures(root))
    used = part_of(store, made.artifacts["embeddings"], "lounge").attributes["frames"]
    assert [frame["frame"] for frame in used] == ["0", "2"]


def test_inspect_reports_every_scene_and_what_is_wrong_with_the_bad_ones(tmp_path: Path) -> None:
    """One lacks a file, which shows before it is loaded; one is broken within."""
    for name in ("a", "b", "c", "d"):
        write_capture(tmp_path / "caps" / name, 2)
    (tmp_path / "caps" / "b" / "depth" / "0.png").unlink()
    (tmp_path / "caps" / "c" / "pose" / "0.txt").write_text("left of the sofa")
    store = MemoryStore()
    spec = Inspect(label_set="scannet20", lifting=SMALL)
    made = trial.run_stage(spec, store, dataset=captures(tmp_path / "caps"))
    part = store.part(made.artifacts["inspection"].parts[0].key)
    assert part is not None
    reports = {report["scene"]: report for report in json.loads(part.file("scenes.json").read_text())}
    assert list(reports) == ["a", "b", "c", "d"]
    assert [reports[name]["error"] for name in ("a", "d")] == [None, None]
    assert [reports[name]["num_frames"] for name in reports] == [2, None, None, 2]
    assert "b/depth/0.png is missing" in reports["b"]["error"] and "c/pose/0.txt" in reports["c"]["error"]
    assert any("b/depth/0.png is missing" in note for note in made.recorder.notes)


@pytest.mark.parametrize("scene", ["room_b", "room_c"])
def test_only_held_out_scenes_may_lack_labels_where_they_filter(scene: str) -> None:
    """room_b trains, room_c is held out."""
    world = boxes.build(MemoryStore())
    scenes = {}
    for name in boxes.SCENES:
        part = part_of(world.store, world.artifacts["scenes"], name)
        arrays = {array: part.array(array) for array in ("points", "colours", "intrinsics", "camera_to_world")}
        labels = [] if name == scene else part.attributes["scene_labels"]
        scenes[name] = (arrays, {**part.attributes, "scene_labels": labels})
    world.add("scenes", "scenes", scenes, salt=scene, label_set="s3dis13", dataset="boxes")
    inputs = {name: world.artifacts[name] for name in ("scenes", "embeddings", "text_embeddings")}
    every = ("train", "test")
    assert trial.run_stage(PseudoLabel(filtering=False, splits=every), world.store, inputs).artifacts
    if scene == "room_c":
        assert trial.run_stage(PseudoLabel(splits=every), world.store, inputs).artifacts["labels"].scenes
        return
    with pytest.raises(DatasetInvalid, match="scene room_b: it trains and has no scene-level labels") as caught:
        trial.run_stage(PseudoLabel(splits=every), world.store, inputs)
    assert caught.value.scene == "room_b"

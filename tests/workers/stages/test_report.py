"""The report of any predictions: which panels it draws, of which scenes, and what it refuses to draw."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storage.artifacts.store import ArtifactManifest, PartReader, scene_of
from storage.errors import NotFound, SpecInvalid
from storage.labels import IGNORE, S3DIS13
from storage.specs import stages
from tests.workers.stages import boxes as made
from workers import figures, trial

BOTH = ("train", "test")


def labelled(world: made.World, *, filtering: bool = False, splits: tuple[str, ...] = BOTH) -> ArtifactManifest:
    inputs = {name: world.artifacts[name] for name in ("scenes", "embeddings", "text_embeddings")}
    spec = stages.parse({"stage": "pseudo_label", "filtering": filtering, "splits": splits})
    return trial.run_stage(spec, world.store, inputs).artifacts["labels"]


def reported(world: made.World, predictions: dict[str, ArtifactManifest], **fields: object) -> PartReader:
    inputs = {name: world.artifacts[name] for name in ("scenes", "ground_truth")}
    inputs |= {f"predictions.{name}": labels for name, labels in predictions.items()}
    spec = stages.parse({"stage": "report", **fields})
    figures_made = trial.run_stage(spec, world.store, inputs).artifacts["figures"]
    part = world.store.part(figures_made.parts[0].key)
    assert part is not None
    return part


def panels(part: PartReader) -> np.ndarray:
    """(rows, columns, height, width, 3) the panels of the picture, without titles and legend."""
    width, height = figures.PANEL
    with Image.open(Path(part.file("segmentation.png"))) as image:
        sheet = np.asarray(image)[34:-40]
    return sheet.reshape(-1, height, sheet.shape[1] // width, width, 3).transpose(0, 2, 1, 3, 4)


def explained(part: PartReader) -> set[tuple[int, ...]]:
    """Colours of the squares in the picture's legend."""
    with Image.open(Path(part.file("segmentation.png"))) as image:
        line = np.asarray(image)[-20]
    begins = np.flatnonzero(np.r_[True, (np.diff(line, axis=0) != 0).any(axis=1)])
    wide = np.diff(np.r_[begins, len(line)]) >= 15
    return {tuple(colour.tolist()) for colour in line[begins[wide]]} - {(255, 255, 255)}


@pytest.mark.parametrize("some_uncovered", [False, True])
def test_the_legend_explains_the_classes_shown_and_points_without_one(world: made.World, some_uncovered: bool) -> None:
    labels = world.labels["room_c"].copy()
    if some_uncovered:
        labels[::3] = IGNORE
    entry = scene_of(world.artifacts["scenes"], "room_c")
    assert entry is not None
    room = world.store.part(entry.key)
    assert room is not None
    arrays = {"labels": labels, "confidence": np.ones(len(labels), np.float16)}
    shown = world.add("shown", "labels", {"room_c": (arrays, dict(room.attributes))}, label_set="s3dis13")
    classes = {S3DIS13.palette[k] for k in made.CLASSES}
    assert explained(reported(world, {"3d": shown})) == classes | ({(60, 60, 60)} if some_uncovered else set())


@pytest.mark.parametrize(
    ("names", "columns"),
    [(("3d",), 3), (("2d_text", "3d"), 4), (("2d_text", "2d_filtered"), 4), (("2d_text", "2d_filtered", "ours"), 4)],
)
def test_one_or_two_predictions_are_all_shown_and_of_three_those_of_the_paper(
    world: made.World, names: tuple[str, ...], columns: int
) -> None:
    labels = labelled(world)
    part = reported(world, dict.fromkeys(names, labels))
    assert panels(part).shape[:2] == (1, columns)
    clouds = {name for name in part.files() if name.endswith(".ply")}
    assert clouds == {f"room_c_{what}.ply" for what in ("input", "ground_truth", *names)}


def test_scenes_that_one_prediction_lacks_are_not_drawn(world: made.World) -> None:
    one, other = labelled(world), labelled(world, filtering=True, splits=("train",))
    part = reported(world, {"2d_text": one, "2d_filtered": other}, splits=BOTH)
    assert part.attributes["scenes"] == ["room_a", "room_b"]
    assert panels(part).shape[:2] == (2, 4)
    with pytest.raises(
        NotFound, match="none of the 1 scenes in the splits test .room_c. is in every one of the predictions"
    ):
        reported(world, {"2d_text": one, "2d_filtered": other})


def test_a_scene_without_ground_truth_has_a_blank_panel_in_its_column(world: made.World) -> None:
    entry = next(part for part in world.artifacts["ground_truth"].parts if part.scene == "room_b")
    truth = world.store.part(entry.key)
    assert truth is not None
    kept = {"room_b": ({"labels": truth.array("labels")}, dict(truth.attributes))}
    world.add("ground_truth", "ground_truth", kept, salt="one", label_set="s3dis13")
    drawn = panels(reported(world, {"3d": labelled(world)}, splits=("train",)))
    assert drawn.shape[:2] == (2, 3)
    blank = [[bool((panel[30:] == 255).all()) for panel in row] for row in drawn]
    assert blank == [[False, True, False], [False, False, False]]


def test_predictions_of_other_classes_are_refused(world: made.World) -> None:
    labels = labelled(world)
    entries = {part.scene: world.store.part(part.key) for part in labels.parts}
    parts = {
        scene: ({name: part.array(name) for name in part.names()}, dict(part.attributes))
        for scene, part in entries.items()
        if part is not None
    }
    other = world.add("labels", "labels", parts, salt="other", label_set="scannet20")
    with pytest.raises(SpecInvalid, match="predictions.3d of scannet20, scenes of s3dis13"):
        reported(world, {"3d": other})


def of_scannet20(world: made.World, name: str, *, without: str = "") -> ArtifactManifest:
    """An artifact of the world, in the other label set and perhaps without one scene."""
    kept = world.artifacts[name]
    parts = tuple(part for part in kept.parts if part.scene != without)
    return replace(kept, parts=parts, attributes={**kept.attributes, "label_set": "scannet20"})


@pytest.mark.parametrize(
    ("hidden", "submitted"), [("room_c", {"room_c.txt"}), ("", {"room_a.txt", "room_b.txt", "room_c.txt"})]
)
def test_a_submission_holds_the_scenes_whose_ground_truth_is_hidden_or_else_all(
    world: made.World, hidden: str, submitted: set[str]
) -> None:
    everywhere = {}
    for scene, labels in world.labels.items():
        about = {"num_points": len(labels), "point_order": order_of(world, scene), "label_set": "scannet20"}
        everywhere[scene] = ({"labels": labels, "confidence": np.ones(len(labels), np.float16)}, about)
    ours = world.add("ours", "labels", everywhere, label_set="scannet20")
    world.artifacts["scenes"] = of_scannet20(world, "scenes")
    world.artifacts["ground_truth"] = of_scannet20(world, "ground_truth", without=hidden)
    made_of = reported(world, {"ours": ours}, splits=BOTH, submission="ours")
    assert {name for name in made_of.files() if name.endswith(".txt")} == submitted
    nyu_of = np.array([1, 2, 3])
    np.testing.assert_array_equal(np.loadtxt(made_of.file("room_c.txt"), int), nyu_of[world.labels["room_c"]])


def order_of(world: made.World, scene: str) -> str:
    """The digest of a scene's points."""
    entry = scene_of(world.artifacts["scenes"], scene)
    assert entry is not None
    part = world.store.part(entry.key)
    assert part is not None
    return str(part.attributes["point_order"])

"""Captures that cannot be read: the run fails with the scene and the reason, and what was there stays readable."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image

from service import schemas
from service.client import Client
from tests.journey.conftest import TINY, ended

K = np.array([[90.0, 0, 79.5, 0], [0, 90, 59.5, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def write_capture(folder: Path, *, frames: int = 3) -> Path:
    """A wall 2 m ahead, seen by frames side by side, in ScanNet's exported layout."""
    for name in ("color", "depth", "pose", "intrinsic"):
        (folder / name).mkdir(parents=True)
    for name in ("intrinsic_color.txt", "intrinsic_depth.txt"):
        np.savetxt(folder / "intrinsic" / name, K)
    rng = np.random.default_rng(0)
    for i in range(frames):
        Image.fromarray(rng.integers(0, 255, (120, 160, 3)).astype(np.uint8)).save(folder / "color" / f"{i}.jpg")
        Image.fromarray(np.full((120, 160), 2000, np.uint16)).save(folder / "depth" / f"{i}.png")
        pose = np.eye(4)
        pose[0, 3] = 0.2 * i
        np.savetxt(folder / "pose" / f"{i}.txt", pose)
    (folder / "scene_labels.txt").write_text("wall\nfloor\nchair\n")
    return folder


def corrupt_image(folder: Path) -> None:
    path = folder / "color" / "1.jpg"
    path.write_bytes(path.read_bytes()[:200])


def no_pose(folder: Path) -> None:
    (folder / "pose" / "1.txt").unlink()


def other_size(folder: Path) -> None:
    Image.fromarray(np.full((60, 90), 2000, np.uint16)).save(folder / "depth" / "1.png")


def unknown_class(folder: Path) -> None:
    (folder / "scene_labels.txt").write_text("wall\nchiar\n")


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (corrupt_image, "frame_invalid", "1.jpg"),
        (no_pose, "frame_invalid", "1"),
        (other_size, "frame_invalid", "1.png"),
        (unknown_class, "unknown_", "chair"),
    ],
)
def test_a_bad_frame_ends_the_run_with_its_scene_and_name(
    client: Client, captures: Path, spoil: Callable[[Path], None], code: str, words: str
) -> None:
    name = f"bad-{spoil.__name__.replace('_', '-')}"
    folder = write_capture(captures / name)
    spoil(folder)
    client.add_dataset(
        schemas.DatasetRequest(name=name, kind="rgbd", path=str(folder), label_set="scannet20", options={})
    )
    runs = ended(client, _submit(client, name).id)
    failed = runs["ingest"]
    assert failed.state == "failed"
    assert (failed.reason_code or "").startswith(code), failed.reason
    assert words in (failed.reason or "")
    assert failed.scene == name
    assert {run.state for run_name, run in runs.items() if run_name in ("extract", "distill")} == {"cancelled"}


@pytest.mark.slow
def test_what_was_published_stays_readable_when_the_capture_changes_or_breaks(
    client: Client, captures: Path, home: Path
) -> None:
    folder = write_capture(captures / "wall")
    client.add_dataset(
        schemas.DatasetRequest(name="wall", kind="rgbd", path=str(folder), label_set="scannet20", options={})
    )
    runs = ended(client, _submit(client, "wall").id)
    assert {run.state for run in runs.values()} <= {"succeeded", "cached"}, [run.reason for run in runs.values()]
    (row, *_) = client.run_evaluations(runs["evaluate"].id)
    assert row.miou is None and "no ground truth" in (row.note or "")
    embeddings = client.artifact(runs["extract"].outputs["embeddings"])
    before = read_plainly(home, embeddings)
    assert before["embeddings"].size
    shutil.copy(folder / "color" / "0.jpg", folder / "color" / "2.jpg")
    spec = runs["extract"].spec
    changed = client.submit(
        schemas.ExperimentRequest(
            recipe="3dss-vlg", preset="demo-capture", dataset="wall", seed=0, name="wall again",
            overrides=_SMALL | {"extract.lifting": {**spec["lifting"], "border_px": 5}},
        )
    )  # fmt: skip
    again = ended(client, changed.id)
    assert again["ingest"].state == "succeeded", "other images are another dataset, so it is ingested anew"
    corrupt_image(folder)
    broken = ended(client, _submit(client, "wall").id)["ingest"]
    assert (broken.state, broken.reason_code, broken.scene) == ("failed", "frame_invalid", "wall")
    assert client.artifact(embeddings.key) == embeddings
    after = read_plainly(home, embeddings)
    assert before.keys() == after.keys()
    for name, values in before.items():
        np.testing.assert_array_equal(values, after[name])


def read_plainly(home: Path, artifact: schemas.ArtifactDetail) -> dict[str, np.ndarray]:
    """Every array of an artifact of one scene, by zarr alone."""
    (part,) = artifact.parts
    group = zarr.open_group(home / "store" / "parts" / part.key[:2] / part.key, mode="r")
    return {name: np.asarray(values) for name, values in group.arrays()}


_SMALL = {name: value for name, value in TINY.items() if name != "distill.training.crop_voxels"} | {
    "distill.training.repeats": 2
}


def _submit(client: Client, dataset: str) -> schemas.Experiment:
    return client.submit(
        schemas.ExperimentRequest(
            recipe="3dss-vlg", preset="demo-capture", dataset=dataset, overrides=_SMALL, seed=0, name=dataset
        )
    )

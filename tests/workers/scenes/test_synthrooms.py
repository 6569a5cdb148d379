"""SynthRooms on disk: deterministic, whole or not there, and read back as it was drawn."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from storage.errors import DatasetInvalid, RunCancelled
from storage.labels import S3DIS13, SCANNET20
from storage.specs.parts import SynthRoomsOptions, Views
from tests.conformance.scene_source import SceneSourceConformance
from workers.scenes.scene import SceneSource
from workers.scenes.synthrooms import MARKER, SynthRoomsSource, make_dataset

ROOT = Path(__file__).resolve().parents[3]
TINY = SynthRoomsOptions(seed=7, train_rooms=2, test_rooms=1, points=6000, views=Views(count=2, width=64, height=48))


HOMES = TINY.model_copy(update={"domain": "homes"})


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthrooms") / "tiny"
    make_dataset(root, TINY, threads=1)
    return root


@pytest.fixture(scope="module")
def made_homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthrooms") / "homes"
    make_dataset(root, HOMES, threads=1)
    return root


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "tiny"))


class TestConformance(SceneSourceConformance):
    @pytest.fixture
    def open_again(self, made: Path, tmp_path: Path) -> Callable[[], SceneSource]:
        return lambda: SynthRoomsSource(made, TINY, S3DIS13, tmp_path / "cache")


class TestHomesConformance(SceneSourceConformance):
    @pytest.fixture
    def open_again(self, made_homes: Path, tmp_path: Path) -> Callable[[], SceneSource]:
        return lambda: SynthRoomsSource(made_homes, HOMES, SCANNET20, tmp_path / "cache")


def test_equal_options_give_equal_bytes_whatever_the_number_of_processes(made: Path, tmp_path: Path) -> None:
    make_dataset(tmp_path / "again", TINY, threads=3)
    assert digests(tmp_path / "again") == digests(made)
    assert len(digests(made)) == 3 * (2 * 3 + 4) + 2


def test_equal_options_give_equal_homes(made_homes: Path, tmp_path: Path) -> None:
    make_dataset(tmp_path / "again", HOMES, threads=2)
    assert digests(tmp_path / "again") == digests(made_homes)
    assert len(digests(made_homes)) == 3 * (2 * 3 + 4) + 2


def test_another_seed_gives_other_rooms(made: Path, tmp_path: Path) -> None:
    make_dataset(tmp_path / "other", TINY.model_copy(update={"seed": 8, "train_rooms": 1, "test_rooms": 0}))
    name = "area_1_office_01/points.npz"
    assert digests(tmp_path / "other")[name] != digests(made)[name]


def test_splits_areas_and_labels(made: Path, tmp_path: Path) -> None:
    source = SynthRoomsSource(made, TINY, S3DIS13, tmp_path)
    assert {ref.id: ref.split for ref in source.scenes()} == {
        "area_1_office_01": "train",
        "area_2_office_01": "train",
        "area_6_office_01": "test",
    }
    for ref in source.scenes():
        scene = source.load(ref.id)
        assert scene.labels is not None and len(scene.points_m) == TINY.points and len(scene.frames) == 2
        listed = (made / ref.id / "scene_labels.txt").read_text().split()
        assert [S3DIS13.classes[label] for label in scene.scene_labels] == listed
        assert 4 <= len(listed) <= 10 and not scene.skipped


def test_splits_and_labels_of_homes(made_homes: Path, tmp_path: Path) -> None:
    source = SynthRoomsSource(made_homes, HOMES, SCANNET20, tmp_path)
    assert {ref.id: ref.split for ref in source.scenes()} == {
        "home_train_01": "train",
        "home_train_02": "train",
        "home_test_01": "test",
    }
    for ref in source.scenes():
        scene = source.load(ref.id)
        assert scene.labels is not None and len(scene.points_m) == HOMES.points and len(scene.frames) == 2
        listed = (made_homes / ref.id / "scene_labels.txt").read_text().splitlines()
        assert [SCANNET20.classes[label] for label in scene.scene_labels] == listed
        assert 4 <= len(listed) <= 12 and not scene.skipped


def test_the_default_is_twenty_rooms_to_train_on_and_five_held_out() -> None:
    options = SynthRoomsOptions(domain="homes")
    assert (options.train_rooms, options.test_rooms) == (20, 5)


def test_an_incomplete_folder_of_homes_is_made_again(made_homes: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(made_homes, tmp_path / "homes"))
    (root / MARKER).unlink()
    shutil.rmtree(root / "home_test_01")
    make_dataset(root, HOMES)
    assert digests(root) == digests(made_homes)


def test_the_other_domain_in_the_folder_is_an_error(copy: Path) -> None:
    with pytest.raises(DatasetInvalid, match="other options"):
        make_dataset(copy, HOMES)


def test_what_is_there_is_not_made_again(copy: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    told: list[tuple[int, int]] = []
    SynthRoomsSource(copy, TINY, S3DIS13, tmp_path, progress=lambda *step: told.append(step)).scenes()
    assert not told
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before


def test_progress_counts_rooms(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    make_dataset(tmp_path / "d", TINY, progress=lambda *step: told.append(step))
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("lost", [MARKER, "area_2_office_01"])
def test_an_incomplete_folder_is_made_again(made: Path, copy: Path, lost: str) -> None:
    target = copy / lost
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    make_dataset(copy, TINY)
    assert digests(copy) == digests(made)


def test_stopping_midway_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise RunCancelled("enough")

    with pytest.raises(RunCancelled):
        make_dataset(tmp_path / "d", TINY, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_leaves_no_dataset_and_its_children_end(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from storage.specs.parts import SynthRoomsOptions, Views
from workers.scenes.synthrooms import make_dataset
if __name__ == "__main__":
    options = SynthRoomsOptions(train_rooms=400)
    make_dataset(Path({str(tmp_path / "d")!r}), options, 2, lambda *_: print("room", flush=True))
"""
    script = tmp_path / "make.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, script], env=environment, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"room\n"
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        deadline = time.monotonic() + 30
        while _group_lives(process.pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not _group_lives(process.pid)
    finally:
        process.stdout.close()
        if _group_lives(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
    assert not (tmp_path / "d").exists()
    make_dataset(tmp_path / "d", TINY)
    assert (tmp_path / "d" / MARKER).exists()


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_two_at_once_make_one_dataset(made: Path, tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from storage.specs.parts import SynthRoomsOptions
from workers.scenes.synthrooms import make_dataset
if __name__ == "__main__":
    make_dataset(Path({str(tmp_path / "d")!r}), SynthRoomsOptions.model_validate_json({TINY.model_dump_json()!r}))
"""
    script = tmp_path / "make.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen([sys.executable, script], env=environment, cwd=ROOT) for _ in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
    assert digests(tmp_path / "d") == digests(made)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "make.py"]


def test_other_options_in_the_folder_are_an_error(copy: Path) -> None:
    with pytest.raises(DatasetInvalid, match="other options"):
        make_dataset(copy, TINY.model_copy(update={"points": 6001}))


def test_a_newer_generator_s_folder_is_an_error(copy: Path) -> None:
    marker = json.loads((copy / MARKER).read_text())
    (copy / MARKER).write_text(json.dumps({**marker, "generator": 99}))
    with pytest.raises(DatasetInvalid, match="another version"):
        make_dataset(copy, TINY)


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "thesis.tex").write_text("precious")
    with pytest.raises(DatasetInvalid, match=r"thesis\.tex"):
        make_dataset(tmp_path / "d", TINY)
    assert (tmp_path / "d" / "thesis.tex").read_text() == "precious"
    (tmp_path / "f").write_text("a file")
    with pytest.raises(DatasetInvalid, match="no folder"):
        make_dataset(tmp_path / "f", TINY)


def test_a_broken_marker_is_an_error_that_says_what_to_do(copy: Path) -> None:
    (copy / MARKER).write_text("{")
    with pytest.raises(DatasetInvalid, match="remove the folder"):
        make_dataset(copy, TINY)


def test_another_label_set_is_an_error(made: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match="scannet20 for SynthRooms offices.*label_set: s3dis13"):
        SynthRoomsSource(made, TINY, SCANNET20, tmp_path)
    with pytest.raises(DatasetInvalid, match="s3dis13 for SynthRooms homes.*label_set: scannet20"):
        SynthRoomsSource(made, HOMES, S3DIS13, tmp_path)


def test_an_abandoned_partial_folder_is_swept_and_a_fresh_one_is_not(tmp_path: Path) -> None:
    old, fresh = tmp_path / ".d.0.partial", tmp_path / ".d.1.partial"
    for path in (old, fresh):
        path.mkdir()
    os.utime(old, (time.time() - 7 * 3600,) * 2)
    make_dataset(tmp_path / "d", TINY.model_copy(update={"train_rooms": 1, "test_rooms": 0}))
    assert not old.exists() and fresh.exists()


def test_a_changed_picture_changes_the_fingerprint_of_its_room_only(copy: Path, tmp_path: Path) -> None:
    before = {r.id: r.fingerprint for r in SynthRoomsSource(copy, TINY, S3DIS13, tmp_path / "cache").scenes()}
    name = copy / "area_1_office_01" / "color" / "000000.jpg"
    shutil.copy(copy / "area_1_office_01" / "color" / "000001.jpg", name)
    after = {r.id: r.fingerprint for r in SynthRoomsSource(copy, TINY, S3DIS13, tmp_path / "cache").scenes()}
    assert {room for room in before if before[room] != after[room]} == {"area_1_office_01"}


def test_fingerprints_do_not_depend_on_where_the_folder_lies(made: Path, copy: Path, tmp_path: Path) -> None:
    one = SynthRoomsSource(made, TINY, S3DIS13, tmp_path / "a").scenes()
    assert one == SynthRoomsSource(copy, TINY, S3DIS13, tmp_path / "b").scenes()


def test_points_are_finite_and_within_the_room(made: Path) -> None:
    with np.load(made / "area_6_office_01" / "points.npz") as arrays:
        assert sorted(arrays) == ["colours", "labels", "points"]
        assert np.isfinite(arrays["points"]).all() and np.abs(arrays["points"]).max() < 6

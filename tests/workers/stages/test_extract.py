"""Extract: rooms whose poses are misaligned, wholly or nearly, and what becomes of the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storage.artifacts import checking
from storage.artifacts.store import ArtifactManifest, scene_of
from storage.errors import NothingVisible
from storage.labels import S3DIS13
from storage.specs.parts import S3disOptions
from storage.specs.stages import Extract
from tests.fixtures.s3dis_writer import NO_DEPTH
from tests.workers.stages.rooms import BLIND, ELSEWHERE, HERE, LEAVE_OUT, REFUSE, SEES, Rooms
from workers.scenes.inspect import inspect_scene
from workers.scenes.s3dis import S3disSource
from workers.stages.typed import computed_in, write_embeddings


@pytest.fixture
def rooms(tmp_path: Path) -> Rooms:
    """office_1 sees itself, office_2 is misaligned, office_3 has no picture."""
    made = Rooms(tmp_path / "s3dis")
    for room, origin in (("office_1", HERE), ("office_2", ELSEWHERE), ("office_3", None)):
        made.add(room, origin)
    return made


@pytest.mark.parametrize("dtype", ["float16", "int8", "float32"])
def test_embeddings_are_stored_as_the_spec_says_and_read_alike(tmp_path: Path, dtype: str) -> None:
    made = Rooms(tmp_path / "s3dis")
    made.add("office_1", HERE)
    plain, typed = (
        made.extract(REFUSE.model_copy(update={"dtype": name})).artifacts["embeddings"] for name in ("float16", dtype)
    )
    one, other = (made.store.part(key_of(manifest, SEES)) for manifest in (plain, typed))
    assert one is not None and other is not None
    assert typed.attributes["dtype"] == other.attributes["dtype"] == dtype
    assert ("scales" in other.names()) == (dtype == "int8")
    assert other.attributes.get("scale_block") == (32 if dtype == "int8" else None)
    a, b = (part.array("embeddings") for part in (one, other))
    assert (a.dtype, b.dtype) == (np.float16, np.float32 if dtype == "float32" else np.float16)
    a, b = a.astype(np.float64), b.astype(np.float64)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert np.percentile(cosine, 1) >= 0.9999
    np.testing.assert_array_equal(one.array("point_index"), other.array("point_index"))


@pytest.mark.parametrize("dtype", ["float16", "int8", "float32"])
def test_the_norms_of_what_was_computed_are_recorded_and_verify_holds_the_rows_to_them(
    tmp_path: Path, dtype: str
) -> None:
    made = Rooms(tmp_path / "s3dis")
    made.add("office_1", HERE)
    plain, typed = (
        made.extract(REFUSE.model_copy(update={"dtype": name})).artifacts["embeddings"] for name in ("float16", dtype)
    )
    one, other = (made.store.part(key_of(manifest, SEES)) for manifest in (plain, typed))
    assert one is not None and other is not None
    rows = np.sqrt((one.array("embeddings").astype(np.float64) ** 2).sum(axis=1))
    said = other.attributes["norms"]
    np.testing.assert_allclose([said["least"], said["largest"]], [rows.min(), rows.max()], rtol=1e-3)
    (entry,) = typed.parts
    assert checking.part_faults(made.store, typed, entry) == []
    about = dict(other.attributes)
    with made.store.write_part("ab12", kind="embeddings", scene=SEES, token="t0") as part:
        write_embeddings(part, one.array("embeddings").astype(computed_in(dtype)) * 2, dtype)
        part.write("point_index", one.array("point_index"))
        part.write("views", one.array("views"))
        part.set(**about)
    doubled = made.store.entry("ab12")
    assert doubled is not None
    (fault,) = checking.part_faults(made.store, typed, doubled)
    assert "norms run from" in fault


def arrays_of(made: Rooms, spec: Extract) -> dict[str, np.ndarray]:
    part = made.store.part(key_of(made.extract(spec).artifacts["embeddings"], SEES))
    assert part is not None
    return {name: part.array(name) for name in part.names()}


def test_images_are_shrunk_by_nearest_neighbour_to_the_lifting_s_size_where_the_spec_says_so(tmp_path: Path) -> None:
    """An image whose blocks of 2 x 2 pixels are all like their first one is the same picture at half the size."""
    half = REFUSE.model_copy(update={"lifting": REFUSE.lifting.model_copy(update={"width": 54, "height": 54})})
    shrunk = half.model_copy(update={"shrink_images": True})
    made = [Rooms(tmp_path / name) for name in ("released", "blocks")]
    for rooms in made:
        rooms.add("office_1", HERE)
    (path,) = (made[1].root / "area_1" / "data" / "rgb").iterdir()
    firsts = np.array(Image.open(path))[::2, ::2]
    Image.fromarray(firsts.repeat(2, axis=0).repeat(2, axis=1)).save(path)
    seen, blocks = (arrays_of(rooms, shrunk) for rooms in made)
    assert all(np.array_equal(seen[name], blocks[name]) for name in seen)
    released = arrays_of(made[0], half)
    assert np.array_equal(released["point_index"], seen["point_index"]), "what is visible is as before"
    assert not np.array_equal(released["embeddings"], seen["embeddings"])
    about = [made[0].extract(spec).artifacts["embeddings"].attributes["preprocessing"] for spec in (half, shrunk)]
    assert about[1] == {"shrunk_to": [54, 54], **about[0]}


def key_of(manifest: ArtifactManifest, scene: str) -> str:
    entry = scene_of(manifest, scene)
    assert entry is not None
    return entry.key


def test_a_room_without_a_visible_point_fails_the_run_and_is_named(rooms: Rooms) -> None:
    with pytest.raises(
        NothingVisible, match=f"scene {BLIND}: not one of 5900 points.*blind_scenes: leave_out"
    ) as caught:
        rooms.extract(REFUSE)
    assert (caught.value.code, caught.value.scene) == ("nothing_visible", BLIND)


def test_it_is_left_out_where_the_spec_says_so_and_the_run_tells(rooms: Rooms) -> None:
    made = rooms.extract(LEAVE_OUT)
    embeddings = made.artifacts["embeddings"]
    assert embeddings.scenes == (SEES,) and embeddings.attributes["splits"] == {SEES: "train"}
    assert embeddings.attributes["preprocessing"]["values"] == [-1, 1], "what becomes of a picture is recorded"
    told = [note for note in made.recorder.notes if BLIND in note]
    assert len(told) == 1 and told[0].startswith("left out")
    assert made.recorder.last_progress["done"] == made.recorder.last_progress["total"] == 2
    assert not any(SEES in note for note in made.recorder.notes)
    with pytest.raises(NothingVisible):
        rooms.extract(REFUSE)


def test_the_others_are_the_same_parts_either_way(tmp_path: Path) -> None:
    made = Rooms(tmp_path / "s3dis")
    made.add("office_1", HERE)
    one, other = (made.extract(spec).artifacts["embeddings"] for spec in (REFUSE, LEAVE_OUT))
    assert key_of(one, SEES) == key_of(other, SEES) and one.key != other.key


def test_nothing_at_all_is_an_error_either_way(tmp_path: Path) -> None:
    made = Rooms(tmp_path / "s3dis")
    made.add("office_2", ELSEWHERE)
    with pytest.raises(NothingVisible, match="not one of the 1 scenes with pictures has a visible point") as caught:
        made.extract(LEAVE_OUT)
    assert caught.value.scene == BLIND


def seen_through(made: Rooms, pixels: int) -> None:
    """Leaves a depth reading only in a window of so many pixels along each side."""
    (path,) = (made.root / "area_1" / "data" / "depth").iterdir()
    depth = np.array(Image.open(path))
    window = np.full_like(depth, NO_DEPTH)
    window[10 : 10 + pixels, 10 : 10 + pixels] = depth[10 : 10 + pixels, 10 : 10 + pixels]
    Image.fromarray(window).save(path)


@pytest.mark.parametrize(("pixels", "least", "most"), [(20, 0, 0.01), (60, 0.01, 0.05), (96, 0.05, 1)])
def test_a_room_of_which_next_to_nothing_is_visible_is_told_in_every_run_and_by_the_check_of_its_dataset(
    tmp_path: Path, pixels: int, least: float, most: float
) -> None:
    made = Rooms(tmp_path / "s3dis")
    made.add("office_1", HERE)
    seen_through(made, pixels)
    first = made.extract(REFUSE)
    part = made.store.part(key_of(first.artifacts["embeddings"], SEES))
    assert part is not None
    covered = part.attributes["num_covered"]
    assert least < covered / 5900 < most
    doubted = [True] if covered / 5900 < 0.05 else []
    for told in (first, made.extract(LEAVE_OUT)):
        assert [f"scene {SEES}: {covered / 5900:.2%} of its 5900 points" in n for n in told.recorder.notes] == doubted
    source = S3disSource(made.root, S3disOptions(), S3DIS13, tmp_path / "cache")
    report = inspect_scene(source, source.scenes()[0], REFUSE.lifting, S3DIS13, most_frames=1)
    assert report.visible_share == pytest.approx(covered / 5900)
    assert [f"{covered / 5900:.1%} of its points are visible" in warning for warning in report.warnings] == doubted

"""Embeddings made again from their images: what `verify` compares, and how `repair` mends without a source."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from storage.artifacts.store import ArtifactManifest, scene_of
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import NotFound, SpecInvalid, StoreCorrupt
from storage.specs import stages
from tests.fixtures.lab_artifact import files
from tests.workers.stages.rooms import HERE, REFUSE, SEES, Rooms
from workers import trial
from workers.context import Machine, RawDataset

OTHER = "Area_1_office_4"


@pytest.fixture
def store(tmp_path: Path) -> ZarrStore:
    return ZarrStore(tmp_path / "store")


@pytest.fixture
def rooms(tmp_path: Path, store: ZarrStore) -> Rooms:
    """Two rooms that see themselves."""
    made = Rooms(tmp_path / "s3dis", store)
    made.add("office_1", HERE)
    made.add("office_4", HERE)
    return made


def run(
    rooms: Rooms, stage: str, made: ArtifactManifest, *, dataset: RawDataset | None = None, weights: Path | None = None,
    recorded: str | None = None, **fields: object,
) -> trial.Trial:  # fmt: skip
    assert isinstance(rooms.store, ZarrStore)
    named = {"artifact": made.key} if stage == "repair" else {}
    inputs = {"artifact": made} if stage == "verify" else {}
    scratch = rooms.store.root / "resume" / "r1"
    machine = Machine(scratch=scratch, **({} if weights is None else {"weights": weights}))
    known = {} if recorded is None else {"artifact": recorded}
    spec = stages.parse({"stage": stage, **named, **fields})
    return trial.run_stage(spec, rooms.store, inputs, dataset=dataset, machine=machine, recorded=known)


def change(store: ZarrStore, made: ArtifactManifest, scene: str, name: str = "embeddings/c/0/0") -> None:
    """Flips a bit of a file of a scene."""
    entry = scene_of(made, scene)
    assert entry is not None
    path = store.part_path(entry.key) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 8
    path.write_bytes(content)


def nudged(store: ZarrStore, made: ArtifactManifest, scene: str, factor: float) -> ArtifactManifest:
    """An artifact as another machine would have published it: the embeddings of a scene times a factor."""
    entry = scene_of(made, scene)
    part = None if entry is None else store.part(entry.key)
    assert entry is not None
    assert part is not None
    arrays = {name: part.array(name) for name in part.names()} | {
        "embeddings": (part.array("embeddings").astype(np.float64) * factor).astype(np.float16)
    }
    attributes = part.attributes
    store.withdraw(made.key, [entry.key])
    with store.write_part(entry.key, kind="embeddings", scene=scene, token="t0") as writer:
        for name, values in arrays.items():
            writer.write(name, values)
        writer.set(**attributes)
    line = store.entry(entry.key)
    assert line is not None
    other = replace(made, parts=tuple(line if one.scene == scene else one for one in made.parts))
    store.publish(other, token="t0")
    return other


def test_a_sample_of_sound_embeddings_is_made_again_and_equal(rooms: Rooms, store: ZarrStore) -> None:
    made = rooms.extract(REFUSE).artifacts["embeddings"]
    before = files(store.root)
    notes = run(rooms, "verify", made, dataset=rooms.dataset, recompute=2).recorder.notes
    assert f"made again from their images, and equal within rounding: {SEES}, {OTHER}" in notes
    (note,) = [one for one in run(rooms, "verify", made, dataset=rooms.dataset).recorder.notes if "made again" in one]
    assert (SEES in note) != (OTHER in note), "one scene unless told otherwise"
    assert files(store.root) == before, "the lab's store holds what it held"


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
def test_embeddings_of_every_type_are_equal_when_they_are_made_again(rooms: Rooms, dtype: str) -> None:
    made = rooms.extract(REFUSE.model_copy(update={"dtype": dtype})).artifacts["embeddings"]
    notes = run(rooms, "verify", made, dataset=rooms.dataset, recompute=2).recorder.notes
    assert any("equal within rounding" in note for note in notes)


def test_without_images_or_a_sample_nothing_is_made_again(rooms: Rooms) -> None:
    made = rooms.extract(REFUSE).artifacts["embeddings"]
    for dataset, recompute in ((None, 2), (rooms.dataset, 0)):
        notes = run(rooms, "verify", made, dataset=dataset, recompute=recompute).recorder.notes
        assert len(notes) == 1
        assert "verified 2 scenes" in notes[0]


def test_embeddings_that_images_do_not_give_are_a_fault_though_every_digest_is_right(
    rooms: Rooms, store: ZarrStore
) -> None:
    made = nudged(store, rooms.extract(REFUSE).artifacts["embeddings"], SEES, 1 + 2.0**-11)
    notes = run(rooms, "verify", made, dataset=rooms.dataset, recompute=2).recorder.notes
    assert any("equal within rounding" in note for note in notes), "half a step is rounding"
    made = nudged(store, made, SEES, 1.005)  # within what norms may differ by
    with pytest.raises(StoreCorrupt, match=rf"scene {SEES}.*made again from its images: .* steps of float16 apart"):
        run(rooms, "verify", made, dataset=rooms.dataset, recompute=2)


def test_images_that_are_others_now_are_told_and_no_fault(rooms: Rooms) -> None:
    made = rooms.extract(REFUSE).artifacts["embeddings"]
    for picture in (rooms.root / "area_1" / "data" / "rgb").iterdir():
        picture.write_bytes(b"no picture")
    notes = run(rooms, "verify", made, dataset=rooms.dataset).recorder.notes
    assert any(note.startswith("no scene was made again from its images: ") for note in notes)


@pytest.mark.parametrize("name", ["embeddings/c/0/0", "zarr.json", "manifest.json", "views/zarr.json"])
def test_a_damaged_scene_is_made_again_to_the_byte(rooms: Rooms, store: ZarrStore, name: str) -> None:
    made = rooms.extract(REFUSE).artifacts["embeddings"]
    before = files(store.root)
    change(store, made, OTHER, name)
    done = run(rooms, "repair", made, dataset=rooms.dataset)
    assert files(store.root) == before
    assert done.artifacts == {}
    assert done.recorder.notes[-1] == "1 files were not what was published and are now"
    assert run(rooms, "repair", made, dataset=rooms.dataset).recorder.notes == ["nothing was damaged"]


def test_what_comes_out_otherwise_is_published_anew_and_the_damaged_artifact_stays(
    rooms: Rooms, store: ZarrStore
) -> None:
    right = rooms.extract(REFUSE).artifacts["embeddings"]
    part = scene_of(right, SEES)
    assert part is not None
    reader = store.part(part.key)
    assert reader is not None
    meant = {name: reader.array(name) for name in reader.names()}
    made = nudged(store, right, SEES, 1.01)
    change(store, made, SEES)
    before = files(store.root)
    done = run(rooms, "repair", made, dataset=rooms.dataset)
    assert {path: content for path, content in files(store.root).items() if path in before} == before
    anew = done.artifacts["embeddings"]
    assert anew.key != made.key
    assert store.verify(anew.key) == []
    assert scene_of(anew, OTHER) == scene_of(made, OTHER), "sound parts are shared"
    line = scene_of(anew, SEES)
    assert line is not None
    assert line.key != part.key
    again = store.part(line.key)
    assert again is not None
    for name, values in meant.items():
        np.testing.assert_array_equal(again.array(name), values)
    assert anew.attributes["made_again_of"] == made.key
    assert anew.key in done.recorder.notes[-1]
    assert SEES in done.recorder.notes[-1]


def test_what_is_missing_for_it_is_named(rooms: Rooms, store: ZarrStore, tmp_path: Path) -> None:
    made = rooms.extract(REFUSE).artifacts["embeddings"]
    change(store, made, SEES)
    damaged = files(store.root)
    with pytest.raises(SpecInvalid, match="raw dataset \\(s3dis\\); name it"):
        run(rooms, "repair", made)
    others = replace(made, key="ab" * 16, inputs={**made.inputs, "weights": "0" * 32})
    store.publish(others, token="t0")
    with pytest.raises(SpecInvalid, match="another weights"):
        run(rooms, "repair", others, dataset=rooms.dataset)
    with pytest.raises(StoreCorrupt, match="mend it with `--from`"):
        run(rooms, "repair", made, dataset=rooms.dataset, recorded="0" * 64)
    store.withdraw(made.inputs["scenes"], [])
    with pytest.raises(NotFound, match="the input 'scenes'"):
        run(rooms, "repair", made, dataset=rooms.dataset)
    assert all(
        files(store.root)[path] == content for path, content in damaged.items() if made.inputs["scenes"] not in path
    )
    with pytest.raises(NotFound, match="features pull"):
        run(rooms, "repair", replace(made, key="cd" * 16), dataset=rooms.dataset)

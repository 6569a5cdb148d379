"""OpenScene's fused features in and out: files that NumPy and torch alone wrote and read, and what is no such file."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from storage.artifacts.store import ArtifactManifest, scene_of
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import DatasetInvalid, NotFound, SpecInvalid
from storage.specs import stages
from tests.workers.stages import boxes
from workers import trial
from workers.context import Machine, RawDataset
from workers.nets.openscene_files import Subsets, export

N, D = 900, 24


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "openscene"
    made.mkdir()
    return made


@pytest.fixture
def lab(tmp_path: Path) -> boxes.World:
    return boxes.build(ZarrStore(tmp_path / "store"))


def bank(scene: str) -> tuple[np.ndarray, np.ndarray]:
    """(N,D) what a fusion had of a scene, and (N,) which points it saw."""
    rng = np.random.default_rng(sum(map(ord, scene)))
    return rng.normal(size=(N, D)).astype(np.float16), rng.random(N) < 0.7


def save(path: Path, values: np.ndarray, mask: np.ndarray, **more: Any) -> None:
    """As OpenScene's fusion saves."""
    torch.save({"feat": torch.from_numpy(values[mask]).half(), "mask_full": torch.from_numpy(mask), **more}, path)


def save_all(folder: Path, *scenes: str) -> None:
    for scene in scenes or boxes.SCENES:
        save(folder / f"{scene}_0.pt", *bank(scene))


def imported(lab: boxes.World, folder: Path, kind: str = "features", **fields: Any) -> trial.Trial:
    machine = Machine(scratch=folder.parent, cache=folder.parent / "cache")
    spec = stages.parse({"stage": "import_features", **fields})
    dataset = RawDataset("theirs", kind, folder, {})
    return trial.run_stage(spec, lab.store, {"scenes": lab.artifacts["scenes"]}, dataset=dataset, machine=machine)


def arrays(lab: boxes.World, manifest: ArtifactManifest, scene: str) -> dict[str, np.ndarray]:
    entry = scene_of(manifest, scene)
    assert entry is not None
    part = lab.store.part(entry.key)
    assert part is not None
    return {name: part.array(name) for name in part.names()}


def test_whole_scenes_become_embeddings_that_verify(lab: boxes.World, folder: Path) -> None:
    save_all(folder)
    done = imported(lab, folder, encoder="openseg")
    made = done.artifacts["embeddings"]
    covered = 0
    for scene in boxes.SCENES:
        values, mask = bank(scene)
        found = arrays(lab, made, scene)
        np.testing.assert_array_equal(found["embeddings"], values[mask])
        np.testing.assert_array_equal(found["point_index"], np.flatnonzero(mask))
        np.testing.assert_array_equal(found["views"], mask.astype(np.uint16))
        covered += int(mask.sum())
    assert (made.attributes["dimension"], made.attributes["num_covered"]) == (D, covered)
    assert (made.attributes["encoder"], made.attributes["dataset"]) == ({"name": "openseg"}, "boxes")
    assert made.attributes["splits"] == boxes.SCENES
    heard = trial.run_stage(
        stages.parse({"stage": "verify"}), lab.store, {"artifact": made, "scenes": lab.artifacts["scenes"]}
    ).recorder
    assert heard.findings == {made.key: ([], covered)}
    assert "points of 3 scenes were at hand" in heard.notes[-1]


def test_random_subsets_are_joined_each_point_once(lab: boxes.World, folder: Path) -> None:
    save_all(folder, "room_b", "room_c")
    values, seen = bank("room_a")
    rng = np.random.default_rng(1)
    union = np.zeros(N, bool)
    for number in range(12):
        mask = seen & (rng.random(N) < 0.3)
        union |= mask
        save(folder / f"room_a_{number}.pt", values, mask)
    found = arrays(lab, imported(lab, folder).artifacts["embeddings"], "room_a")
    np.testing.assert_array_equal(found["point_index"], np.flatnonzero(union))
    np.testing.assert_array_equal(found["embeddings"], values[union])


@pytest.mark.parametrize("dtype", ["float16", "int8", "float32"])
def test_they_are_stored_as_the_type_that_is_asked_for(lab: boxes.World, folder: Path, dtype: str) -> None:
    save_all(folder, "room_b")
    values, mask = bank("room_a")
    single = values.astype(np.float32) * np.float32(1.0001)
    np.save(folder / "room_a.npy", np.where(mask[:, None], single, 0))
    torch.save({"feat": torch.from_numpy(single[mask]), "mask_full": torch.from_numpy(mask)}, folder / "room_c.pt")
    made = imported(lab, folder, dtype=dtype).artifacts["embeddings"]
    assert made.attributes.get("dtype", "float16") == dtype
    for scene in ("room_a", "room_c"):
        found = arrays(lab, made, scene)["embeddings"]
        if dtype == "float32":
            np.testing.assert_array_equal(found, single[mask])
        else:
            block = np.abs(single[mask]).max() / 127 if dtype == "int8" else 0
            np.testing.assert_allclose(found.astype(np.float32), single[mask], rtol=2e-3, atol=block)
            assert found.dtype == np.float16
    part = lab.store.part(made.parts[0].key)
    assert part is not None and ("scales" in part.names()) == (dtype == "int8")
    heard = trial.run_stage(stages.parse({"stage": "verify"}), lab.store, {"artifact": made}).recorder
    assert heard.findings[made.key][0] == []


def test_the_type_that_was_before_there_were_others_changes_no_key() -> None:
    plain = stages.parse({"stage": "import_features"})
    assert "dtype" not in plain.keyed() and plain.keyed() != plain.model_copy(update={"dtype": "int8"}).keyed()


def test_npy_of_single_precision_with_rows_of_zeros(lab: boxes.World, folder: Path) -> None:
    save_all(folder, "room_b", "room_c")
    values, mask = bank("room_a")
    np.save(folder / "room_a.npy", np.where(mask[:, None], values.astype(np.float32) * 1.0001, 0))
    found = arrays(lab, imported(lab, folder).artifacts["embeddings"], "room_a")
    np.testing.assert_array_equal(found["point_index"], np.flatnonzero(mask))
    expected = (values[mask].astype(np.float32) * np.float32(1.0001)).astype(np.float16)
    np.testing.assert_array_equal(found["embeddings"], expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_other_types_and_the_old_third_axis(lab: boxes.World, folder: Path, dtype: torch.dtype) -> None:
    save_all(folder, "room_b", "room_c")
    values, mask = bank("room_a")
    feat = torch.from_numpy(values[mask]).to(dtype)
    torch.save({"feat": feat[..., None], "mask_full": torch.from_numpy(mask).to(torch.uint8)}, folder / "room_a.pt")
    found = arrays(lab, imported(lab, folder).artifacts["embeddings"], "room_a")
    np.testing.assert_array_equal(found["embeddings"], feat.to(torch.float16).numpy())


def test_keys_follow_the_content_and_one_more_scene_computes_one_more(lab: boxes.World, folder: Path) -> None:
    save_all(folder, "room_a", "room_b")
    few = imported(lab, folder, splits=["train"]).artifacts["embeddings"]
    save_all(folder, "room_c")
    every = imported(lab, folder).artifacts["embeddings"]
    assert every.key != few.key
    assert every.parts[:2] == few.parts
    values, mask = bank("room_b")
    save(folder / "room_b_0.pt", values + np.float16(1), mask)
    changed = imported(lab, folder).artifacts["embeddings"]
    assert [a == b for a, b in zip(changed.parts, every.parts, strict=True)] == [True, False, True]


def test_scenes_without_a_file_are_named(lab: boxes.World, folder: Path) -> None:
    save_all(folder, "room_a", "room_b")
    save(folder / "room_x_0.pt", *bank("room_x"))
    with pytest.raises(NotFound, match=r"1 of 3 scenes have no file .*room_c.*of no scene \(room_x_0\.pt\)"):
        imported(lab, folder)
    done = imported(lab, folder, missing="leave_out")
    assert done.artifacts["embeddings"].scenes == ("room_a", "room_b")
    assert [note for note in done.recorder.notes if "room_c" in note]
    with pytest.raises(SpecInvalid, match="kind 'features'"):
        imported(lab, folder, kind="clouds")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("pwned",)


def wrong_count(path: Path) -> None:
    save(path, np.ones((N + 1, D), np.float16), np.ones(N + 1, bool))


def wrong_rows(path: Path) -> None:
    torch.save({"feat": torch.ones(7, D).half(), "mask_full": torch.ones(N, dtype=torch.bool)}, path)


def no_mask(path: Path) -> None:
    torch.save({"feat": torch.ones(7, D).half()}, path)


def not_finite(path: Path) -> None:
    values = np.ones((N, D), np.float32)
    values[5, 2] = 1e6
    torch.save({"feat": torch.from_numpy(values), "mask_full": torch.ones(N, dtype=torch.bool)}, path)


def code(path: Path) -> None:
    torch.save({"feat": torch.ones(N, D).half(), "mask_full": Evil()}, path)


def bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Evil()))


def cut(path: Path) -> None:
    save(path, *bank("room_a"))
    path.write_bytes(path.read_bytes()[:-2000])


def bomb(path: Path) -> None:
    save(path.with_suffix(".tmp"), np.zeros((N, D), np.float16), np.ones(N, bool))
    with zipfile.ZipFile(path.with_suffix(".tmp")) as plain, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for info in plain.infolist():
            packed.writestr(info.filename, plain.read(info))


def unfolding(path: Path) -> None:
    """One value that claims to be an embedding of a million."""
    torch.save({"feat": torch.ones(1).half().expand(N, 10**6), "mask_full": torch.ones(N, dtype=torch.bool)}, path)


def integers(path: Path) -> None:
    torch.save({"feat": torch.ones(N, D, dtype=torch.int64), "mask_full": torch.ones(N, dtype=torch.bool)}, path)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (wrong_count, r"room_a_0\.pt: got mask_full .*\(901,\), the scene has 900 points"),
        (wrong_rows, r"room_a_0\.pt: got feat .*\(7, 24\), mask_full names 900 points"),
        (no_mask, r"room_a_0\.pt: got feat, expected feat and mask_full"),
        (not_finite, r"room_a_0\.pt: row 5 .*not finite in float16"),
        (code, r"room_a_0\.pt: got Python objects"),
        (bare_pickle, r"room_a_0\.pt cannot be read"),
        (cut, r"room_a_0\.pt cannot be read"),
        (bomb, r"room_a_0\.pt has \d+ bytes and would unfold into \d+"),
        (unfolding, r"room_a_0\.pt: .*shape \(900, 1000000\)"),
        (integers, r"room_a_0\.pt: got feat of type torch\.int64"),
    ],
)
def test_what_is_no_file_of_fused_features_is_refused_and_runs_no_code(
    lab: boxes.World, folder: Path, write: Callable[[Path], None], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    save_all(folder, "room_b", "room_c")
    write(folder / "room_a_0.pt")
    with pytest.raises(DatasetInvalid, match=words) as caught:
        imported(lab, folder)
    assert caught.value.scene == "room_a"
    assert not (folder.parent / "pwned").exists()


def test_files_of_two_fusions_and_two_whole_files_are_refused(lab: boxes.World, folder: Path) -> None:
    save_all(folder)
    values, mask = bank("room_a")
    save(folder / "room_a_1.pt", values * np.float16(2), mask)
    with pytest.raises(DatasetInvalid, match=r"room_a_1\.pt has other embeddings"):
        imported(lab, folder)
    save(folder / "room_a_1.pt", values[:, :8].copy(), mask)
    with pytest.raises(DatasetInvalid, match=r"embeddings of \[8, 24\] values"):
        imported(lab, folder)
    np.save(folder / "room_a.npy", values)
    with pytest.raises(DatasetInvalid, match=r"either one whole file or numbered ones"):
        imported(lab, folder)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00junk", b"not an array"])
def test_npy_that_is_none(lab: boxes.World, folder: Path, content: bytes) -> None:
    save_all(folder, "room_b", "room_c")
    (folder / "room_a.npy").write_bytes(content)
    with pytest.raises(DatasetInvalid, match=r"room_a\.npy cannot be read"):
        imported(lab, folder)
    np.save(folder / "room_a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DatasetInvalid, match=r"room_a\.npy cannot be read"):
        imported(lab, folder)
    np.save(folder / "room_a.npy", np.ones((3, D), np.float16))
    with pytest.raises(DatasetInvalid, match=r"shape \(3, 24\), expected \(900, D\)"):
        imported(lab, folder)


def test_what_is_exported_is_what_torch_reads_and_comes_back_equal(lab: boxes.World, tmp_path: Path) -> None:
    out = tmp_path / "out" / "openscene"
    made = lab.artifacts["embeddings"]
    assert dict(export(lab.store, made.key, out)) == dict.fromkeys(boxes.SCENES, 700)
    for scene in boxes.SCENES:
        read = torch.load(out / f"{scene}_0.pt", weights_only=True)
        stored = arrays(lab, made, scene)
        assert (read["feat"].dtype, read["mask_full"].dtype, set(read)) == (
            torch.float16, torch.bool, {"feat", "mask_full"},
        )  # fmt: skip
        np.testing.assert_array_equal(np.flatnonzero(read["mask_full"].numpy()), stored["point_index"])
        np.testing.assert_array_equal(read["feat"].numpy(), stored["embeddings"])
    back = imported(lab, out).artifacts["embeddings"]
    for scene in boxes.SCENES:
        for name in ("embeddings", "point_index"):
            np.testing.assert_array_equal(arrays(lab, back, scene)[name], arrays(lab, made, scene)[name])


def test_subsets_are_of_so_many_points_and_always_the_same(lab: boxes.World, tmp_path: Path) -> None:
    made = lab.artifacts["embeddings"]
    for name in ("one", "two"):
        list(export(lab.store, made.key, tmp_path / name, Subsets(3, 400, seed=5)))
    stored = arrays(lab, made, "room_a")
    of_point = dict(zip(stored["point_index"].tolist(), stored["embeddings"], strict=True))
    drawn = []
    for number in range(3):
        read = torch.load(tmp_path / "one" / f"room_a_{number}.pt", weights_only=True)
        points = np.flatnonzero(read["mask_full"].numpy())
        assert 200 < len(points) < 400, "400 points are drawn, of which 7 in 9 are covered"
        np.testing.assert_array_equal(read["feat"].numpy(), np.stack([of_point[point] for point in points.tolist()]))
        assert (tmp_path / "one" / f"room_a_{number}.pt").stat().st_size < 400 * boxes.DIMENSION * 2 + 4096
        again = torch.load(tmp_path / "two" / f"room_a_{number}.pt", weights_only=True)
        assert torch.equal(read["feat"], again["feat"])
        drawn.append(set(points.tolist()))
    assert drawn[0] != drawn[1]

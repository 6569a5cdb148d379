from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from storage.artifacts.choose import open_store
from storage.artifacts.kinds import KINDS
from storage.artifacts.store import WHOLE, ArtifactStore
from storage.artifacts.zarr_arrays import MAX_FILES, file_budget, grid
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import FormatTooNew, NotFound, StoreCorrupt
from storage.settings import Settings
from storage.specs.spec import ArtifactKind
from tests.conformance.artifact_store import TOKEN, ArtifactStoreConformance, artifact, embeddings, put


class TestZarrStore(ArtifactStoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ArtifactStore:
        return ZarrStore(tmp_path / "store")


@pytest.fixture
def store(tmp_path: Path) -> ZarrStore:
    return ZarrStore(tmp_path / "store")


def files_of(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def test_the_settings_name_a_local_store(tmp_path: Path) -> None:
    store = open_store(Settings(home=tmp_path, store_url=f"file://{tmp_path / 'features'}"))
    assert isinstance(store, ZarrStore)
    assert store.root == tmp_path / "features"
    with pytest.raises(ValueError, match="gs://bucket"):
        open_store(Settings(home=tmp_path, store_url="gs://bucket"))


def test_plain_zarr_reads_a_part_with_dims_units_and_attributes(store: ZarrStore) -> None:
    with store.write_part("ab12", kind="scenes", scene="room", token=TOKEN) as writer:
        points = np.random.default_rng(0).standard_normal((20_000, 3)).astype(np.float32)
        writer.write("points", points)
        writer.write("colours", np.full((20_000, 3), 9, np.uint8))
        writer.write("intrinsics", np.ones((2, 3, 3)))
        writer.write("camera_to_world", np.ones((2, 4, 4)))
        writer.set(num_points=20_000, point_order="abc", split="test")
    group = zarr.open_group(store.part_path("ab12"), mode="r")
    assert dict(group.attrs) == {"num_points": 20_000, "point_order": "abc", "split": "test"}
    assert sorted(group.array_keys()) == ["camera_to_world", "colours", "intrinsics", "points"]
    array = group["points"]
    assert isinstance(array, zarr.Array)
    assert (np.asarray(array[:]) == points).all()
    assert array.metadata.zarr_format == 3
    assert array.metadata.dimension_names == ("point", "xyz")
    assert dict(array.attrs) == {"unit": "m"}


def test_listing_a_part_with_plain_zarr_warns_of_nothing(store: ZarrStore) -> None:
    with store.write_part("ab12", kind="figures", scene=WHOLE, token=TOKEN) as writer:
        writer.path("a.png").write_bytes(b"picture")
    put(store, "cd34", "room", embeddings())
    assert list(zarr.open_group(store.part_path("ab12"), mode="r").members()) == []
    members = dict(zarr.open_group(store.part_path("cd34"), mode="r").members())
    apart = {name: zarr.open_array(store.part_path("cd34") / name, mode="r").metadata for name in members}
    assert {name: array.metadata for name, array in members.items()} == apart
    assert sorted(apart) == ["embeddings", "point_index", "views"]


def test_chunks_carry_a_checksum_and_raw_little_endian_values(store: ZarrStore) -> None:
    arrays = embeddings(num_points=40_000, covered=30_000, dimension=384)
    put(store, "ab12", "room", arrays)
    folder = store.part_path("ab12") / "embeddings"
    document = json.loads((folder / "zarr.json").read_text())
    assert [codec["name"] for codec in document["codecs"]] == ["bytes", "crc32c"]
    assert document["codecs"][0]["configuration"] == {"endian": "little"}
    assert document["chunk_grid"]["configuration"]["chunk_shape"] == [7_500, 384]
    first = (folder / "c" / "0" / "0").read_bytes()
    assert first[:-4] == arrays["embeddings"][:7_500].tobytes()


def test_a_large_scene_keeps_to_the_number_of_files(store: ZarrStore) -> None:
    arrays = embeddings(num_points=160_000, covered=150_000, dimension=2)
    block = np.random.default_rng(1).integers(0, 0x7C00, (10_007, 768), dtype=np.uint16).view(np.float16)
    arrays["embeddings"] = np.tile(block, (15, 1))[:150_000]
    put(store, "ab12", "room", arrays)
    assert len(files_of(store.part_path("ab12"))) <= MAX_FILES
    part = store.part("ab12")
    assert part is not None
    assert (part.array("embeddings") == arrays["embeddings"]).all()
    rows = zarr.open_array(store.part_path("ab12") / "embeddings", mode="r")[81_920:81_925]
    assert (np.asarray(rows) == arrays["embeddings"][81_920:81_925]).all()


@pytest.mark.parametrize("rows", [0, 1, 8_192, 8_193, 30_000, 150_000, 560_000, 5_000_000])
@pytest.mark.parametrize("columns", [1, 3, 384, 768])
def test_no_array_takes_more_files_than_its_budget(rows: int, columns: int) -> None:
    budget = file_budget("embeddings", "embeddings")
    chunks, shards = grid((rows, columns), 2, budget)
    outer = shards or chunks
    assert outer[1] == chunks[1] == columns
    assert -(-rows // outer[0]) <= budget
    assert outer[0] % chunks[0] == 0
    assert -(-rows // chunks[0]) * chunks[0] - rows < max(1, -(-rows // chunks[0])), "next to nothing is padding"


@pytest.mark.parametrize("kind", [kind for kind, layout in KINDS.items() if layout.arrays])
def test_the_budgets_of_a_kind_s_arrays_keep_its_part_to_the_number_of_files(kind: ArtifactKind) -> None:
    names = KINDS[kind].arrays
    assert 2 + sum(1 + file_budget(kind, name) for name in names) <= MAX_FILES


def test_every_flipped_byte_is_found_and_its_file_named(store: ZarrStore) -> None:
    entry = put(store, "ab12", "room-3", embeddings())
    store.publish(artifact("beef01", entry), token=TOKEN)
    for file in files_of(store.part_path("ab12")):
        whole = file.read_bytes()
        for place in (0, len(whole) // 2, len(whole) - 1):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            faults = store.verify("beef01")
            assert len(faults) == 1, (file, place)
            assert file.relative_to(store.part_path("ab12")).as_posix() in faults[0]
            assert "room-3" in faults[0]
        file.write_bytes(whole)
    assert store.verify("beef01") == []


def test_missing_cut_and_foreign_files_are_found(store: ZarrStore) -> None:
    entry = put(store, "ab12", "room-3", embeddings())
    store.publish(artifact("beef01", entry), token=TOKEN)
    folder = store.part_path("ab12")
    (folder / "views" / "c" / "0").unlink()
    (folder / "point_index" / "c" / "0").write_bytes(b"")
    (folder / "stranger").write_bytes(b"?")
    faults = "\n".join(store.verify("beef01"))
    assert "views/c/0 of the part ab12 (scene room-3) cannot be read" in faults
    assert "point_index/c/0 of the part ab12 (scene room-3) was changed: 0 bytes" in faults
    assert "stranger of the part ab12 (scene room-3) was never published" in faults
    (folder / "manifest.json").unlink()
    (fault,) = store.verify("beef01")
    assert "manifest.json" in fault
    assert "room-3" in fault


def test_a_part_that_is_gone_is_found(store: ZarrStore) -> None:
    store.publish(artifact("beef01", put(store, "ab12", "room-3", embeddings())), token=TOKEN)
    store.part_path("ab12").rename(store.root / "elsewhere")
    assert store.verify("beef01") == ["the part ab12 (scene room-3) is missing from the store"]


def test_readers_refuse_damage_and_name_key_scene_and_file(store: ZarrStore) -> None:
    put(store, "ab12", "room-3", embeddings())
    part = store.part("ab12")
    assert part is not None
    chunk = store.part_path("ab12") / "embeddings" / "c" / "0" / "0"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    with pytest.raises(StoreCorrupt, match=r"embeddings of the part ab12 \(scene room-3\).*checksum") as caught:
        part.array("embeddings")
    assert caught.value.scene == "room-3"
    chunk.write_bytes(whole[:-1])
    with pytest.raises(StoreCorrupt, match=r"embeddings/c/0/0 of the part ab12.*bytes"):
        part.array("embeddings")
    chunk.unlink()
    with pytest.raises(StoreCorrupt, match=r"embeddings/c/0/0 of the part ab12.*missing"):
        part.array("embeddings")
    for content in ("{", '{"node_type": "group", "attributes": [1]}'):
        (store.part_path("ab12") / "zarr.json").write_text(content)
        with pytest.raises(StoreCorrupt, match=r"zarr\.json of the part ab12"):
            dict(part.attributes)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format_version": 1}', '{"format_version": "1"}'])
def test_a_garbled_manifest_is_corrupt_and_nothing_else(store: ZarrStore, content: str) -> None:
    store.publish(artifact("beef01", put(store, "ab12", "room", embeddings())), token=TOKEN)
    store.artifact_path("beef01").write_text(content)
    with pytest.raises(StoreCorrupt, match="beef01"):
        store.manifest("beef01")
    assert len(store.verify("beef01")) == 1
    (store.part_path("ab12") / "manifest.json").write_text(content)
    with pytest.raises(StoreCorrupt, match="ab12"):
        store.part("ab12")
    with pytest.raises(StoreCorrupt, match="ab12"):
        store.entry("ab12")


def test_a_newer_format_is_refused_and_says_to_upgrade(store: ZarrStore) -> None:
    store.publish(artifact("beef01", put(store, "ab12", "room", embeddings())), token=TOKEN)
    for file in (store.part_path("ab12") / "manifest.json", store.artifact_path("beef01")):
        document = json.loads(file.read_text())
        file.write_text(json.dumps({**document, "format_version": 3, "new": True}))
    with pytest.raises(FormatTooNew, match=r"ab12.*format 3.*up to 2.*upgrade"):
        store.part("ab12")
    with pytest.raises(FormatTooNew, match=r"beef01.*format 3"):
        store.manifest("beef01")
    with pytest.raises(FormatTooNew):
        store.verify("beef01")


KILLED = """
import sys, os, signal, numpy as np
from pathlib import Path
from storage.artifacts.zarr_store import ZarrStore
with ZarrStore(Path(sys.argv[1])).write_part("ab12", kind="embeddings", scene="room", token="killed") as part:
    part.write("point_index", np.arange(50))
    part.write("embeddings", np.ones((50, 4), np.float16))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_leaves_nothing_visible_and_the_sweep_takes_its_staging(store: ZarrStore) -> None:
    dead = subprocess.run([sys.executable, "-c", KILLED, str(store.root)], check=False, cwd=Path(__file__).parents[3])
    assert dead.returncode == -signal.SIGKILL
    assert store.part("ab12") is None
    assert not (store.root / "parts").exists()
    assert files_of(store.root / "staging" / "killed")
    assert store.sweep(frozenset({"killed"})) == 0
    assert files_of(store.root / "staging" / "killed")
    assert store.sweep(frozenset({"living"})) == 1
    assert list((store.root / "staging").iterdir()) == []
    put(store, "ab12", "room", embeddings())
    assert store.part("ab12") is not None


def test_what_a_dead_attempt_staged_under_the_same_token_is_not_taken_over(store: ZarrStore) -> None:
    left = store.root / "staging" / TOKEN / "ab12" / "files"
    left.mkdir(parents=True)
    (left / "old.bin").write_bytes(b"old")
    with store.write_part("ab12", kind="checkpoint", scene=WHOLE, token=TOKEN) as writer:
        writer.path("new.bin").write_bytes(b"new")
    part = store.part("ab12")
    assert part is not None
    assert part.files() == ("new.bin",)


def test_a_failed_block_and_a_published_one_leave_no_staging(store: ZarrStore) -> None:
    put(store, "ab12", "room", embeddings())
    with pytest.raises(StoreCorrupt), store.write_part("cd34", kind="checkpoint", scene=WHOLE, token=TOKEN):
        pass
    store.publish(artifact("beef01"), token=TOKEN)
    assert list((store.root / "staging").iterdir()) == []


def test_a_staged_file_that_a_stage_truncates_after_writing_is_not_published(store: ZarrStore) -> None:
    def truncate_midway() -> None:
        with store.write_part("ab12", kind="ground_truth", scene="room-3", token=TOKEN) as writer:
            writer.write("labels", np.zeros(50, np.int16))
            (chunk,) = (store.root / "staging").rglob("labels/c/0")
            chunk.write_bytes(chunk.read_bytes()[:-10])

    with pytest.raises(StoreCorrupt, match=r"room-3.*read back"):
        truncate_midway()
    assert store.part("ab12") is None


def test_equal_parts_in_two_stores_have_equal_files(tmp_path: Path) -> None:
    one, two = ZarrStore(tmp_path / "one"), ZarrStore(tmp_path / "two")
    first, second = put(one, "ab12", "room", embeddings()), put(two, "ab12", "room", embeddings())
    assert first == second
    contents = [{p.relative_to(s.root): p.read_bytes() for p in files_of(s.root)} for s in (one, two)]
    assert contents[0] == contents[1]


def test_opening_and_listing_import_no_zarr(store: ZarrStore) -> None:
    store.publish(artifact("beef01", put(store, "ab12", "room", embeddings())), token=TOKEN)
    program = (
        "import sys\nfrom pathlib import Path\nfrom storage.artifacts.zarr_store import ZarrStore\n"
        "store = ZarrStore(Path(sys.argv[1]))\n"
        "part = store.part('ab12')\nassert part.attributes['num_points'] == 300\nassert store.manifest('beef01')\n"
        "sys.exit('zarr' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(store.root)], check=True, cwd=Path(__file__).parents[3])


def test_a_damaged_plain_file_is_refused_by_size(store: ZarrStore) -> None:
    with store.write_part("ab12", kind="figures", scene=WHOLE, token=TOKEN) as writer:
        writer.path("a.png").write_bytes(b"picture")
    part = store.part("ab12")
    assert part is not None
    part.file("a.png").write_bytes(b"pic")
    with pytest.raises(StoreCorrupt, match=r"a\.png.*3 bytes, 7"):
        part.file("a.png")
    with pytest.raises(NotFound):
        part.file("b.png")


def test_a_part_that_is_published_while_it_is_looked_for_is_there(
    store: ZarrStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a look for its manifest, which finds none, and one for its folder."""
    elsewhere = store.root / "elsewhere"
    put(store, "ab12", "room", embeddings())
    part, read = store.part_path("ab12"), Path.read_bytes
    part.rename(elsewhere)

    def publishes(path: Path) -> bytes:
        try:
            return read(path)
        except FileNotFoundError:
            if elsewhere.exists():
                elsewhere.rename(part)
            raise

    monkeypatch.setattr(Path, "read_bytes", publishes)
    assert store.entry("ab12") is not None
    (part / "manifest.json").unlink()
    with pytest.raises(StoreCorrupt, match="cannot be read"):
        store.entry("ab12")

"""Artifacts pulled into a store on object storage, and mended there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import obstore
import pytest
from obstore.store import S3Store

from storage import keys
from storage.artifacts.object_store import ObjectStore
from storage.artifacts.objects import Objects
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import NotFound, StoreCorrupt, StoreUnreachable, StoreUnwritable
from storage.specs import stages
from storage.targets import Sources
from tests.fixtures.lab_artifact import KEY, SCENES, embeddings, files
from tests.fixtures.lab_source import LabSource
from tests.fixtures.object_storage import ObjectStorage
from workers import trial
from workers.context import Machine

PART = keys.digest([KEY, "room_b"])
PREFIX = f"parts/{PART[:2]}/{PART}/"


@pytest.fixture
def bucket(bucket_server: ObjectStorage) -> S3Store:
    return bucket_server.bucket()


@pytest.fixture
def here(bucket: S3Store, tmp_path: Path) -> ObjectStore:
    return ObjectStore(bucket, tmp_path / "here")


def run(stage: str, source: LabSource, store: ObjectStore, tmp_path: Path, connections: int = 4) -> trial.Trial:
    machine = Machine(scratch=tmp_path / "here" / "resume" / "r1", sources=Sources(("127.0.0.1",)))
    spec = stages.parse({"stage": stage, "source": source.url, "artifact": KEY, "connections": connections})
    return trial.run_stage(spec, store, machine=machine)


def published(bucket: S3Store) -> dict[str, bytes]:
    """Every object of the bucket."""
    names = [meta["path"] for page in obstore.list(bucket) for meta in page]
    return {name: bytes(obstore.get(bucket, name).bytes()) for name in names}


def test_a_bucket_holds_what_was_there_byte_for_byte(
    source: LabSource, here: ObjectStore, there: ZarrStore, bucket: S3Store, tmp_path: Path
) -> None:
    run("pull", source, here, tmp_path)
    assert published(bucket) == files(there.root)
    assert here.verify(KEY) == []
    asked = len(source.asked)
    run("pull", source, here, tmp_path)
    assert not any("/c/" in path for path, _ in source.asked[asked:])
    other = ObjectStore(bucket, tmp_path / "another machine").part(PART)
    assert other is not None
    assert np.array_equal(other.array("embeddings"), embeddings("room_b"))


def test_a_bucket_that_is_lost_on_the_way_gets_the_rest_afterwards(
    source: LabSource,
    here: ObjectStore,
    there: ZarrStore,
    bucket: S3Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put, sent = Objects.put, 0

    def breaks(self: Objects, name: str, content: bytes | Path) -> None:
        nonlocal sent
        sent += 1
        if sent == 12:
            raise StoreUnreachable("the object storage did not answer")
        put(self, name, content)

    monkeypatch.setattr(Objects, "put", breaks)
    with pytest.raises(StoreUnreachable):
        run("pull", source, here, tmp_path)
    monkeypatch.undo()
    assert here.manifest(KEY) is None
    run("pull", source, here, tmp_path)
    here.sweep(frozenset())
    assert published(bucket) == files(there.root)


class SmallDisk(ObjectStore):
    """A store in a bucket, on a machine whose disk has so much free."""

    free = 0

    def free_bytes(self) -> int:
        return self.free


def test_a_disk_without_room_for_the_parts_on_their_way_is_heard_of_before_anything_is_fetched(
    source: LabSource, there: ZarrStore, bucket: S3Store, tmp_path: Path
) -> None:
    sizes = sorted(
        sum(path.stat().st_size for path in part.rglob("*") if path.is_file() and path.name != "manifest.json")
        for part in (there.root / "parts").glob("*/*")
    )
    assert len(sizes) > 2, "more parts than are on their way at a time"
    small, most = SmallDisk(bucket, tmp_path / "here"), sum(sizes[-2:])
    assert 0 < ObjectStore.free_bytes(small) < 2**60
    small.free = most - 1
    with pytest.raises(
        StoreUnwritable, match=rf"{sum(sizes):,} bytes .* {most:,} of them at a time.*{most - 1:,} free"
    ):
        run("pull", source, small, tmp_path, connections=2)
    assert not any("/parts/" in path for path, _ in source.asked) and published(bucket) == {}
    small.free = most
    run("pull", source, small, tmp_path, connections=2)
    assert published(bucket) == files(there.root)


def test_what_is_pulled_into_a_bucket_takes_no_room_here_but_while_it_is_on_its_way(
    source: LabSource, here: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lying, create = list[int](), Objects.create

    def look(self: Objects, name: str, content: bytes) -> bool:
        lying.append(len(list((tmp_path / "here").rglob("embeddings/c"))))
        return create(self, name, content)

    monkeypatch.setattr(Objects, "create", look)
    run("pull", source, here, tmp_path, connections=1)
    assert lying[: len(SCENES)] == [1] * len(SCENES), "each goes before the next comes"
    left = {path.name for path in (tmp_path / "here").rglob("*") if path.is_file()}
    assert left <= {"manifest.json", "zarr.json"}, "no chunk stays"
    part = here.part(PART)
    assert part is not None
    assert np.array_equal(part.array("embeddings"), embeddings("room_b"))


def test_a_copy_that_is_not_what_is_named_is_not_sent(
    source: LabSource, here: ObjectStore, there: ZarrStore, bucket: S3Store, tmp_path: Path
) -> None:
    chunk = there.part_path(PART) / "embeddings/c/1/0"
    content = bytearray(chunk.read_bytes())
    content[-1] ^= 1
    chunk.write_bytes(bytes(content))
    with pytest.raises(StoreCorrupt):
        run("pull", source, here, tmp_path)
    assert not any(name.startswith((PREFIX, "artifacts/")) for name in published(bucket))


def test_every_damaged_object_is_mended_and_no_other_is_touched(
    source: LabSource, here: ObjectStore, bucket: S3Store, tmp_path: Path
) -> None:
    with pytest.raises(NotFound, match="features pull"):
        run("repair", source, here, tmp_path)
    run("pull", source, here, tmp_path)
    whole = published(bucket)
    name = PREFIX + "embeddings/c/1/0"
    obstore.put(bucket, name, whole[name][:-1] + b"?")
    obstore.delete(bucket, PREFIX + "views/zarr.json")
    other = keys.digest([KEY, SCENES[0]])
    obstore.put(bucket, f"parts/{other[:2]}/{other}/manifest.json", b"{")
    obstore.put(bucket, f"artifacts/{KEY}/manifest.json", b"{")
    changed = {meta["path"]: meta["last_modified"] for page in obstore.list(bucket) for meta in page}
    done = run("repair", source, here, tmp_path)
    assert done.recorder.notes == ["3 files were not what was published and are now"]
    assert published(bucket) == whole
    untouched = {meta["path"]: meta["last_modified"] for page in obstore.list(bucket) for meta in page}
    mended = {
        name,
        PREFIX + "views/zarr.json",
        f"artifacts/{KEY}/manifest.json",
        f"parts/{other[:2]}/{other}/manifest.json",
    }
    assert {n: t for n, t in untouched.items() if n not in mended} == {
        n: t for n, t in changed.items() if n not in mended
    }
    assert here.verify(KEY) == []
    part = here.part(PART)
    assert part is not None
    assert np.array_equal(part.array("embeddings"), embeddings("room_b"))

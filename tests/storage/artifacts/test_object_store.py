"""The store on object storage, against a server that speaks S3's protocol in this process."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import blake3
import numpy as np
import obstore
import pytest
import zarr
from obstore.store import S3Store
from zarr.storage import ObjectStore as ZarrObjects

from storage.artifacts import fetched, object_store
from storage.artifacts.choose import open_store
from storage.artifacts.object_store import ObjectStore
from storage.artifacts.objects import Objects
from storage.artifacts.store import ArtifactStore, PartEntry
from storage.errors import ExtraMissing, FormatTooNew, NotFound, StoreCorrupt, StoreUnreachable
from storage.settings import Settings
from tests.conformance.artifact_store import TOKEN, ArtifactStoreConformance, artifact, embeddings, put
from tests.fixtures.object_storage import ObjectStorage, object_storage


@pytest.fixture
def bucket(bucket_server: ObjectStorage) -> S3Store:
    return bucket_server.bucket(prefix="features")


@pytest.fixture
def store(bucket: S3Store, tmp_path: Path) -> ObjectStore:
    return ObjectStore(bucket, tmp_path / "here")


class TestObjectStore(ArtifactStoreConformance):
    @pytest.fixture
    def store(self, bucket: S3Store, tmp_path: Path) -> ArtifactStore:
        return ObjectStore(bucket, tmp_path / "here")


def names(bucket: S3Store) -> list[str]:
    return sorted(meta["path"] for page in obstore.list(bucket) for meta in page)


def published(store: ArtifactStore, seed: int = 1) -> str:
    """An artifact of one part, published; its key."""
    store.publish(artifact("beef01", put(store, "ab12", "room-1", embeddings(seed))), token=TOKEN)
    return "beef01"


def test_another_machine_reads_what_was_published_here_and_only_what_it_asks_for(
    store: ObjectStore, bucket: S3Store, tmp_path: Path
) -> None:
    key = published(store)
    there = ObjectStore(bucket, tmp_path / "there")
    assert there.manifest(key) == store.manifest(key)
    part = there.part("ab12")
    assert part is not None
    assert part.attributes["num_points"] == 300
    np.testing.assert_array_equal(part.rows("embeddings", np.array([5, 2])), embeddings(1)["embeddings"][[5, 2]])
    fetched = [path for path in (tmp_path / "there").rglob("*") if path.is_file()]
    assert not any("views" in path.parts or "point_index" in path.parts for path in fetched)
    np.testing.assert_array_equal(part.array("views"), embeddings(1)["views"])


def test_plain_zarr_opens_a_part_in_the_bucket(store: ObjectStore, bucket: S3Store) -> None:
    published(store)
    there = S3Store.from_url(f"s3://{bucket.config['bucket']}/features/parts/ab/ab12", config=bucket.config,
                             client_options={"allow_http": True})  # fmt: skip
    group = zarr.open_group(ZarrObjects(there, read_only=True), mode="r")
    array = group["embeddings"]
    assert isinstance(array, zarr.Array)
    np.testing.assert_array_equal(np.asarray(array[:]), embeddings(1)["embeddings"])


def test_a_part_is_there_once_its_manifest_is(
    store: ObjectStore, bucket: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(Objects, "create", dies)
    with pytest.raises(KeyboardInterrupt):
        put(store, "ab12", "room-1", embeddings())
    monkeypatch.undo()
    assert any(name.startswith("parts/ab/ab12/embeddings/") for name in names(bucket))
    assert store.part("ab12") is None and list(store.parts()) == []
    assert store.staged() == {TOKEN}
    there = ObjectStore(bucket, tmp_path / "there")
    assert there.sweep(frozenset({TOKEN})) == 0
    assert there.sweep(frozenset()) == 1
    assert names(bucket) == []
    put(there, "ab12", "room-1", embeddings())
    assert store.part("ab12") is not None


def test_the_files_of_a_writer_that_lives_are_not_swept_with_those_of_one_that_died(
    store: ObjectStore, bucket: S3Store
) -> None:
    for token in ("dead", "alive"):
        obstore.put(bucket, f"staging/{token}/ab12", b"")
    obstore.put(bucket, "parts/ab/ab12/zarr.json", b"{}")
    assert store.sweep(frozenset({"alive"})) == 1
    assert names(bucket) == ["parts/ab/ab12/zarr.json", "staging/alive/ab12"]


def test_a_writer_whose_mark_was_swept_while_it_sent_publishes_nothing(
    store: ObjectStore, bucket: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = Objects.put

    def sweeping(self: Objects, name: str, content: bytes | Path) -> None:
        send(self, name, content)
        if name.endswith("parts/ab/ab12/zarr.json"):
            obstore.delete(bucket, f"staging/{TOKEN}/ab12")

    monkeypatch.setattr(Objects, "put", sweeping)
    with pytest.raises(StoreCorrupt, match="swept"):
        put(store, "ab12", "room-1", embeddings())
    assert store.part("ab12") is None


def test_who_publishes_second_elsewhere_keeps_the_first_and_reads_it(
    store: ObjectStore, bucket: S3Store, tmp_path: Path
) -> None:
    there = ObjectStore(bucket, tmp_path / "there")
    first = put(store, "ab12", "room-1", embeddings(1))
    assert put(there, "ab12", "room-1", embeddings(2)) == first
    part = there.part("ab12")
    assert part is not None
    np.testing.assert_array_equal(part.array("embeddings"), embeddings(1)["embeddings"])


def check_whole(storage: ObjectStorage, bucket: S3Store, key: str, seed: int) -> None:
    """A part in the bucket has every file that its manifest names, and plain zarr reads from it what was written."""
    now = storage.objects(str(bucket.config["bucket"]))
    prefix = f"features/parts/{key[:2]}/{key}"
    files = json.loads(now[f"{prefix}/manifest.json"])["files"]
    assert {name: blake3.blake3(now[f"{prefix}/{name}"]).hexdigest() for name in files} == {
        name: file["blake3"] for name, file in files.items()
    }
    there = storage.opened(str(bucket.config["bucket"]), prefix=prefix)
    array = zarr.open_group(ZarrObjects(there, read_only=True), mode="r")["embeddings"]
    assert isinstance(array, zarr.Array)
    np.testing.assert_array_equal(np.asarray(array[:]), embeddings(seed)["embeddings"])


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_part_that_is_swept_as_it_is_published_is_sent_again(
    store: ObjectStore, bucket: S3Store, bucket_server: ObjectStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:  # fmt: skip
    """Whoever sweeps on the same host takes what was staged, too."""
    create, sweeping = Objects.create, ObjectStore(bucket, tmp_path / where)

    def swept_first(self: Objects, name: str, content: bytes) -> bool:
        monkeypatch.undo()
        assert sweeping.sweep(frozenset()) == 1
        assert not any("zarr.json" in name for name in names(bucket))
        return create(self, name, content)

    monkeypatch.setattr(Objects, "create", swept_first)
    entry = put(store, "ab12", "room-1", embeddings())
    check_whole(bucket_server, bucket, "ab12", 0)
    assert store.part_faults(entry) == []
    assert sweeping.sweep(frozenset()) == 0
    assert not any(name.startswith(("staging/", "withdrawn/")) for name in names(bucket))


def test_a_part_of_too_many_files_that_is_swept_here_as_it_is_published_is_withdrawn(
    store: ObjectStore, bucket: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, sweeping = Objects.create, ObjectStore(bucket, tmp_path / "here")

    def swept_first(self: Objects, name: str, content: bytes) -> bool:
        sweeping.sweep(frozenset())
        return create(self, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(object_store, "MOST_HELD", 1)
        put(store, "cd34", "room-2", embeddings())
        patch.setattr(Objects, "create", swept_first)
        with pytest.raises(StoreCorrupt, match="swept"):
            put(store, "ab12", "room-1", embeddings())
    assert (store.part("ab12"), list(store.parts())) == (None, ["cd34"])
    sweeping.sweep(frozenset())
    assert not any(name.startswith(("parts/ab/", "staging/", "withdrawn/")) for name in names(bucket))


def test_what_another_worker_records_while_a_sweep_is_at_its_files_stays_and_is_whole(
    store: ObjectStore, bucket: S3Store, bucket_server: ObjectStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep has found no manifest, then it is put, another worker counts on it, then the sweep takes a file."""
    sweeping, other = (ObjectStore(bucket, tmp_path / name) for name in ("sweeping", "other"))
    create, delete, under = Objects.create, Objects.delete, Objects.under
    at_a_file, is_looked_at = threading.Event(), threading.Event()
    looks, taken, writer = list[str](), list[str](), threading.current_thread()

    def sweep_first(self: Objects, name: str, content: bytes) -> bool:
        if not name.startswith("parts/"):
            return create(self, name, content)
        pool.submit(sweeping.sweep, frozenset())
        assert at_a_file.wait(20)
        made = create(self, name, content)
        other.publish(artifact("beef01", published_entry(other)), token="other")
        return made

    def at_the_first_file(self: Objects, *gone: str) -> None:
        if gone[0].startswith("parts/") and not at_a_file.is_set():
            at_a_file.set()
            assert is_looked_at.wait(20)
            taken.append(gone[0])
        delete(self, *gone)

    def look(self: Objects, prefix: str) -> dict[str, datetime]:
        if threading.current_thread() is writer and prefix == "withdrawn/":
            looks.append(prefix)
            if len(looks) == 2:  # between the two it has seen every file
                is_looked_at.set()
        return under(self, prefix)

    with ThreadPoolExecutor(1) as pool:
        for name, patch in (("create", sweep_first), ("delete", at_the_first_file), ("under", look)):
            monkeypatch.setattr(Objects, name, patch)
        put(store, "ab12", "room-1", embeddings())
    monkeypatch.undo()
    assert taken, "the sweep took a file of a part that was published"
    check_whole(bucket_server, bucket, "ab12", 0)
    assert other.is_whole(artifact("beef01", published_entry(other)))
    assert other.verify("beef01") == []


def published_entry(store: ObjectStore) -> PartEntry:
    entry = store.entry("ab12")
    assert entry is not None
    return entry


def test_a_part_that_is_withdrawn_while_its_swept_writer_publishes_it_is_not_sent_again_for_good(
    store: ObjectStore, bucket: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, elsewhere = Objects.create, ObjectStore(bucket, tmp_path / "elsewhere")

    def between(self: Objects, name: str, content: bytes) -> bool:
        monkeypatch.undo()
        elsewhere.sweep(frozenset())
        made = create(self, name, content)
        elsewhere.withdraw("none", ["ab12"])
        elsewhere.clear()
        return made

    monkeypatch.setattr(Objects, "create", between)
    with pytest.raises(StoreCorrupt, match="swept"):
        put(store, "ab12", "room-1", embeddings())
    assert store.part("ab12") is None
    elsewhere.sweep(frozenset())
    assert names(bucket) == []


def test_what_a_writer_sends_after_it_was_swept_is_found_by_the_next_sweep(
    store: ObjectStore, bucket: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, elsewhere = Objects.put, ObjectStore(bucket, tmp_path / "elsewhere")

    def swept_first(self: Objects, name: str, content: bytes | Path) -> None:
        if name == "parts/ab/ab12/zarr.json":
            elsewhere.sweep(frozenset())
        send(self, name, content)

    monkeypatch.setattr(Objects, "put", swept_first)
    with pytest.raises(StoreCorrupt, match="swept"):
        put(store, "ab12", "room-1", embeddings())
    monkeypatch.undo()
    assert "parts/ab/ab12/zarr.json" in names(bucket)
    assert elsewhere.sweep(frozenset()) == 1
    assert names(bucket) == []


@pytest.mark.parametrize("moment", ["is published", "is sent"])
def test_what_is_written_again_while_a_sweep_removes_it_is_whole(
    store: ObjectStore, bucket: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The next attempt at a run sends the same names while a sweep is at those of the attempt that was lost."""
    obstore.put(bucket, "staging/dead/ab12", b"")
    put(store, "cd34", "room-1", embeddings())
    for name in [name for name in names(bucket) if "cd34" in name and "manifest" not in name]:
        obstore.put(bucket, name.replace("cd34", "ab12").replace("/cd/", "/ab/"), b"half")
    elsewhere, under, create = ObjectStore(bucket, tmp_path / "elsewhere"), Objects.under, Objects.create
    sent, goes_on, writing = threading.Event(), threading.Event(), list[Future[PartEntry]]()

    def write_then(self: Objects, prefix: str) -> dict[str, datetime]:
        found = under(self, prefix)
        if prefix == "parts/ab/ab12/" and not writing:
            writing.append(pool.submit(put, store, "ab12", "room-1", embeddings()))
            assert sent.wait(20)
            if moment == "is published":
                goes_on.set()
                writing[0].result()
        return found

    def wait_before(self: Objects, name: str, content: bytes) -> bool:
        sent.set()
        assert goes_on.wait(20)
        return create(self, name, content)

    with ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(Objects, "under", write_then)
        monkeypatch.setattr(Objects, "create", wait_before)
        elsewhere.sweep(frozenset({TOKEN}))
        goes_on.set()
        assert store.part_faults(writing[0].result()) == []
    elsewhere.sweep(frozenset({TOKEN}))
    assert store.part_faults(writing[0].result()) == []
    assert not any(name.startswith(("staging/", "withdrawn/")) for name in names(bucket))


def test_a_sweep_that_dies_is_ended_by_the_next(
    store: ObjectStore, bucket: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    obstore.put(bucket, "staging/dead/ab12", b"")
    obstore.put(bucket, "parts/ab/ab12/zarr.json", b"{}")
    delete = Objects.delete

    def dies_next(self: Objects, *gone: str) -> None:
        delete(self, *gone)
        raise KeyboardInterrupt

    monkeypatch.setattr(Objects, "delete", dies_next)
    with pytest.raises(KeyboardInterrupt):
        store.sweep(frozenset())
    monkeypatch.undo()
    assert store.staged()
    store.sweep(frozenset())
    assert names(bucket) == []


def test_a_note_is_kept_while_somebody_withdraws_what_it_names(
    store: ObjectStore, bucket: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "ab12", "room-1", embeddings())
    elsewhere, delete = ObjectStore(bucket, tmp_path / "elsewhere"), Objects.delete

    def after_somebody_looked(self: Objects, *gone: str) -> None:
        if gone == ("parts/ab/ab12/manifest.json",):
            monkeypatch.setattr(Objects, "delete", last)
            elsewhere.clear()
            monkeypatch.undo()
        delete(self, *gone)

    def last(self: Objects, *gone: str) -> None:
        delete(self, *gone)
        delete(self, "parts/ab/ab12/manifest.json")

    monkeypatch.setattr(Objects, "delete", after_somebody_looked)
    store.withdraw("none", ["ab12"])
    store.clear()
    assert names(bucket) == []


def test_large_files_are_sent_in_one_request_each(tmp_path: Path) -> None:
    asked: list[str] = []

    def listening(application: Callable[..., Any]) -> Callable[..., Any]:
        def answer(environ: dict[str, Any], start: Any) -> Any:
            asked.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{environ['QUERY_STRING']}")
            return application(environ, start)

        return answer

    sent = {"network.bin": os.urandom(12_000_000), "empty.txt": b""}
    with object_storage(listening) as storage:
        store = ObjectStore(storage.bucket(), tmp_path)
        with store.write_part("cd34", kind="checkpoint", scene="", token=TOKEN) as part:
            for name, content in sent.items():
                part.path(name).write_bytes(content)
        (name,) = {line.split("/")[1].partition("?")[0] for line in asked}
        now = storage.objects(name)
    for file, content in sent.items():
        assert now[f"parts/cd/cd34/files/{file}"] == content
        assert sum(line.startswith(f"PUT /{name}/parts/cd/cd34/files/{file}") for line in asked) == 1
    assert not any("upload" in line for line in asked)


def test_copies_whose_manifest_is_gone_are_not_read(store: ObjectStore, bucket: S3Store, tmp_path: Path) -> None:
    put(store, "ab12", "room-1", embeddings(1))
    there = ObjectStore(bucket, tmp_path / "there")
    there.withdraw("none", ["ab12"])
    there.clear()
    put(there, "ab12", "room-1", embeddings(2))
    (tmp_path / "here/parts/ab/ab12/manifest.json").unlink()
    part = store.part("ab12")
    assert part is not None
    np.testing.assert_array_equal(part.array("embeddings"), embeddings(2)["embeddings"])


def test_copies_of_what_was_withdrawn_and_made_anew_are_not_read(
    store: ObjectStore, bucket: S3Store, tmp_path: Path
) -> None:
    put(store, "ab12", "room-1", embeddings(1))
    there = ObjectStore(bucket, tmp_path / "there")
    there.withdraw("none", ["ab12"])
    assert store.part("ab12") is None
    put(there, "ab12", "room-1", embeddings(2))
    assert there.clear() == 1
    for each in (store, there):
        part = each.part("ab12")
        assert part is not None
        np.testing.assert_array_equal(part.array("embeddings"), embeddings(2)["embeddings"])


def test_clearing_frees_the_bytes(store: ObjectStore, bucket: S3Store) -> None:
    key = published(store)
    store.withdraw(key, ["ab12"])
    assert store.clear() == 2
    assert names(bucket) == []


@pytest.mark.parametrize("damage", ["flip", "gone", "extra", "manifest", "newer"])
def test_damage_in_the_bucket_is_found_and_named(store: ObjectStore, bucket: S3Store, damage: str) -> None:
    key = published(store)
    chunk = next(name for name in names(bucket) if name.startswith("parts/ab/ab12/embeddings/c/"))
    manifest = "parts/ab/ab12/manifest.json"
    if damage == "flip":
        content = bytearray(obstore.get(bucket, chunk).bytes())
        content[7] ^= 1
        obstore.put(bucket, chunk, bytes(content))
    elif damage == "gone":
        obstore.delete(bucket, chunk)
    elif damage == "extra":
        obstore.put(bucket, "parts/ab/ab12/stray", b"x")
    else:
        document = json.loads(bytes(obstore.get(bucket, manifest).bytes()))
        document["format_version" if damage == "newer" else "scene"] = 99 if damage == "newer" else "room-2"
        obstore.put(bucket, manifest, json.dumps(document).encode())
    (fault,) = store.verify(key)
    said = {"flip": "was changed", "gone": "is missing", "extra": "stray", "manifest": "manifest", "newer": "manifest"}
    assert said[damage] in fault
    assert "room-1" in fault
    if damage == "newer":
        with pytest.raises(FormatTooNew):
            store.part("ab12")


def test_a_file_that_is_gone_or_cut_short_is_an_error_that_names_it(
    store: ObjectStore, bucket: S3Store, tmp_path: Path
) -> None:
    published(store)
    chunk = next(name for name in names(bucket) if name.startswith("parts/ab/ab12/embeddings/c/"))
    obstore.put(bucket, chunk, b"short")
    for fault in ("5 bytes", "missing"):
        part = ObjectStore(bucket, tmp_path / fault).part("ab12")
        assert part is not None
        with pytest.raises(StoreCorrupt, match=f"room-1.*{fault}"):
            part.array("embeddings")
        obstore.delete(bucket, chunk)


def test_a_copy_here_that_was_cut_short_is_fetched_anew(store: ObjectStore, tmp_path: Path) -> None:
    published(store)
    copies = [path for path in (tmp_path / "here").rglob("embeddings/c/*/*") if path.is_file()]
    assert copies
    for path in copies:
        path.write_bytes(b"")
    part = store.part("ab12")
    assert part is not None
    np.testing.assert_array_equal(part.array("embeddings"), embeddings(1)["embeddings"])


def test_files_are_given_from_copies_that_are_fetched(store: ObjectStore, bucket: S3Store, tmp_path: Path) -> None:
    published(store)
    there = ObjectStore(bucket, tmp_path / "there")
    listed = json.loads(bytes(obstore.get(bucket, "parts/ab/ab12/manifest.json").bytes()))["files"]
    for name in [*listed, "manifest.json"]:
        found, content = there.stored("ab12", name), bytes(obstore.get(bucket, f"parts/ab/ab12/{name}").bytes())
        assert found is not None
        assert found.path.read_bytes() == content
        assert (found.num_bytes, found.digest) == (len(content), blake3.blake3(content).hexdigest())
    for key, name in (
        ("ab12", "../ab12/zarr.json"),
        ("ab12", "nothing"),
        ("ab13", "zarr.json"),
        ("../ab12", "zarr.json"),
    ):
        assert there.stored(key, name) is None
    gone = next(name for name in listed if name.startswith("embeddings/c/"))
    obstore.delete(bucket, f"parts/ab/ab12/{gone}")
    with pytest.raises(StoreCorrupt, match=r"gone.*features repair"):
        ObjectStore(bucket, tmp_path / "third").stored("ab12", gone)


def test_copies_keep_to_their_room_and_are_fetched_again(
    bucket: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetched, "LOOK_S", 0.0)
    writer = ObjectStore(bucket, tmp_path / "writer")
    part_keys = [f"ab{number:02d}" for number in range(6)]
    for number, key in enumerate(part_keys):
        put(writer, key, f"room-{number}", embeddings(number))
    one = sum(path.stat().st_size for path in (tmp_path / "writer/parts/ab/ab00").rglob("*") if path.is_file())
    store = ObjectStore(bucket, tmp_path / "here", int(3.5 * one))

    def kept() -> list[str]:
        return sorted(path.name for path in (tmp_path / "here/parts/ab").iterdir())

    def reads(number: int) -> None:
        part = store.part(part_keys[number])
        assert part is not None
        assert part.attributes["num_points"] == 300
        for name in part.names():
            np.testing.assert_array_equal(part.array(name), embeddings(number)[name])

    for number in range(6):
        reads(number)
    assert kept() == part_keys  # all were opened a moment ago
    for age, key in enumerate(part_keys):
        known = tmp_path / f"here/parts/ab/{key}/manifest.json"
        os.utime(known, (0, 1000 + age))
    reads(1)  # opened again, so that it is not the oldest any more
    put(writer, "ab06", "room-6", embeddings(6))
    assert store.part("ab06") is not None
    assert kept() == ["ab01", "ab04", "ab05", "ab06"]
    reads(0)
    reads(2)


def nobody_there() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def test_storage_that_does_not_answer_is_an_error_of_its_own(tmp_path: Path) -> None:
    bucket = S3Store("lab", endpoint=nobody_there(), access_key_id="a", secret_access_key="b", region="us-east-1",
                     client_options={"allow_http": True}, retry_config={"max_retries": 0})  # fmt: skip
    store = ObjectStore(bucket, tmp_path)
    asked: list[Callable[[], object]] = [
        lambda: store.part("ab12"), lambda: store.manifest("ab12"), store.staged, lambda: list(store.parts()),
        lambda: put(store, "ab12", "room-1", embeddings()),
    ]  # fmt: skip
    for ask in asked:
        with pytest.raises(StoreUnreachable, match="VLGLAB_STORE_URL"):
            ask()
    with pytest.raises(StoreUnreachable):
        store.verify("ab12")


def test_the_settings_name_a_bucket(
    bucket: S3Store, bucket_server: ObjectStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in bucket_server.environment.items():
        monkeypatch.setenv(name, value)
    settings = Settings(home=tmp_path, store_url=f"s3://{bucket.config['bucket']}/features")
    assert settings.store_address == settings.store_url
    assert settings.store_path == tmp_path / "store"
    store = open_store(settings)
    published(store)
    assert "artifacts/beef01/manifest.json" in names(bucket)
    with pytest.raises(NotFound):
        store.verify("beef02")


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(ExtraMissing, match=r"\[s3\]"):
        open_store(Settings(home=tmp_path, store_url="s3://lab"))


def test_two_machines_that_publish_one_key_at_once_agree(bucket: S3Store, tmp_path: Path) -> None:
    stores = [ObjectStore(bucket, tmp_path / f"machine-{number}") for number in range(2)]
    barrier, errors = threading.Barrier(2), []

    def run(number: int) -> None:
        try:
            with stores[number].write_part("ab12", kind="embeddings", scene="room", token=f"token-{number}") as writer:
                for name, values in embeddings(7).items():
                    writer.write(name, values)
                barrier.wait(timeout=30)
        except Exception as error:  # noqa: BLE001 - told below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    for store in stores:
        entry = store.entry("ab12")
        assert entry is not None
        assert store.part_faults(entry) == []
    assert stores[0].staged() == frozenset()


def test_the_snippet_of_the_page_reads_a_bucket(
    store: ObjectStore, bucket: S3Store, bucket_server: ObjectStorage, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    key = published(store)
    for name, value in bucket_server.environment.items():
        monkeypatch.setenv(name, value)
    page = Path(__file__).parents[3] / "docs" / "object-storage.md"
    (snippet,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    exec(snippet.replace("BUCKET/PREFIX", f"{bucket.config['bucket']}/features").replace("KEY", key), {})
    assert capsys.readouterr().out == "room-1 (200, 8) float16\n"

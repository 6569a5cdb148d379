"""A verification names the chunk: a byte is flipped anywhere, and an oracle of this file alone tells where it lies.

The oracle reads zarr.json and a shard's index with `json` and `struct`, as docs/format.md describes them.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import obstore
import pytest
from obstore.store import S3Store

from storage.artifacts import zarr_arrays
from storage.artifacts.object_store import ObjectStore
from storage.artifacts.store import ArtifactStore
from storage.artifacts.zarr_store import ZarrStore
from tests.conformance.artifact_store import embeddings, put
from tests.fixtures.object_storage import ObjectStorage

PART = "ab12"
FOLDER = f"parts/{PART[:2]}/{PART}"
ALL_AGREE = "every chunk agrees with its checksum"


@pytest.fixture
def sharded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of so few rows that several lie in a shard, the last one not full."""
    monkeypatch.setattr(zarr_arrays, "CHUNK_ROWS", 7)
    monkeypatch.setattr(zarr_arrays, "SMALL_BYTES", 1)


@pytest.fixture
def chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk a file, and several of them."""
    monkeypatch.setattr(zarr_arrays, "CHUNK_ROWS", 50)
    monkeypatch.setattr(zarr_arrays, "SMALL_BYTES", 1)
    monkeypatch.setattr(zarr_arrays, "file_budget", lambda kind, name: 100)


class OnDisk:
    """A store on a disk, whose files a test changes."""

    def __init__(self, folder: Path) -> None:
        self.store: ArtifactStore = ZarrStore(folder)
        self._root = folder / FOLDER

    def read(self, name: str) -> bytes:
        return (self._root / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        (self._root / name).write_bytes(content)


class InABucket:
    """The same in a bucket; nobody keeps copies of it that were not damaged."""

    def __init__(self, bucket: S3Store, folder: Path) -> None:
        self.store: ArtifactStore = ObjectStore(bucket, folder)
        self._bucket = bucket

    def read(self, name: str) -> bytes:
        return bytes(obstore.get(self._bucket, f"{FOLDER}/{name}").bytes())

    def write(self, name: str, content: bytes) -> None:
        obstore.put(self._bucket, f"{FOLDER}/{name}", content)


Lab = OnDisk | InABucket


@pytest.fixture(params=["disk", "bucket"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    if request.param == "disk":
        yield OnDisk(tmp_path)
    else:
        server: ObjectStorage = request.getfixturevalue("bucket_server")
        yield InABucket(server.bucket("lab"), tmp_path)


def files(lab: Lab) -> list[str]:
    return sorted(json.loads(lab.read("manifest.json"))["files"])


def chunk_at(lab: Lab, name: str, place: int) -> str:
    """The words for what lies at a byte of a file of chunks: a chunk by number and rows, or the index."""
    array, _, rest = name.partition("/c/")
    said = json.loads(lab.read(f"{array}/zarr.json"))
    shape, outer = said["shape"], said["chunk_grid"]["configuration"]["chunk_shape"][0]
    number = int(rest.split("/")[0])
    codec = said["codecs"][0]
    if codec["name"] == "bytes":
        return told(number, outer, shape[0])
    rows = codec["configuration"]["chunk_shape"][0]
    count, content = outer // rows, lab.read(name)
    start = len(content) - 16 * count - 4
    if place >= start:
        return "index"
    table = struct.unpack(f"<{2 * count}Q", content[start:-4])
    (inner,) = (i for i in range(count) if table[2 * i] <= place < table[2 * i] + table[2 * i + 1])
    return told(number * count + inner, rows, shape[0])


def told(number: int, rows: int, length: int) -> str:
    return f"chunk {number} (rows {number * rows} to {min(number * rows + rows, length) - 1})"


def flipped(content: bytes, place: int, bit: int = 1) -> bytes:
    return content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]


@pytest.mark.parametrize("layout", ["sharded", "chunked"])
def test_a_flipped_byte_in_any_file_is_named_with_its_chunk(
    lab: Lab, request: pytest.FixtureRequest, layout: str
) -> None:
    request.getfixturevalue(layout)
    entry, rng, seen = put(lab.store, PART, "room-3", embeddings()), np.random.default_rng(0), set()
    names = files(lab)
    for number, name in enumerate(names if isinstance(lab, OnDisk) else names[::4]):  # a bucket's server is slow
        whole = lab.read(name)
        ends = {0, len(whole) - 1} if isinstance(lab, OnDisk) or not number else set()
        for place in {*ends, *rng.integers(0, len(whole), 3).tolist()}:
            lab.write(name, flipped(whole, place, 1 << int(rng.integers(8))))
            (fault,) = lab.store.part_faults(entry)
            lab.write(name, whole)
            assert fault.startswith(f"{name} of the part {PART} (scene room-3) was changed")
            if "/c/" not in name:
                assert "chunk" not in fault
                continue
            where = chunk_at(lab, name, place)
            seen.add(where)
            if where == "index":
                assert fault.endswith(f"; the checksum of the index of the shard {name} is wrong, {ALL_AGREE}")
            else:
                assert fault.endswith(f"; the checksum of its {where} is wrong")
    assert ("index" in seen) is (layout == "sharded") and len(seen) > 2
    assert lab.store.part_faults(entry) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: flipped(flipped(c, 0), 130), r"; the checksums of its chunks 0 \(rows 0 to 6\) and 1 \(rows 7 to 1"),
        (lambda c: flipped(flipped(c, 0), len(c) - 1), r"index of the shard \S+ is wrong, the checksum of its chunk 0"),
        (lambda c: bytes(len(c)), r"index of the shard \S+ is wrong, the checksums of its chunks 0 \(.*are wrong$"),
        (lambda c: c[:-1], r"was changed: \d+ bytes with BLAKE3 \w+, \d+ with \w+ were published$"),
        (lambda c: b"", r"was changed: 0 bytes with BLAKE3 \w+, \d+ with \w+ were published$"),
    ],
)  # fmt: skip
def test_more_than_one_chunk_the_index_too_and_another_size(
    lab: Lab, sharded: None, change: Callable[[bytes], bytes], words: str
) -> None:
    entry = put(lab.store, PART, "room-3", embeddings())
    name = "embeddings/c/0/0"
    lab.write(name, change(lab.read(name)))
    (fault,) = lab.store.part_faults(entry)
    assert re.search(words, fault), fault


def test_of_many_chunks_the_first_are_named(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zarr_arrays, "CHUNK_ROWS", 2)
    monkeypatch.setattr(zarr_arrays, "SMALL_BYTES", 1)
    entry, name = put(lab.store, PART, "room-3", embeddings()), "embeddings/c/0/0"
    whole = lab.read(name)
    for place in range(0, 8 * 36, 36):  # 2 rows of 8 float16, and 4 bytes of checksum
        whole = flipped(whole, place)
    lab.write(name, whole)
    (fault,) = lab.store.part_faults(entry)
    assert fault.endswith(
        "chunks 0 (rows 0 to 1), 1 (rows 2 to 3), 2 (rows 4 to 5), 3 (rows 6 to 7) and 4 more are wrong"
    )


def test_values_with_a_checksum_of_their_own_are_said_to_agree(lab: Lab, chunked: None) -> None:
    entry = put(lab.store, PART, "room-3", embeddings())
    lab.write("embeddings/c/0/0", lab.read("embeddings/c/1/0"))
    (fault,) = lab.store.part_faults(entry)
    assert fault.endswith(f"; {ALL_AGREE}")


def test_where_the_array_s_metadata_is_damaged_too_no_chunk_is_named(lab: Lab, sharded: None) -> None:
    entry = put(lab.store, PART, "room-3", embeddings())
    for name in ("embeddings/zarr.json", "embeddings/c/0/0"):
        lab.write(name, flipped(lab.read(name), 0))
    faults = lab.store.part_faults(entry)
    assert len(faults) == 2 and not any("chunk" in fault for fault in faults)

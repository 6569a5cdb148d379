"""The store's files read by tensorstore, which shares no code with zarr: from a folder, a bucket and a service."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore

from benchmarks import served
from storage.artifacts import zarr_arrays
from storage.artifacts.object_store import ObjectStore
from storage.artifacts.scaled import encode
from storage.artifacts.zarr_store import ZarrStore
from tests.conformance.artifact_store import Arrays, embeddings, put
from tests.fixtures.object_storage import ObjectStorage

PART = "ab12"
FOLDER = f"parts/{PART[:2]}/{PART}"


def opened(kvstore: dict[str, Any], **options: Any) -> Any:
    spec = {"driver": "zarr3", "kvstore": kvstore, "fill_missing_data_reads": False, **options}
    return tensorstore.open(spec, open=True, read=True).result()


def whole(kvstore: dict[str, Any], **options: Any) -> np.ndarray:
    return np.asarray(opened(kvstore, **options).read().result())


def float16() -> Arrays:
    return embeddings()


def float32() -> Arrays:
    made = embeddings()
    return {**made, "embeddings": made["embeddings"].astype(np.float32)}


def int8() -> Arrays:
    made = embeddings(dimension=40)
    numbers, scales = encode(made["embeddings"])
    return {**made, "embeddings": numbers, "scales": scales}


@pytest.fixture
def sharded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zarr_arrays, "CHUNK_ROWS", 7)
    monkeypatch.setattr(zarr_arrays, "SMALL_BYTES", 1)


def is_sharded(part: Path) -> bool:
    return bool(json.loads((part / "embeddings/zarr.json").read_text())["codecs"][0]["name"] == "sharding_indexed")


@pytest.mark.parametrize("make", [float16, float32, int8])
@pytest.mark.parametrize("shards", [False, True])
def test_every_type_is_read_from_a_folder_whole_or_some_rows(
    tmp_path: Path, request: pytest.FixtureRequest, make: Callable[[], Arrays], shards: bool
) -> None:
    if shards:
        request.getfixturevalue("sharded")
    arrays, store = make(), ZarrStore(tmp_path)
    put(store, PART, "room", arrays)
    assert is_sharded(store.part_path(PART)) is shards
    for name, values in arrays.items():
        array = opened({"driver": "file", "path": f"{tmp_path}/{FOLDER}/{name}/"})
        read, rows = (np.asarray(piece.read().result()) for piece in (array, array[5:30]))
        assert read.dtype == values.dtype
        np.testing.assert_array_equal(read, values)
        np.testing.assert_array_equal(rows, values[5:30])


@pytest.mark.parametrize("shards", [False, True])
def test_a_flipped_bit_is_an_error_and_a_file_that_is_gone_one_where_it_is_asked_for(
    tmp_path: Path, request: pytest.FixtureRequest, shards: bool
) -> None:
    if shards:
        request.getfixturevalue("sharded")
    store = ZarrStore(tmp_path)
    put(store, PART, "room", float16())
    kvstore, file = {"driver": "file", "path": f"{tmp_path}/{FOLDER}/embeddings/"}, "embeddings/c/0/0"
    path = store.part_path(PART) / file
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"DATA_LOSS.*{file}.*Digest mismatch"):
        whole(kvstore)
    path.unlink()
    with pytest.raises(ValueError, match=rf"NOT_FOUND.*{file}"):
        whole(kvstore)
    assert not whole(kvstore, fill_missing_data_reads=True)[:7].any(), "as zarr does, it takes it for zeros"


@pytest.mark.parametrize("shards", [False, True])
def test_a_service_that_asks_for_a_token_is_read_with_one(
    tmp_path: Path, request: pytest.FixtureRequest, shards: bool
) -> None:
    if shards:
        request.getfixturevalue("sharded")
    put(ZarrStore(tmp_path / "store"), PART, "room", float16())
    file = tmp_path / "token"
    with served.service(tmp_path, VLGLAB_REQUIRE_TOKENS="true", VLGLAB_FIRST_TOKEN=str(file)) as (url, _):
        kvstore = {"driver": "http", "base_url": f"{url}/api/v1/store/", "path": f"{FOLDER}/embeddings/"}
        with pytest.raises(ValueError, match="PERMISSION_DENIED"):
            opened(kvstore)
        array = opened({**kvstore, "headers": [f"Authorization: Bearer {file.read_text().strip()}"]})
        np.testing.assert_array_equal(array.read().result(), float16()["embeddings"])
        np.testing.assert_array_equal(array[5:30].read().result(), float16()["embeddings"][5:30])


def test_a_bucket_is_read(
    tmp_path: Path, bucket_server: ObjectStorage, sharded: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = bucket_server.bucket("features")
    put(ObjectStore(bucket, tmp_path), PART, "room", float16())
    for name, value in bucket_server.environment.items():
        monkeypatch.setenv(name, value)
    kvstore = {
        "driver": "s3", "bucket": bucket.config["bucket"], "path": f"features/{FOLDER}/embeddings/",
        "endpoint": bucket_server.endpoint, "aws_region": "us-east-1", "aws_credentials": {"type": "environment"},
    }  # fmt: skip
    np.testing.assert_array_equal(whole(kvstore), float16()["embeddings"])

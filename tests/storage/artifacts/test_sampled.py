"""Parts of which only some rows are brought: they read as where they lie, and little more than that is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.artifacts import zarr_arrays
from storage.artifacts.array_metadata import read_layout
from storage.artifacts.part_files import read_manifest
from storage.artifacts.sampled import SampledReader
from storage.artifacts.scaled import encode
from storage.artifacts.store import PartReader
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import NotFound, StoreCorrupt
from tests.conformance.artifact_store import embeddings, put

ROWS, WIDTH = 20_000, 64


@dataclass
class There:
    """A part of a store elsewhere, and what was asked for of it."""

    part: PartReader
    path: Path
    here: Path
    asked: list[tuple[str, int]] = field(default_factory=list)
    damaged: dict[str, int] = field(default_factory=dict)
    """File -> a byte of it that comes changed."""

    def reader(self) -> SampledReader:
        manifest = read_manifest(self.path)
        assert manifest is not None
        return SampledReader(self.here, manifest, "http://lab", self.bring)

    def bring(self, name: str, start: int, num_bytes: int) -> bytes:
        self.asked.append((name, num_bytes))
        content = bytearray((self.path / name).read_bytes()[start : start + num_bytes])
        if start <= (at := self.damaged.get(name, -1)) < start + num_bytes:
            content[at - start] ^= 1
        return bytes(content)

    def bytes_of(self, name: str) -> int:
        return sum(count for file, count in self.asked if file.startswith(f"{name}/c/"))


@pytest.fixture(params=["files", "shards"])
def layout(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether a chunk is a file, or several lie in a shard."""
    monkeypatch.setattr(zarr_arrays, "SMALL_BYTES", 2**14)
    monkeypatch.setattr(zarr_arrays, "CHUNK_ROWS", 2500 if request.param == "files" else 400)
    return str(request.param)


@pytest.fixture(params=["float16", "int8"])
def there(request: pytest.FixtureRequest, layout: str, tmp_path: Path) -> There:
    arrays: dict[str, Any] = embeddings(1, num_points=ROWS + 99, covered=ROWS, dimension=WIDTH)
    if request.param == "int8":
        numbers, scales = encode(arrays["embeddings"])
        arrays |= {"embeddings": numbers, "scales": scales}
    store = ZarrStore(tmp_path / "there")
    put(store, "ab12", "room-7", arrays)
    part = store.part("ab12")
    assert part is not None
    sharded = read_layout(store.part_path("ab12") / "embeddings").chunks_a_shard is not None
    assert sharded == (layout == "shards")
    (tmp_path / "here").mkdir()
    return There(part, store.part_path("ab12"), tmp_path / "here")


def test_rows_read_as_where_they_lie_and_little_more_is_asked_for(there: There) -> None:
    rows = np.concatenate([np.arange(7000, 7128), np.arange(2450, 2560), [0, ROWS - 1]])
    found = there.reader().rows("embeddings", rows)
    np.testing.assert_array_equal(found, there.part.rows("embeddings", rows))
    whole = sum(file.stat().st_size for file in (there.path / "embeddings/c").rglob("*") if file.is_file())
    assert there.bytes_of("embeddings") < whole / 20


@pytest.mark.parametrize(
    "rows", [slice(5, 1200), slice(None, None, 777), slice(3, 3), np.array([-1, 4, 4, -ROWS]), np.array([9000, 12])]
)
def test_rows_may_be_asked_for_in_any_way_and_again(there: There, rows: Any) -> None:
    reader = there.reader()
    for wanted in (rows, slice(100, 300), rows):
        np.testing.assert_array_equal(reader.rows("embeddings", wanted), there.part.rows("embeddings", wanted))


def test_whole_arrays_and_attributes_are_brought_once_and_held_against_their_digests(there: There) -> None:
    reader = there.reader()
    reader.rows("point_index", slice(10, 20))
    for _ in range(2):
        np.testing.assert_array_equal(reader.array("point_index"), there.part.array("point_index"))
        assert dict(reader.attributes) == dict(there.part.attributes)
        np.testing.assert_array_equal(reader.array("embeddings"), there.part.array("embeddings"))
    assert there.bytes_of("views") == 0
    assert (reader.key, reader.scene, reader.names()) == ("ab12", "room-7", there.part.names())


@pytest.mark.parametrize("file", ["zarr.json", "embeddings/zarr.json", "point_index/c/0"])
def test_a_file_that_comes_changed_is_refused_and_named(there: There, file: str) -> None:
    there.damaged[file] = 3

    def read(reader: SampledReader) -> None:
        _ = reader.attributes
        reader.array("point_index")
        reader.rows("embeddings", slice(0, 9))

    with pytest.raises(StoreCorrupt, match=f"^{file} of the part ab12 .scene room-7. at http://lab") as caught:
        read(there.reader())
    assert caught.value.scene == "room-7"


@pytest.mark.parametrize("layout", ["shards"], indirect=True)
def test_a_shard_whose_index_comes_changed_is_refused(there: There) -> None:
    file = there.path / "embeddings/c/0/0"
    there.damaged["embeddings/c/0/0"] = file.stat().st_size - 20
    with pytest.raises(StoreCorrupt, match="index of the shard"):
        there.reader().rows("embeddings", slice(0, 9))


def test_rows_and_arrays_that_are_not_there_are_refused(there: There) -> None:
    for rows in (np.array([ROWS]), np.array([-ROWS - 1])):
        with pytest.raises(IndexError):
            there.reader().rows("embeddings", rows)
    for ask in (lambda: there.reader().rows("colours", slice(1)), lambda: there.reader().array("colours")):
        with pytest.raises(NotFound, match="colours"):
            ask()

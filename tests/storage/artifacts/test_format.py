"""docs/format.md, implemented from its text with struct, json and NumPy alone: it reads what the store writes.

Nothing of the store's code is used for reading; crc32c is a table made here.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import blake3
import numpy as np
import pytest

from storage.artifacts.scaled import encode
from storage.artifacts.zarr_store import ZarrStore
from tests.conformance.artifact_store import TOKEN, Arrays, artifact, embeddings, put

FORMAT = Path(__file__).resolve().parents[3] / "docs" / "format.md"


def crc32c(content: bytes) -> int:
    """Castagnoli's polynomial, reflected, a byte at a time."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    found = 0xFFFFFFFF
    for byte in content:
        found = table[(found ^ byte) & 0xFF] ^ found >> 8
    return found ^ 0xFFFFFFFF


def unsummed(content: bytes) -> bytes:
    (expected,) = struct.unpack("<I", content[-4:])
    assert crc32c(content[:-4]) == expected
    return content[:-4]


def read_array(folder: Path) -> np.ndarray:
    said = json.loads((folder / "zarr.json").read_text())
    assert (said["zarr_format"], said["node_type"], said["chunk_grid"]["name"]) == (3, "array", "regular")
    shape, outer = said["shape"], said["chunk_grid"]["configuration"]["chunk_shape"]
    (first, *more) = said["codecs"]
    rows: list[np.ndarray] = []
    for number in range(-(-shape[0] // outer[0]) if 0 not in shape else 0):
        content = folder.joinpath("c", str(number), *["0"] * (len(shape) - 1)).read_bytes()
        if first["name"] == "bytes":
            assert [codec["name"] for codec in more] == ["crc32c"]
            chunks, inner = [unsummed(content)], outer
        else:
            inner = first["configuration"]["chunk_shape"]
            count = outer[0] // inner[0]
            index = struct.unpack(f"<{2 * count}Q", unsummed(content[-16 * count - 4 :]))
            places = [index[i : i + 2] for i in range(0, 2 * count, 2)]
            chunks = [unsummed(content[at : at + length]) for at, length in places if at != 2**64 - 1]
        rows += [np.frombuffer(c, np.dtype(said["data_type"]).newbyteorder("<")).reshape(inner) for c in chunks]
    return np.concatenate(rows)[: shape[0]] if rows else np.zeros(shape, said["data_type"])


def read_part(root: Path, line: dict[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Attributes and arrays of the part that a line of an artifact's manifest names; every digest is checked."""
    folder = root / "parts" / line["key"][:2] / line["key"]
    content = (folder / "manifest.json").read_bytes()
    assert blake3.blake3(content).hexdigest() == line["digest"]
    manifest = json.loads(content)
    assert manifest["format_version"] <= 2 and manifest["scene"] == line["scene"]
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert present == set(manifest["files"]) | {"manifest.json"}
    for name, file in manifest["files"].items():
        held = (folder / name).read_bytes()
        assert (blake3.blake3(held).hexdigest(), len(held)) == (file["blake3"], file["bytes"])
    assert line["bytes"] == sum(file["bytes"] for file in manifest["files"].values())
    arrays = {name: read_array(folder / name) for name in manifest["arrays"]}
    for name, array in manifest["arrays"].items():
        assert (list(arrays[name].shape), arrays[name].dtype.name) == (array["shape"], array["dtype"])
    attributes = json.loads((folder / "zarr.json").read_text())["attributes"]
    assert manifest["attributes"] == {
        k: attributes[k] for k in ("num_points", "point_order", "split") if k in attributes
    }
    if "scales" in arrays:
        wide = np.repeat(arrays["scales"].astype(np.float32), 32, axis=1)[:, : arrays["embeddings"].shape[1]]
        arrays["embeddings"] = (arrays["embeddings"] * wide).astype(np.float16)
    return attributes, arrays


def small() -> Arrays:
    return embeddings()


def chunked() -> Arrays:
    return embeddings(num_points=20_000, covered=17_000, dimension=256)


def int8() -> Arrays:
    made = embeddings(dimension=40)
    numbers, scales = encode(made["embeddings"])
    return {**made, "embeddings": numbers, "scales": scales}


def float32() -> Arrays:
    made = embeddings()
    return {**made, "embeddings": made["embeddings"].astype(np.float32)}


@pytest.mark.parametrize("make", [small, chunked, int8, float32])
def test_a_store_is_read_by_the_document_alone(tmp_path: Path, make: Callable[[], Arrays]) -> None:
    store, arrays = ZarrStore(tmp_path), make()
    entry = put(store, "ab12", "room-ö", arrays, dtype=arrays["embeddings"].dtype.name)
    digest = store.publish(replace(artifact("beef01", entry), attributes={"splits": {"room-ö": "train"}}), token=TOKEN)
    content = (tmp_path / "artifacts" / "beef01" / "manifest.json").read_bytes()
    assert blake3.blake3(content).hexdigest() == digest
    manifest = json.loads(content)
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert content == canonical and manifest["format_version"] == 1
    (line,) = manifest["parts"]
    attributes, read = read_part(tmp_path, line)
    assert attributes["num_points"] == line["points"] == len(arrays["views"])
    part = store.part("ab12")
    assert part is not None
    assert set(read) == set(arrays)
    for name, values in read.items():
        np.testing.assert_array_equal(values, part.array(name))
    for name in ("point_index", "views"):
        np.testing.assert_array_equal(read[name], arrays[name])


def test_shards_are_read_by_the_document_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.artifacts.zarr_arrays.CHUNK_ROWS", 7)
    monkeypatch.setattr("storage.artifacts.zarr_arrays.SMALL_BYTES", 1)
    store, arrays = ZarrStore(tmp_path), embeddings()
    entry = put(store, "ab12", "room", arrays)
    said = json.loads((store.part_path("ab12") / "embeddings" / "zarr.json").read_text())
    assert said["codecs"][0]["name"] == "sharding_indexed"
    _, read = read_part(tmp_path, {"key": "ab12", "digest": entry.digest, "scene": "room", "bytes": entry.num_bytes})
    for name, values in arrays.items():
        np.testing.assert_array_equal(read[name], values)


def test_a_part_of_int8_says_that_older_readers_cannot_read_it_and_no_other_does(tmp_path: Path) -> None:
    store = ZarrStore(tmp_path)
    versions = {}
    for number, make in enumerate((small, float32, int8)):
        put(store, f"ab{number}0", "room", make())
        manifest = json.loads((store.part_path(f"ab{number}0") / "manifest.json").read_text())
        versions[make.__name__] = manifest["format_version"]
    assert versions == {"small": 1, "float32": 1, "int8": 2}


def test_the_document_names_every_field_of_the_manifests(tmp_path: Path) -> None:
    store = ZarrStore(tmp_path)
    store.publish(artifact("beef01", put(store, "ab12", "room", int8())), token=TOKEN)
    text = FORMAT.read_text()
    for file in (store.artifact_path("beef01"), store.part_path("ab12") / "manifest.json"):
        document = json.loads(file.read_text())
        fields = {
            *document,
            *(field for part in document.get("parts", []) for field in part),
            *document.get("arrays", {}),
        }
        assert not [field for field in fields if f"`{field}`" not in text]

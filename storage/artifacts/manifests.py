"""Manifests as they lie on disk: what a part and an artifact say of themselves, to and from JSON.

Knows the format's version and how to refuse a newer one. Knows no directory, no array library and no SQL.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import blake3

from storage.artifacts.store import FORMAT_VERSION, PLAIN_VERSION, ArtifactManifest, Attributes, PartEntry
from storage.errors import FormatTooNew, StoreCorrupt
from storage.keys import canonical_json
from storage.specs.spec import ArtifactKind

SUMMARY = ("num_points", "point_order", "split")
"""Attributes that a part's manifest repeats, so that they can be read without opening the group."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a part."""

    blake3: str
    """BLAKE3 of its bytes, 64 hexadecimal digits: what `b3sum` prints."""
    num_bytes: int


@dataclass(frozen=True, slots=True)
class ArrayEntry:
    """One array of a part."""

    shape: tuple[int, ...]
    dtype: str
    """NumPy's name of the dtype, such as float16; little endian on disk."""


@dataclass(frozen=True, slots=True)
class PartManifest:
    """What a part says of itself; equal parts have equal manifests, byte for byte."""

    key: str
    kind: ArtifactKind
    scene: str
    arrays: Mapping[str, ArrayEntry]
    files: Mapping[str, FileEntry]
    """Path relative to the part, with forward slashes -> digest and size; every file but the manifest itself."""
    attributes: Attributes = field(default_factory=dict)
    """Those of SUMMARY that the part has; all of them lie in the group."""
    format_version: int = PLAIN_VERSION

    @property
    def num_bytes(self) -> int:
        """Bytes of all its files but the manifest."""
        return sum(file.num_bytes for file in self.files.values())

    @property
    def num_points(self) -> int:
        """The attribute `num_points`; 0 where it has none."""
        return int(self.attributes.get("num_points", 0))

    def entry(self) -> PartEntry:
        """The line that an artifact's manifest carries for this part."""
        content = encode_part(self)
        return PartEntry(self.scene, self.key, digest(content), self.num_points, self.num_bytes)


def digest(content: bytes) -> str:
    """BLAKE3 of some bytes, 64 hexadecimal digits."""
    return blake3.blake3(content).hexdigest()


def encode_part(manifest: PartManifest) -> bytes:
    """A part's manifest as canonical JSON, UTF-8."""
    return canonical_json(
        {
            "format_version": manifest.format_version,
            "key": manifest.key,
            "kind": manifest.kind,
            "scene": manifest.scene,
            "attributes": dict(manifest.attributes),
            "arrays": {n: {"shape": list(a.shape), "dtype": a.dtype} for n, a in manifest.arrays.items()},
            "files": {n: {"blake3": f.blake3, "bytes": f.num_bytes} for n, f in manifest.files.items()},
        }
    ).encode()


def decode_part(content: bytes, where: str) -> PartManifest:
    """The part manifest that some bytes hold.

    Args:
        content: JSON, UTF-8.
        where: key and file, for the message of an error.

    Raises:
        FormatTooNew: a newer vlglab wrote it.
        StoreCorrupt: it is no manifest.
    """
    document = _document(content, where)
    try:
        return PartManifest(
            key=_as(str, document["key"]),
            kind=_as(str, document["kind"]),
            scene=_as(str, document["scene"]),
            arrays={n: ArrayEntry(_shape(a["shape"]), _as(str, a["dtype"])) for n, a in document["arrays"].items()},
            files={n: FileEntry(_as(str, f["blake3"]), int(f["bytes"])) for n, f in document["files"].items()},
            attributes=_as(dict, document["attributes"]),
            format_version=document["format_version"],
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise StoreCorrupt(f"{where} is no manifest of a part ({error!r}); {RECOMPUTE}") from error


def encode_artifact(manifest: ArtifactManifest) -> bytes:
    """An artifact's manifest as canonical JSON, UTF-8."""
    return canonical_json(
        {
            "format_version": manifest.format_version,
            "key": manifest.key,
            "kind": manifest.kind,
            "stage": manifest.stage,
            "output": manifest.output,
            "spec": dict(manifest.spec),
            "inputs": dict(manifest.inputs),
            "attributes": dict(manifest.attributes),
            "parts": [
                {"scene": p.scene, "key": p.key, "digest": p.digest, "points": p.num_points, "bytes": p.num_bytes}
                for p in manifest.parts
            ],
        }
    ).encode()


def decode_artifact(content: bytes, where: str) -> ArtifactManifest:
    """The artifact manifest that some bytes hold; arguments and errors as `decode_part`."""
    document = _document(content, where)
    try:
        parts = tuple(
            PartEntry(
                _as(str, p["scene"]), _as(str, p["key"]), _as(str, p["digest"]), int(p["points"]), int(p["bytes"])
            )
            for p in document["parts"]
        )
        return ArtifactManifest(
            key=_as(str, document["key"]),
            kind=_as(str, document["kind"]),
            stage=_as(str, document["stage"]),
            output=_as(str, document["output"]),
            spec=_as(dict, document["spec"]),
            inputs={name: _as(str, key) for name, key in document["inputs"].items()},
            parts=parts,
            attributes=_as(dict, document["attributes"]),
            format_version=document["format_version"],
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise StoreCorrupt(f"{where} is no manifest of an artifact ({error!r}); {RECOMPUTE}") from error


RECOMPUTE = "the store was damaged: take it away and run the stage again, or restore it from a copy"
"""What to do about a damaged part, for messages."""


def _as(kind: type, value: Any) -> Any:
    """A value that must be of a kind; what JSON holds is anything. Raises TypeError where it is not."""
    if not isinstance(value, kind):
        raise TypeError(f"got {str(value)[:100]!r}, expected a {kind.__name__}")
    return value


def _shape(lengths: Any) -> tuple[int, ...]:
    """The lengths of an array; raises as `_as`."""
    return tuple(_as(int, length) for length in lengths)


def _document(content: bytes, where: str) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise StoreCorrupt(f"{where} is not JSON ({error}); {RECOMPUTE}") from error
    if not isinstance(document, dict) or not isinstance(document.get("format_version"), int):
        raise StoreCorrupt(f"{where} has no format_version; {RECOMPUTE}")
    if document["format_version"] > FORMAT_VERSION:
        raise FormatTooNew(
            f"{where} was written in format {document['format_version']}, this vlglab reads up to {FORMAT_VERSION}; "
            "upgrade vlglab to read it"
        )
    return document

"""Whether an artifact is what it was when it was published, to the last byte, and whether its values can be right.

Digests come first, from the artifact's manifest down to each chunk; only values of parts whose bytes are sound are
looked at. Knows the store's contract; no SQL and no stage. Every fault is a sentence that names part, scene and file,
and of a damaged file of an array the chunks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from storage import keys
from storage.artifacts import admission
from storage.artifacts.kinds import KINDS
from storage.artifacts.manifests import ArrayEntry, digest
from storage.artifacts.store import Array, ArtifactManifest, ArtifactStore, PartEntry, PartReader
from storage.errors import SpecInvalid, StoreError

NORM_TOLERANCE = 0.01
"""Share by which a norm may lie outside what the part recorded: values are rounded to fewer bits than norms."""

_ROWS_AT_ONCE = 8192


@dataclass(frozen=True, slots=True)
class Norms:
    """Least and largest Euclidean norm of the rows of an array."""

    least: float
    largest: float

    @classmethod
    def of(cls, values: Array) -> Norms:
        """Those of (R,D) values; 0 and 0 for no rows."""
        found = [
            np.linalg.norm(values[start : start + _ROWS_AT_ONCE].astype(np.float32), axis=1)
            for start in range(0, len(values), _ROWS_AT_ONCE)
        ]
        norms = np.concatenate(found) if found else np.zeros(1, np.float32)
        return cls(float(norms.min()), float(norms.max()))

    def as_attribute(self) -> dict[str, float]:
        """As parts record it, in the attribute `norms`."""
        return {"least": self.least, "largest": self.largest}


def manifest_faults(store: ArtifactStore, key: str, recorded: str | None) -> list[str]:
    """What is wrong with an artifact's own manifest.

    Args:
        store: where it lies.
        key: the artifact's key.
        recorded: the digest that the database has of it; None where it has none.
    """
    of = f"the manifest of the artifact {key}"
    try:
        content = store.manifest_file(key)
    except StoreError as error:
        return [error.message]
    if content is None:
        return [f"{of} is missing from the store"]
    found = digest(content)
    if recorded is not None and found != recorded:
        return [f"{of} was changed: its BLAKE3 is {found[:16]}, {recorded[:16]} was recorded when it was published"]
    return []


def coverage_faults(manifest: ArtifactManifest, num_covered: int) -> list[str]:
    """Whether an artifact of embeddings says how many points its sound parts cover."""
    said = manifest.attributes.get("num_covered")
    if said in (None, num_covered):
        return []
    return [f"the artifact {manifest.key} says that {said} points are covered, its parts hold {num_covered} embeddings"]


def part_faults(store: ArtifactStore, manifest: ArtifactManifest, entry: PartEntry) -> list[str]:
    """What is wrong with one part: files, then shapes, types and finite values, then what its kind asks for.

    Args:
        store: where it lies.
        manifest: the artifact that names it.
        entry: its line there.
    """
    found = list(store.part_faults(entry))
    if found:
        return found
    of = f"of the part {entry.key} (scene {entry.scene or 'none'})"
    try:
        part = store.part(entry.key)
        if part is None:
            return [f"the part {entry.key} (scene {entry.scene or 'none'}) is missing from the store"]
        listed: dict[str, ArrayEntry] = {}
        arrays: dict[str, Array] = {}
        for name in part.names():
            values = part.array(name)
            admission.check_values(manifest.kind, entry.scene, name, values)
            scaled = KINDS[manifest.kind].arrays[name].scaled_by in part.names()
            listed[name] = ArrayEntry(values.shape, "int8" if scaled else values.dtype.name)
            if manifest.kind == "embeddings":
                arrays[name] = values
        attributes = part.attributes
        admission.check_complete(manifest.kind, entry.scene, listed, part.files(), attributes.get("num_points"))
    except (StoreError, SpecInvalid) as error:
        return [f"{error.message} ({of})"]
    return [f"{fault} {of}" for fault in _embedding_faults(manifest, attributes, arrays)] if arrays else []


def order_faults(part: PartReader, points: PartReader) -> list[str]:
    """Whether what is stored per point belongs to the points of a scene, and these are the ones they say they are.

    Raises:
        StoreError: one of the two cannot be read.
    """
    got, expected = part.attributes.get("point_order"), points.attributes.get("point_order")
    of = f"the part {part.key} (scene {part.scene or 'none'})"
    if got != expected:
        return [f"{of} was made for points with the order digest {got}, the scene's points have {expected}"]
    found = keys.point_order(points.array("points"))
    if found != expected:
        said = f"the points of the part {points.key} (scene {points.scene}) have the order digest {found}"
        return [f"{said}, not the {expected} that they and {of} name"]
    return []


def _embedding_faults(
    manifest: ArtifactManifest, attributes: Mapping[str, Any], arrays: Mapping[str, Array]
) -> list[str]:
    """What is wrong with the values of one part of embeddings; each fault goes on with "of the part .."."""
    embeddings, point_index, views = arrays["embeddings"], arrays["point_index"], arrays["views"]
    found = []
    for name, expected, got in (
        ("dimension", manifest.attributes.get("dimension"), embeddings.shape[1]),
        ("num_covered", attributes.get("num_covered"), len(embeddings)),
    ):
        if expected is not None and expected != got:
            found.append(f"embeddings: {name} is {got}, {expected} was recorded")
    if len(point_index) and (np.diff(point_index) <= 0).any():
        found.append("point_index does not rise strictly: a point has two rows, or rows are in another order")
    elif len(point_index) and not 0 <= point_index[0] <= point_index[-1] < len(views):
        found.append(f"point_index runs from {point_index[0]} to {point_index[-1]}, of {len(views)} points")
    elif not np.array_equal(np.flatnonzero(views), point_index):
        found.append("views: the points that a frame saw are not those that point_index names")
    return [*found, *_norm_faults(Norms.of(embeddings), attributes)] if len(embeddings) else found


def _norm_faults(norms: Norms, attributes: Mapping[str, Any]) -> list[str]:
    """Norms of nothing at all, or outside those that the part recorded."""
    if not norms.least > 0:
        return ["embeddings: a covered point has an embedding of zeros"]
    recorded = attributes.get("norms")
    if not isinstance(recorded, Mapping):
        return []
    least, largest = float(recorded["least"]), float(recorded["largest"])
    if norms.least < least * (1 - NORM_TOLERANCE) or norms.largest > largest * (1 + NORM_TOLERANCE):
        said = f"embeddings: norms run from {norms.least:.4g} to {norms.largest:.4g}"
        return [f"{said}, {least:.4g} to {largest:.4g} were recorded"]
    return []

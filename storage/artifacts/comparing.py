"""Two artifacts of embeddings side by side: where they differ in how they were made, and how near their vectors are.

Knows manifests and parts, of one store or of two; no SQL, no HTTP. Embeddings are read a scene at a time, and of each
at most so many rows are compared; what was left out is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from storage import keys
from storage.artifacts.store import Array, ArtifactManifest, PartEntry, PartReader
from storage.errors import NotFound, SpecInvalid, StoreCorrupt

PERCENTILES = (1, 5, 25, 50, 75, 95)
"""Percentiles of the cosine that are told."""
FP16_STEP = 2.0**-10
"""A step of float16, as a share of the power of two below a value."""
_STEPS_OF_TYPE = {"int8": 17.0}
"""Type -> steps of float16 that rounding alone may part values by; others by one. A step of int8 is the largest value
of its block / 127, which is up to 16.1 steps of float16."""

Verdict = Literal["same", "rounding", "different", "not compared"]

_ROWS_AT_ONCE = 4096
_PER_SCENE = frozenset({"splits"})
"""Attributes that name every scene: which scenes two artifacts hold is told apart."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is read at most; None sets no limit."""

    scenes: int | None = None
    """Scenes that are opened, chosen by chance and always the same."""
    rows: int | None = 4096
    """Rows compared of a scene, chosen likewise."""
    num_bytes: int | None = None
    """Bytes of the parts that are read, of both sides together."""
    adjoining: int = 1
    """Rows that are drawn side by side: from afar, a few pieces come sooner than many rows."""


class Readable(Protocol):
    """What is asked of a store: any `ArtifactStore`, or one that lies elsewhere."""

    def manifest(self, key: str) -> ArtifactManifest | None:
        """As `ArtifactStore.manifest`."""

    def part(self, key: str) -> PartReader | None:
        """As `ArtifactStore.part`."""


@dataclass(frozen=True, slots=True)
class Side:
    """An artifact and the store that its parts lie in."""

    store: Readable
    manifest: ArtifactManifest

    @classmethod
    def of(cls, store: Readable, key: str) -> Side:
        """The artifact of that key in a store.

        Raises:
            NotFound: the store has none.
            SpecInvalid: it holds no embeddings.
            FormatTooNew, StoreCorrupt: its manifest cannot be read.
        """
        manifest = store.manifest(key)
        if manifest is None:
            raise NotFound(f"there is no artifact {key!r} in the store; `vlglab features list` shows those there are")
        if manifest.kind != "embeddings":
            raise SpecInvalid(f"the artifact {key} is of kind {manifest.kind}, expected embeddings")
        return cls(store, manifest)

    def entries(self) -> dict[str, PartEntry]:
        """Scene -> the manifest's line."""
        return {entry.scene: entry for entry in self.manifest.parts}

    def open(self, entry: PartEntry) -> PartReader:
        """The part of a line.

        Raises:
            NotFound: it is gone from the store.
            FormatTooNew, StoreCorrupt: it cannot be read; the error names the scene.
        """
        part = self.store.part(entry.key)
        if part is None:
            raise NotFound(f"the part {entry.key} (scene {entry.scene}) is gone from the store", scene=entry.scene)
        return part


@dataclass(frozen=True, slots=True)
class Difference:
    """A parameter in which two artifacts differ; None where a side does not have it."""

    name: str
    """Dotted path, such as spec.lifting.width or inputs.scenes."""
    left: Any
    right: Any


@dataclass(frozen=True, slots=True)
class Cosines:
    """The distribution of the cosine of two embeddings of one point."""

    num_rows: int
    least: float
    mean: float
    percentiles: Mapping[int, float]
    """One of PERCENTILES -> the cosine below which so many per cent lie."""


@dataclass(frozen=True, slots=True)
class SceneCosines:
    """One scene whose embeddings were compared."""

    scene: str
    num_common: int
    """Points that have an embedding on both sides."""
    num_left: int
    """Points that have one on the left side."""
    num_right: int
    num_rows: int
    """Rows that were compared."""
    least: float | None
    mean: float | None
    steps: float
    """Largest difference of two values, in steps of float16 at the largest value of their row."""
    steps_allowed: float
    """How many of these rounding alone makes, by the coarser of the two sides' types."""

    @property
    def is_rounding(self) -> bool:
        """Whether the same points are covered, and values differ by rounding alone."""
        return self.steps <= self.steps_allowed and self.num_common == self.num_left == self.num_right


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two artifacts side by side. Every common scene is in one of `same`, `compared`, `other_order`, `not_read`."""

    left: str
    right: str
    verdict: Verdict
    """`same`: all common parts are equal to the byte; `rounding`: what was compared differs by a step of the type that
    it is stored in at most; `different`: by more, or in which points are covered; `not compared`: nothing could be."""
    differences: tuple[Difference, ...]
    num_common: int
    """Scenes that both hold."""
    only_left: tuple[str, ...]
    only_right: tuple[str, ...]
    same: tuple[str, ...]
    """Scenes whose parts are equal to the byte, by their digests; they are not read."""
    other_order: tuple[str, ...]
    """Scenes whose points, or whose dimensions, are not those of the other side; they cannot be compared."""
    not_read: tuple[str, ...]
    """Scenes that a limit left out."""
    compared: tuple[SceneCosines, ...]
    cosines: Cosines | None
    """Of all rows that were compared; None where there is none."""
    limits: Limits


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of one scene, compared."""

    about: SceneCosines
    cosines: NDArray[np.float32]


def compare(left: Side, right: Side, limits: Limits = Limits(), check: Callable[[], None] = lambda: None) -> Comparison:
    """Compares two artifacts of embeddings, which may be of one key in two stores.

    Memory: one scene's embeddings of one side at a time, and the rows that are compared.

    Args:
        left: the one.
        right: the other.
        limits: how much is read.
        check: called before each scene; may raise to stop.

    Raises:
        NotFound, StoreCorrupt, FormatTooNew: a part cannot be read; the error names the scene.
    """
    ours, theirs = left.entries(), right.entries()
    common = sorted(ours.keys() & theirs.keys())
    same = [scene for scene in common if ours[scene].digest == theirs[scene].digest]
    others = sorted(set(common) - set(same), key=keys.digest)
    other_order, not_read, rows = [], [], list[_Rows]()
    num_opened, num_bytes = 0, 0
    for scene in others:
        check()
        size = ours[scene].num_bytes + theirs[scene].num_bytes
        if num_opened == limits.scenes or (limits.num_bytes is not None and num_bytes + size > limits.num_bytes):
            not_read.append(scene)
            continue
        num_opened, num_bytes = num_opened + 1, num_bytes + size
        found = _compare_scene(left.open(ours[scene]), right.open(theirs[scene]), limits)
        if found is None:
            other_order.append(scene)
        else:
            rows.append(found)
    compared = tuple(sorted((one.about for one in rows), key=lambda one: one.scene))
    return Comparison(
        left=left.manifest.key,
        right=right.manifest.key,
        verdict=_verdict(compared, same, other_order),
        differences=tuple(differences(left.manifest, right.manifest)),
        num_common=len(common),
        only_left=tuple(sorted(ours.keys() - theirs.keys())),
        only_right=tuple(sorted(theirs.keys() - ours.keys())),
        same=tuple(same),
        other_order=tuple(sorted(other_order)),
        not_read=tuple(sorted(not_read)),
        compared=compared,
        cosines=_distribution([one.cosines for one in rows]),
        limits=limits,
    )


def differences(left: ArtifactManifest, right: ArtifactManifest) -> Iterator[Difference]:
    """Every parameter in which two artifacts differ: spec, inputs, attributes; by dotted name."""
    ours, theirs = _parameters(left), _parameters(right)
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            yield Difference(name, ours.get(name), theirs.get(name))


def cosines(left: Array, right: Array) -> NDArray[np.float32]:
    """(R,) the cosine of each row of two (R,D) arrays; a row of zeros has 1 with its like and 0 with any other.

    Examples:
        >>> cosines(np.array([[3.0, 4.0], [0, 0], [0, 0]]), np.array([[6.0, 8.0], [0, 0], [1, 0]])).tolist()
        [1.0, 1.0, 0.0]
    """
    found = np.empty(len(left), np.float32)
    for start in range(0, len(left), _ROWS_AT_ONCE):
        piece = slice(start, start + _ROWS_AT_ONCE)
        a, b = left[piece].astype(np.float64), right[piece].astype(np.float64)
        product = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        both_zero = ~a.any(axis=1) & ~b.any(axis=1)
        dots = np.einsum("rd,rd->r", a, b)
        found[piece] = np.where(both_zero, 1.0, dots / np.where(product > 0, product, 1.0))
    return np.clip(found, -1, 1)


def apart(published: PartReader, again: PartReader) -> str:
    """How the embeddings of one scene that were made twice differ; "" where they do by rounding alone.

    Raises:
        StoreCorrupt: one of the two cannot be read.
    """
    found = _compare_scene(published, again, Limits(rows=None))
    if found is None:
        return "its points or its dimensions are others"
    about = found.about
    if not about.num_common == about.num_left == about.num_right:
        return f"{about.num_right} points are covered, {about.num_left} were published, {about.num_common} are in both"
    if not about.is_rounding:
        return (
            f"values are up to {about.steps:.3g} steps of float16 apart, {about.steps_allowed:g} may be rounding; the "
            f"least cosine is {about.least:.6f}"
        )
    return ""


def steps_allowed(*parts: PartReader) -> float:
    """Steps of float16 (`steps_apart`) that embeddings of one scene may differ by and agree within rounding."""
    types = ["int8" if "scales" in part.names() else "float" for part in parts]
    return max(_STEPS_OF_TYPE.get(one, 1.0) for one in types)


def steps_apart(left: Array, right: Array) -> float:
    """Largest difference of two (R,D) arrays in steps of float16 at the largest value of the row; 0 for no rows.

    Rounding a value to float16 moves it by half a step at most, so two roundings of nearly one value lie within one.

    Examples:
        >>> steps_apart(np.array([[1.0, 0.5]]), np.array([[1.0 + 2**-10, 0.5]]))
        1.0
    """
    most = 0.0
    for start in range(0, len(left), _ROWS_AT_ONCE):
        piece = slice(start, start + _ROWS_AT_ONCE)
        a, b = left[piece].astype(np.float64), right[piece].astype(np.float64)
        largest = np.maximum(np.abs(a), np.abs(b)).max(axis=1, initial=0.0)
        apart = np.abs(a - b).max(axis=1, initial=0.0)
        binade = 2.0 ** np.floor(np.log2(np.maximum(largest, 2.0**-14)))
        most = max(most, float((apart / (binade * FP16_STEP)).max(initial=0.0)))
    return most


def _compare_scene(left: PartReader, right: PartReader, limits: Limits) -> _Rows | None:
    """Rows of one scene; None where the sides are not of the same points, or not of the same dimension."""
    order = left.attributes.get("point_order")
    if order is None or order != right.attributes.get("point_order"):
        return None
    ours, theirs = _covered(left), _covered(right)
    shared, of_left, of_right = np.intersect1d(ours, theirs, assume_unique=True, return_indices=True)
    if limits.rows is not None and len(shared) > limits.rows:
        drawn = _drawn(len(shared), limits.rows, limits.adjoining, left.scene)
        of_left, of_right = of_left[drawn], of_right[drawn]
    a, b = left.rows("embeddings", of_left), right.rows("embeddings", of_right)
    if a.shape != b.shape:
        return None
    near = cosines(a, b)
    about = SceneCosines(
        scene=left.scene,
        num_common=len(shared),
        num_left=len(ours),
        num_right=len(theirs),
        num_rows=len(near),
        least=float(near.min()) if len(near) else None,
        mean=float(near.mean(dtype=np.float64)) if len(near) else None,
        steps=steps_apart(a, b),
        steps_allowed=steps_allowed(left, right),
    )
    return _Rows(about, near)


def _covered(part: PartReader) -> Array:
    """The points that have an embedding, ascending and each once: rows are found by that.

    Raises:
        StoreCorrupt: they do not rise.
    """
    found = part.array("point_index")
    if (np.diff(found) <= 0).any():
        raise StoreCorrupt(
            f"the part {part.key} (scene {part.scene}) cannot be compared: its point_index does not rise strictly; "
            "`vlglab features verify` says more",
            scene=part.scene,
        )
    return found


def _drawn(count: int, most: int, adjoining: int, scene: str) -> NDArray[np.int64]:
    """Ascending numbers below `count`, at most so many: pieces of so many in a row, drawn by chance, always the same.

    Examples:
        >>> len(_drawn(1000, 64, 16, "room")), np.diff(_drawn(1000, 64, 16, "room")).tolist().count(1) >= 60
        (64, True)
    """
    seed = int(keys.digest(["compared rows", scene])[:8], 16)
    size = min(adjoining, most)
    pieces = np.random.default_rng(seed).choice(count // size, most // size, replace=False)
    return np.sort((pieces[:, None] * size + np.arange(size)).ravel())


def _verdict(compared: tuple[SceneCosines, ...], same: list[str], other_order: list[str]) -> Verdict:
    """What the scenes that were looked at come to."""
    if other_order or not all(one.is_rounding for one in compared):
        return "different"
    if compared:
        return "rounding"
    return "same" if same else "not compared"


def _distribution(found: list[NDArray[np.float32]]) -> Cosines | None:
    """The distribution of all rows."""
    values = np.concatenate(found) if found else np.empty(0, np.float32)
    if not len(values):
        return None
    percentiles = np.percentile(values, PERCENTILES)
    return Cosines(
        num_rows=len(values),
        least=float(values.min()),
        mean=float(values.mean(dtype=np.float64)),
        percentiles={name: float(value) for name, value in zip(PERCENTILES, percentiles, strict=True)},
    )


def _parameters(manifest: ArtifactManifest) -> dict[str, Any]:
    """Dotted name -> value of everything that an artifact says of how it was made."""
    attributes = {name: value for name, value in manifest.attributes.items() if name not in _PER_SCENE}
    about = {"stage": manifest.stage, "output": manifest.output, "format_version": manifest.format_version}
    tree = {**about, "spec": dict(manifest.spec), "inputs": dict(manifest.inputs), "attributes": attributes}
    return dict(_flat(tree, ""))


def _flat(value: object, name: str) -> Iterator[tuple[str, Any]]:
    """The leaves of nested objects, with dotted names; lists are leaves."""
    if isinstance(value, Mapping) and (value or not name):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value

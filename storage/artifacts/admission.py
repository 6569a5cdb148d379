"""What a part must be before anybody sees it: names, dtypes, ranks, finite values, nothing missing.

Every store asks here, so that none is more lenient than another. Knows no directory and no array library but NumPy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from storage.artifacts.finite import first_not_finite
from storage.artifacts.kinds import KINDS, ArrayLayout
from storage.artifacts.manifests import ArrayEntry
from storage.artifacts.scaled import SCALE_BLOCK
from storage.artifacts.store import FORMAT_VERSION, PLAIN_VERSION, WHOLE, Array, ArtifactManifest, ArtifactStore
from storage.errors import InvalidInput, NotFound, SpecInvalid, StoreCorrupt, UnknownName
from storage.specs.spec import ArtifactKind

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{1,127}")


def is_key(key: str) -> bool:
    """Whether a string can be a key or a token: letters, digits, '_' and '-', two or more of them."""
    return _KEY.fullmatch(key) is not None


def check_key(what: str, key: str) -> str:
    """`key`, checked.

    Raises:
        InvalidInput: it cannot be a key.
    """
    if not is_key(key):
        raise InvalidInput(f"got the {what} {key!r}; expected 2 to 128 letters, digits, '_' or '-'")
    return key


def check_file_name(name: str) -> str:
    """`name`, checked to be one file's name without any folder.

    Raises:
        InvalidInput: it has a slash, starts with a dot or is empty.
    """
    if _NAME.fullmatch(name) is None:
        raise InvalidInput(
            f"got the file name {name!r}; expected up to 128 letters, digits, '.', '_' or '-', not starting with a dot"
        )
    return name


def check_part(kind: ArtifactKind, scene: str) -> None:
    """Checks that a part of this kind may carry this scene id.

    Raises:
        UnknownName: no such kind.
        SpecInvalid: a scene-wise kind without a scene, or the reverse.
    """
    if kind not in KINDS:
        raise UnknownName.among("kind of artifact", kind, KINDS)
    if KINDS[kind].scene_wise != (scene != WHOLE):
        wanted = "a scene id" if KINDS[kind].scene_wise else "no scene id (WHOLE)"
        raise SpecInvalid(f"a part of kind {kind} takes {wanted}, got the scene {scene!r}")


def check_values(kind: ArtifactKind, scene: str, name: str, values: Array) -> ArrayLayout:
    """As `check_layout`; and every value must be finite.

    Raises:
        SpecInvalid: as `check_layout`.
        StoreCorrupt: a value is not finite.
    """
    layout = check_layout(kind, scene, name, values)
    row = first_not_finite(values)
    if row is not None:
        raise not_finite(kind, scene, name, values, row)
    return layout


def check_layout(kind: ArtifactKind, scene: str, name: str, values: Array) -> ArrayLayout:
    """The layout of the array `name`, which `values` must fit.

    Raises:
        SpecInvalid: not an array of this kind, or another dtype or rank than it has.
    """
    arrays = KINDS[kind].arrays
    of = f"a part of kind {kind} (scene {scene or 'none'})"
    if name not in arrays:
        raise SpecInvalid(f"got the array {name!r} for {of}, which holds: {', '.join(arrays) or 'no array'}")
    layout = arrays[name]
    if values.dtype.name not in layout.dtypes:
        expected = " or ".join(layout.dtypes)
        raise SpecInvalid(f"the array {name!r} of {of} is {expected}, got {values.dtype}; convert it first")
    if values.ndim != len(layout.dims):
        raise SpecInvalid(f"the array {name!r} of {of} has the dims {layout.dims}, got the shape {values.shape}")
    return layout


def not_finite(kind: ArtifactKind, scene: str, name: str, values: Array, row: int) -> StoreCorrupt:
    """The error for a row of an array that holds a NaN or an infinity."""
    return StoreCorrupt(
        f"row {row} of the array {name!r} of a part of kind {kind} (scene {scene or 'none'}) holds a value that is not "
        f"finite in {values.dtype}; nothing is published: find the frame or the scene that it comes from",
        scene=scene or None,
    )


def check_complete(
    kind: ArtifactKind, scene: str, arrays: Mapping[str, ArrayEntry], files: Collection[str], num_points: object
) -> None:
    """Checks that a part misses nothing and that its arrays agree on the length of each dim that they share.

    Args:
        kind: the part's kind.
        scene: its scene id, for messages.
        arrays: array name -> shape and dtype.
        files: names of its plain files.
        num_points: its attribute `num_points`, None where it has none.

    Raises:
        StoreCorrupt: an array, its scales or the files are missing, or two lengths differ.
    """
    layout = KINDS[kind]
    of = f"the part of kind {kind} (scene {scene or 'none'})"
    missing = [name for name, array in layout.arrays.items() if array.required and name not in arrays]
    missing += [by for name, by in _scaled(kind) if _is_int8(arrays, name) and by not in arrays]
    if missing:
        raise StoreCorrupt(f"{of} misses the array {', '.join(missing)}; nothing is published", scene=scene or None)
    if layout.files and not layout.arrays and not files:
        raise StoreCorrupt(f"{of} holds no file; nothing is published", scene=scene or None)
    for name, by in _scaled(kind):
        if by in arrays and not _is_int8(arrays, name):
            fault = f"{of} holds {by}, but its {name} are not int8; nothing is published"
            raise StoreCorrupt(fault, scene=scene or None)
        if by in arrays and arrays[by].shape[1] != (blocks := -(-arrays[name].shape[1] // SCALE_BLOCK)):
            got = f"{arrays[by].shape[1]} {by} a row, expected {blocks}: one for each {SCALE_BLOCK} columns"
            raise StoreCorrupt(f"{of} holds {got}; nothing is published", scene=scene or None)
    lengths: dict[str, tuple[int, str]] = {}
    if num_points is not None:
        lengths["point"] = (num_points if isinstance(num_points, int) else -1, "the attribute num_points")
    for name, entry in arrays.items():
        for dim, length in zip(layout.arrays[name].dims, entry.shape, strict=True):
            known, source = lengths.setdefault(dim, (length, f"the array {name}"))
            if known != length and dim not in ("row", "column"):
                raise StoreCorrupt(
                    f"in {of}, {source} says {known} for the dim '{dim}', the array {name} says {length}; "
                    "nothing is published",
                    scene=scene or None,
                )


def version_needed(kind: ArtifactKind, arrays: Mapping[str, ArrayEntry]) -> int:
    """The oldest version of the format that a part with these arrays can be read by."""
    return FORMAT_VERSION if any(by in arrays for _, by in _scaled(kind)) else PLAIN_VERSION


def _scaled(kind: ArtifactKind) -> list[tuple[str, str]]:
    """Arrays that may be scaled, each with the name of its scales."""
    return [(name, array.scaled_by) for name, array in KINDS[kind].arrays.items() if array.scaled_by]


def _is_int8(arrays: Mapping[str, ArrayEntry], name: str) -> bool:
    return name in arrays and arrays[name].dtype == "int8"


def check_parts(store: ArtifactStore, manifest: ArtifactManifest) -> None:
    """Checks that every part that a manifest names is published with the digest it names.

    Raises:
        StoreCorrupt: one is not.
    """
    for part in manifest.parts:
        published = store.entry(part.key)
        if published is None or (published.digest, published.scene) != (part.digest, part.scene):
            got = "nothing" if published is None else f"scene {published.scene!r} with digest {published.digest[:16]}"
            raise StoreCorrupt(
                f"the artifact {manifest.key} names the part {part.key} (scene {part.scene!r}, digest "
                f"{part.digest[:16]}), the store holds {got}; publish the part first, and take its line from entry()",
                scene=part.scene or None,
            )


def artifact_faults(store: ArtifactStore, key: str, where: str) -> list[str]:
    """One sentence a fault of a published artifact, its manifest's or its parts': what `ArtifactStore.verify` gives.

    Args:
        store: the store.
        key: the artifact's.
        where: the store, for the message of an error.

    Raises:
        NotFound: no artifact of that key is published.
        FormatTooNew: the artifact or a part was written by a newer vlglab.
    """
    try:
        manifest = store.manifest(key)
    except StoreCorrupt as error:
        return [error.message]
    if manifest is None:
        raise NotFound(f"no artifact {key!r} is published in {where}")
    return [fault for entry in manifest.parts for fault in store.part_faults(entry)]


def plain_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes as JSON gives them back: tuples become lists, NumPy scalars plain numbers.

    Raises:
        SpecInvalid: a value that JSON cannot hold, NaN and infinity included.
    """
    try:
        text = json.dumps(dict(attributes), allow_nan=False, default=_scalar)
    except (TypeError, ValueError) as error:
        raise SpecInvalid(f"got an attribute that JSON cannot hold ({error}) among: {', '.join(attributes)}") from error
    plain: dict[str, Any] = json.loads(text)
    return plain


def _scalar(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a value of type {type(value).__name__}")

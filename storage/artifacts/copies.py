"""Parts copied from another store: what a copy must be before it may be published here, whatever its source says.

A manifest from elsewhere may lie. Names of files are checked before anything is fetched (no path leaves the part's
folder), sizes bound what is fetched, and a whole copy is checked as if it had been written here: digests, the metadata
of every array against the manifest's shapes and the kind's layout, every chunk's checksum. Knows one directory and no
network.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from storage.artifacts import admission, part_files, zarr_arrays
from storage.artifacts.kinds import KINDS
from storage.artifacts.manifests import ArrayEntry, PartManifest, decode_part, digest
from storage.artifacts.store import PartEntry
from storage.errors import InvalidInput, StoreCorrupt
from storage.specs.spec import ArtifactKind

_CHUNK = re.compile(r"c(/\d{1,9}){1,8}|zarr\.json")
_MOST_ATTRIBUTES = 16 * 2**20
"""Bytes of a zarr.json at most."""


def part_manifest(content: bytes, entry: PartEntry, kind: ArtifactKind, where: str) -> PartManifest:
    """The manifest of a part, checked against the artifact's line: nothing but a listing of harmless paths.

    Args:
        content: the bytes of the part's manifest.
        entry: the line of the artifact's manifest.
        kind: the artifact's kind.
        where: where it comes from, for messages.

    Raises:
        FormatTooNew: a newer vlglab wrote it.
        StoreCorrupt: it is not what the line says, or names something that no part of that kind has.
    """
    if digest(content) != entry.digest:
        raise _refused(
            entry, where, f"its manifest has the digest {digest(content)[:16]}, {entry.digest[:16]} is named"
        )
    manifest = decode_part(content, f"the manifest of the part {entry.key} {where}")
    if (manifest.key, manifest.scene, manifest.kind) != (entry.key, entry.scene, kind):
        got = f"the part {manifest.key} of kind {manifest.kind} (scene {manifest.scene or 'none'})"
        raise _refused(entry, where, f"its manifest is that of {got}")
    if manifest.num_bytes != entry.num_bytes:
        raise _refused(entry, where, f"its files have {manifest.num_bytes} bytes together, {entry.num_bytes} are named")
    for name, file in manifest.files.items():
        if not _belongs(name, manifest, kind) or file.num_bytes < 0:
            raise _refused(entry, where, f"its manifest lists {name!r}, which no part of kind {kind} holds")
    for name, array in manifest.arrays.items():
        _check_listed(name, array, manifest, entry, kind, where)
    return manifest


def check_part(folder: Path, entry: PartEntry, kind: ArtifactKind) -> PartManifest:
    """Checks a whole copy of a part.

    Raises:
        FormatTooNew: a newer vlglab wrote it.
        StoreCorrupt: anything of it is not as its manifest, or the layout of its kind, says.
    """
    where = "as it was copied"
    try:
        content = (folder / part_files.MANIFEST).read_bytes()
    except OSError as error:
        raise _refused(entry, where, f"its manifest cannot be read ({error})") from error
    manifest = part_manifest(content, entry, kind, where)
    if found := part_files.faults(folder, manifest):
        raise _refused(entry, where, found[0])
    for name, array in manifest.arrays.items():
        try:
            _check_array(folder, name, array)
        except zarr_arrays.FAULTS as error:
            raise _refused(entry, where, f"its array {name} cannot be used ({error})") from error
    try:
        zarr_arrays.read_attributes(folder)
    except zarr_arrays.FAULTS as error:
        raise _refused(entry, where, f"its zarr.json cannot be used ({error})") from error
    files = [name for name in manifest.files if name.startswith(f"{part_files.FILES}/")]
    admission.check_complete(kind, entry.scene, manifest.arrays, files, manifest.attributes.get("num_points"))
    return manifest


def _belongs(name: str, manifest: PartManifest, kind: ArtifactKind) -> bool:
    """Whether a part of this kind may hold a file of that path."""
    head, _, rest = name.partition("/")
    if name == "zarr.json":
        return manifest.files[name].num_bytes <= _MOST_ATTRIBUTES
    if head == part_files.FILES:
        try:
            return KINDS[kind].files and admission.check_file_name(rest) == rest
        except InvalidInput:
            return False
    return head in manifest.arrays and _CHUNK.fullmatch(rest) is not None


def _check_listed(
    name: str, array: ArrayEntry, manifest: PartManifest, entry: PartEntry, kind: ArtifactKind, where: str
) -> None:
    """Checks an array's line: of this kind, and no larger than its files."""
    layout = KINDS[kind].arrays.get(name)
    if layout is None or array.dtype not in layout.dtypes or len(layout.dims) != len(array.shape):
        raise _refused(entry, where, f"its manifest lists the array {name!r} as {array}, which the kind {kind} has not")
    stored = sum(file.num_bytes for path, file in manifest.files.items() if path.startswith(f"{name}/c/"))
    wanted = np.dtype(array.dtype).itemsize
    for length in array.shape:
        wanted *= length
    if min(array.shape, default=0) < 0 or wanted > stored:
        raise _refused(
            entry, where, f"the array {name!r} is said to be {array.shape}, but its files have {stored} bytes"
        )


def _check_array(folder: Path, name: str, array: ArrayEntry) -> None:
    """Reads an array's metadata, which must be of the store's own layout, then every chunk's checksum.

    Raises:
        ValueError or another of FAULTS: it is not what the manifest says, or a checksum is wrong.
    """
    found = zarr_arrays.check_array(folder, name)
    if found != (array.shape, array.dtype):
        raise ValueError(f"it reads as {found}, the manifest says {array}")


def _refused(entry: PartEntry, where: str, fault: str) -> StoreCorrupt:
    scene = entry.scene or "none"
    return StoreCorrupt(
        f"the part {entry.key} (scene {scene}) {where} is refused: {fault}; nothing of it is published: tell whoever"
        " runs its source",
        scene=entry.scene or None,
    )

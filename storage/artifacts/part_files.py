"""The files of one part on a local disk, their digests and the manifest that names them.

    zarr.json  <array>/zarr.json  <array>/c/...  files/<name>  manifest.json

Knows one directory and no array library; where it lies, and when it becomes visible, is `zarr_store`'s matter. What
lies in which chunk of an array's file is `chunk_files`'.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import blake3

from storage.artifacts import chunk_files, zarr_arrays
from storage.artifacts.array_metadata import read_layout
from storage.artifacts.manifests import RECOMPUTE, FileEntry, PartManifest, decode_part, digest
from storage.artifacts.store import PartEntry
from storage.errors import StoreCorrupt

MANIFEST = "manifest.json"
FILES = "files"
"""The folder of a part that holds its plain files."""

_LARGE = 2**20


def read_manifest(path: Path) -> PartManifest | None:
    """The manifest of the part that lies at `path`, or None where nothing does; damaged or newer ones raise.

    Raises:
        FormatTooNew: a newer vlglab wrote it.
        StoreCorrupt: it cannot be read.
    """
    try:
        try:
            content = (path / MANIFEST).read_bytes()
        except FileNotFoundError:
            if not path.exists():
                return None
            content = (path / MANIFEST).read_bytes()  # the part was published between the two looks
    except OSError as error:
        if not path.exists():
            return None
        raise StoreCorrupt(f"{MANIFEST} of the part {path.name} cannot be read ({error}); {RECOMPUTE}") from error
    return decode_part(content, f"{MANIFEST} of the part {path.name}")


def named_manifest(content: bytes, entry: PartEntry) -> PartManifest:
    """The manifest of a part, which must be the one that an artifact's line names.

    Raises:
        FormatTooNew: a newer vlglab wrote it.
        StoreCorrupt: it is another one, or none; the message names the scene.
    """
    scene = entry.scene or "none"
    if digest(content) != entry.digest:
        raise StoreCorrupt(
            f"{MANIFEST} of the part {entry.key} (scene {scene}) was changed: it is not the one that the artifact names"
        )
    try:
        return decode_part(content, f"{MANIFEST} of the part {entry.key}")
    except StoreCorrupt as error:
        raise StoreCorrupt(f"{error.message} (scene {scene})") from error


def digest_files(path: Path, known: Mapping[str, FileEntry]) -> dict[str, FileEntry]:
    """Digest and size of every file under `path` but the manifest, by relative path.

    Args:
        path: the part's directory.
        known: entries of files that were hashed as they were written, and read back; the others are hashed here.
    """
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    return {name: known.get(name) or _entry(path / name) for name in names if name != MANIFEST}


def _entry(file: Path) -> FileEntry:
    return FileEntry(digest_file(file), file.stat().st_size)


def digest_file(file: Path) -> str:
    """BLAKE3 of a file, 64 hexadecimal digits; large ones are hashed by every core."""
    large = file.stat().st_size >= _LARGE
    hasher = blake3.blake3(max_threads=blake3.blake3.AUTO if large else 1)
    return hasher.update_mmap(file).hexdigest() if large else hasher.update(file.read_bytes()).hexdigest()


def check_there(file: Path, name: str, manifest: PartManifest) -> None:
    """Checks that a file of a part is there and as long as it was published; reads nothing of it.

    Raises:
        StoreCorrupt: it is not; the error names file and scene.
    """
    expected = manifest.files[name].num_bytes
    try:
        got = file.stat().st_size
    except OSError as error:
        fault = "is gone" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
    else:
        if got == expected:
            return
        fault = f"has {got} bytes, {expected} were published"
    of = f"of the part {manifest.key} (scene {manifest.scene or 'none'})"
    raise StoreCorrupt(
        f"{name} {of} {fault}; `vlglab features repair` mends it",
        scene=manifest.scene or None,
    )


def changed(what: str, got: FileEntry, expected: FileEntry) -> str:
    """The sentence for a file that is not what was published."""
    return (
        f"{what} was changed: {got.num_bytes} bytes with BLAKE3 {got.blake3[:16]}, "
        f"{expected.num_bytes} with {expected.blake3[:16]} were published"
    )


def metadata_of(manifest: PartManifest, name: str) -> str:
    """The zarr.json of the array whose chunks lie in a file of that name; nothing where it holds no chunks."""
    array, slash, _ = name.partition("/c/")
    return f"{array}/zarr.json" if slash and array in manifest.arrays else ""


def within(path: Path, manifest: PartManifest, name: str) -> str:
    """What goes on after `changed`: which chunks of a file are damaged, or nothing.

    Nothing is told of a file that holds no chunks, is not as long as it was, or whose array's zarr.json is damaged too:
    that alone says where chunks lie.

    Args:
        path: a directory with this file and its array's zarr.json, named as in the part.
        manifest: the part's.
        name: the file's name there.
    """
    known = metadata_of(manifest, name)
    try:
        if not known or (path / name).stat().st_size != manifest.files[name].num_bytes:
            return ""
        if _entry(path / known) != manifest.files.get(known):
            return ""
        array = (path / known).parent
        layout, number = read_layout(array), int(name.partition("/c/")[2].partition("/")[0])
        if number >= layout.num_files or layout.file(array, number) != path / name:
            return ""
        return f"; {chunk_files.damage(array, layout, number)}"
    except zarr_arrays.FAULTS:  # of a copy from elsewhere, whose zarr.json may be anything
        return ""


def faults(path: Path, manifest: PartManifest) -> list[str]:
    """One sentence a file of a part that is not what its manifest says, with its damaged chunks; hashes everything."""
    found = []
    of = f"of the part {manifest.key} (scene {manifest.scene or 'none'})"
    for name, expected in sorted(manifest.files.items()):
        file = path / name
        try:
            got = _entry(file)
        except OSError as error:
            found.append(f"{name} {of} cannot be read: {error.strerror or error}")
            continue
        if got != expected:
            found.append(changed(f"{name} {of}", got, expected) + within(path, manifest, name))
    present = {p.relative_to(path).as_posix() for p in path.rglob("*") if not p.is_dir()} - {MANIFEST}
    found += [f"{name} {of} was never published" for name in sorted(present - set(manifest.files))]
    return found

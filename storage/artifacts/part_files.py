"""The files of one part on a local disk, their digests and the manifest that names them.

    zarr.json  <array>/zarr.json  <array>/c/...  files/<name>  manifest.json

Knows one directory and no array library; where it lies, and when it becomes visible, is `zarr_store`'s matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import blake3

from storage.artifacts.manifests import RECOMPUTE, FileEntry, PartManifest, decode_part
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
        content = (path / MANIFEST).read_bytes()
    except OSError as error:
        if not path.exists():
            return None
        raise StoreCorrupt(f"{MANIFEST} of the part {path.name} cannot be read ({error}); {RECOMPUTE}") from error
    return decode_part(content, f"{MANIFEST} of the part {path.name}")


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


def faults(path: Path, manifest: PartManifest) -> list[str]:
    """One sentence a file of a part that is not what its manifest says; hashes everything."""
    found = []
    of = f"of the part {manifest.key} (scene {manifest.scene or 'none'})"
    for name, expected in sorted(manifest.files.items()):
        file = path / name
        try:
            size, got = file.stat().st_size, digest_file(file)
        except OSError as error:
            found.append(f"{name} {of} cannot be read: {error.strerror or error}")
            continue
        if (got, size) != (expected.blake3, expected.num_bytes):
            found.append(
                f"{name} {of} was changed: {size} bytes with BLAKE3 {got[:16]}, "
                f"{expected.num_bytes} with {expected.blake3[:16]} were published"
            )
    present = {p.relative_to(path).as_posix() for p in path.rglob("*") if not p.is_dir()} - {MANIFEST}
    found += [f"{name} {of} was never published" for name in sorted(present - set(manifest.files))]
    return found

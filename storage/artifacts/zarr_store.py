"""The store on a local directory: Zarr v3 groups that anyone can open with plain `zarr`.

    ROOT/parts/<key[:2]>/<key>/       a part: a Zarr group, plain files and a manifest (`zarr_writer`)
    ROOT/artifacts/<key>/manifest.json
    ROOT/staging/<token>/<key>/       parts and artifacts being written; nobody reads them

A part or an artifact becomes visible by one rename of its directory, so it is there whole or not at all when a process
dies at any moment. File data is not synced to the disk: the promise holds for dying processes, not for power loss.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from storage.artifacts import admission, copies, part_files
from storage.artifacts.disks import disk_of
from storage.artifacts.manifests import RECOMPUTE, FileEntry, decode_artifact, digest, encode_artifact
from storage.artifacts.store import ArtifactManifest, PartEntry, PartReader, PartWriter, StoredFile
from storage.artifacts.zarr_reader import open_part
from storage.artifacts.zarr_writer import ZarrPartWriter
from storage.errors import StoreCorrupt
from storage.specs.spec import ArtifactKind


class ZarrStore:
    """An `ArtifactStore` on a local directory, which is made on the first write."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def part_path(self, key: str) -> Path:
        """Where the part of that key lies, or would: give it to `zarr.open_group`."""
        return self.root / "parts" / key[:2] / key

    def artifact_path(self, key: str) -> Path:
        """Where the manifest of the artifact of that key lies, or would."""
        return self.root / "artifacts" / key / part_files.MANIFEST

    @contextlib.contextmanager
    def write_part(self, key: str, *, kind: ArtifactKind, scene: str, token: str) -> Iterator[PartWriter]:
        """Stages a part, then verifies and publishes it; see `ArtifactStore.write_part`."""
        admission.check_part(kind, scene)
        admission.check_key("key of a part", key)
        with self.staged_folder(key, token) as staging:
            writer = ZarrPartWriter(staging, key=key, kind=kind, scene=scene)
            yield writer
            writer.finish()
            _publish(staging, self.part_path(key))

    def part(self, key: str) -> PartReader | None:
        """The published part of that key, or None; see `ArtifactStore.part`."""
        return open_part(self.part_path(key)) if admission.is_key(key) else None

    def entry(self, key: str) -> PartEntry | None:
        """The manifest line of a published part, or None; errors as `part`."""
        manifest = part_files.read_manifest(self.part_path(key)) if admission.is_key(key) else None
        return None if manifest is None else manifest.entry()

    def publish(self, manifest: ArtifactManifest, *, token: str) -> str:
        """Publishes an artifact's manifest and returns its BLAKE3 digest; see `ArtifactStore.publish`."""
        admission.check_key("key of an artifact", manifest.key)
        admission.check_parts(self, manifest)
        content = encode_artifact(manifest)
        path = self.artifact_path(manifest.key)
        with self.staged_folder(f"artifact-{manifest.key}", token) as staging:
            staging.mkdir(parents=True)
            (staging / part_files.MANIFEST).write_bytes(content)
            _publish(staging, path.parent)
        with contextlib.suppress(FileNotFoundError):  # withdrawn already: whoever records it asks `is_whole`
            content = path.read_bytes()
        return digest(content)

    def manifest(self, key: str) -> ArtifactManifest | None:
        """The manifest of a published artifact, or None; see `ArtifactStore.manifest`."""
        if not admission.is_key(key):
            return None
        path = self.artifact_path(key)
        try:
            content = path.read_bytes()
        except OSError as error:
            if not path.parent.exists():
                return None
            raise StoreCorrupt(f"the manifest of the artifact {key} cannot be read ({error}); {RECOMPUTE}") from error
        return decode_artifact(content, f"the manifest of the artifact {key}")

    def manifest_file(self, key: str) -> bytes | None:
        """The manifest of a published artifact as it lies there, or None; see `ArtifactStore.manifest_file`."""
        if not admission.is_key(key):
            return None
        try:
            return self.artifact_path(key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreCorrupt(f"the manifest of the artifact {key} cannot be read ({error}); {RECOMPUTE}") from error

    def stored(self, key: str, name: str) -> StoredFile | None:
        """A file of a published part; see `ArtifactStore.stored`."""
        path = self.part_path(key)
        manifest = part_files.read_manifest(path) if admission.is_key(key) else None
        if manifest is None:
            return None
        if name == part_files.MANIFEST:
            with contextlib.suppress(FileNotFoundError):
                content = (path / name).read_bytes()
                return StoredFile(path / name, len(content), digest(content))
            return None
        entry = manifest.files.get(name)
        if entry is None:
            return None
        try:
            part_files.check_there(path / name, name, manifest)
        except StoreCorrupt:
            if not path.exists():
                return None  # the part was withdrawn a moment ago
            raise
        return StoredFile(path / name, entry.num_bytes, entry.blake3)

    def adopt(self, folder: Path, entry: PartEntry, *, kind: ArtifactKind, token: str) -> None:
        """Publishes a part that was copied from another store by a rename; see `TakingStore.adopt`."""
        copies.check_part(folder, entry, kind)
        with self.staged_folder(entry.key, token) as staging:
            folder.rename(staging)
            _publish(staging, self.part_path(entry.key))

    def free_bytes(self) -> int:
        """Bytes that are free on its disk, to whoever this process runs as; see `TakingStore.free_bytes`."""
        return disk_of(self.root).free_bytes

    @property
    def keeps_on_disk(self) -> bool:
        """True; see `TakingStore.keeps_on_disk`."""
        return True

    def has_place(self, key: str) -> bool:
        """Whether there is a folder of that artifact; see `TakingStore.has_place`."""
        return admission.is_key(key) and self.artifact_path(key).parent.exists()

    def part_manifest_file(self, key: str) -> bytes | None:
        """The manifest of a part as it lies there, or None; see `TakingStore.part_manifest_file`."""
        path = self.part_path(key) / part_files.MANIFEST
        return path.read_bytes() if admission.is_key(key) and path.exists() else None

    def is_as_published(self, key: str, name: str, entry: FileEntry) -> bool:
        """Whether the file is what was published; see `TakingStore.is_as_published`."""
        file = self.part_path(key) / name
        try:
            return file.stat().st_size == entry.num_bytes and part_files.digest_file(file) == entry.blake3
        except OSError:
            return False

    def replace_manifest(self, key: str, content: Path) -> None:
        """Moves an artifact's manifest to its place; see `TakingStore.replace_manifest`."""
        _move(content, self.artifact_path(key))

    def replace_file(self, key: str, name: str, content: Path) -> None:
        """Moves a file of a part to its place; see `TakingStore.replace_file`."""
        _move(content, self.part_path(key) / name)

    def verify(self, key: str) -> Sequence[str]:
        """Checks every file of every part of an artifact; see `ArtifactStore.verify`.

        Raises:
            NotFound: no artifact of that key is published.
            FormatTooNew: the artifact or a part was written by a newer vlglab.
        """
        return admission.artifact_faults(self, key, f"the store at {self.root}")

    def part_faults(self, entry: PartEntry) -> Sequence[str]:
        """Checks every file of one part; see `ArtifactStore.part_faults`."""
        of = f"the part {entry.key} (scene {entry.scene or 'none'})"
        path = self.part_path(entry.key)
        if not admission.is_key(entry.key) or not path.exists():
            return [f"{of} is missing from the store"]
        try:
            manifest = part_files.named_manifest((path / part_files.MANIFEST).read_bytes(), entry)
        except OSError as error:
            return [f"{part_files.MANIFEST} of {of} cannot be read: {error.strerror or error}"]
        except StoreCorrupt as error:
            return [error.message]
        return part_files.faults(path, manifest)

    def is_whole(self, manifest: ArtifactManifest) -> bool:
        """Whether a manifest and all its parts are there; see `ArtifactStore.is_whole`."""
        paths = (self.artifact_path(manifest.key), *(self.part_path(part.key) for part in manifest.parts))
        return all(path.exists() for path in paths)

    def withdraw(self, key: str, parts: Collection[str]) -> None:
        """Renames parts and an artifact away; see `ArtifactStore.withdraw`."""
        for path in (*map(self.part_path, sorted(parts)), self.artifact_path(key).parent):
            while path.exists():
                grave = self.root / "staging" / f".{secrets.token_hex(8)}"
                grave.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileNotFoundError):
                    path.rename(grave)

    def clear(self) -> int:
        """Removes what was withdrawn for good; see `ArtifactStore.clear`."""
        folder = self.root / "staging"
        graves = [path for path in folder.iterdir() if path.name.startswith(".")] if folder.is_dir() else []
        for grave in graves:
            shutil.rmtree(grave, ignore_errors=True)
        return len(graves)

    def artifacts(self) -> Iterator[str]:
        """Keys of the published artifacts, sorted."""
        folder = self.root / "artifacts"
        return iter(sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else [])

    def parts(self) -> Iterator[str]:
        """Keys of the published parts; see `ArtifactStore.parts`."""
        folder = self.root / "parts"
        for shelf in sorted(folder.iterdir()) if folder.is_dir() else []:
            yield from (path.name for path in shelf.iterdir())

    def staged(self) -> frozenset[str]:
        """Names of the staging directories; see `ArtifactStore.staged`."""
        folder = self.root / "staging"
        return frozenset(path.name for path in folder.iterdir()) if folder.is_dir() else frozenset()

    def sweep(self, tokens: frozenset[str], among: frozenset[str] | None = None) -> int:
        """Removes staging directories of tokens that are not living; see `ArtifactStore.sweep`.

        Each is renamed away first, so that a writer that outlived its lease cannot publish from it.
        """
        folder = self.root / "staging"
        dead = [folder / name for name in (self.staged() if among is None else among) if name not in tokens]
        removed = 0
        for path in dead:
            grave = path if path.name.startswith(".") else path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            try:
                path.rename(grave)
            except FileNotFoundError:
                continue
            shutil.rmtree(grave, ignore_errors=True)
            removed += 1
        return removed

    @contextlib.contextmanager
    def staged_folder(self, name: str, token: str) -> Iterator[Path]:
        """A path under the token's staging directory; what is left of it after the block is removed."""
        folder = self.root / "staging" / admission.check_key("token", token)
        staging = folder / name
        shutil.rmtree(staging, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            with contextlib.suppress(OSError):
                folder.rmdir()


def _move(file: Path, target: Path) -> None:
    """Renames a file onto its place, over what is there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    file.replace(target)


def _publish(staging: Path, target: Path) -> None:
    """Renames a staging directory onto its place; where something lies there already, that stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        staging.rename(target)
    except FileNotFoundError as error:
        raise StoreCorrupt(
            f"the staging directory of {target.name} was swept before it was published; nothing is published: "
            "the token it was written under is no longer valid"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise

"""One part being written: a Zarr group in a directory of its own, read back before it may be published.

Knows one directory; where it lies, and when it becomes visible, is `zarr_store`'s matter.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from storage.artifacts import admission, zarr_arrays
from storage.artifacts.finite import NotFinite
from storage.artifacts.kinds import KINDS
from storage.artifacts.manifests import SUMMARY, ArrayEntry, FileEntry, PartManifest, encode_part
from storage.artifacts.part_files import FILES, MANIFEST, digest_files
from storage.artifacts.store import Array
from storage.errors import SpecInvalid, StoreCorrupt
from storage.specs.spec import ArtifactKind


class ZarrPartWriter:
    """A part being written into a directory of its own (`PartWriter`)."""

    def __init__(self, path: Path, *, key: str, kind: ArtifactKind, scene: str) -> None:
        self._path = path
        self._key = key
        self._kind = kind
        self._scene = scene
        self._arrays: dict[str, ArrayEntry] = {}
        self._files: dict[str, FileEntry] = {}
        self._attributes: dict[str, Any] = {}
        zarr_arrays.create_group(path)

    def write(self, name: str, values: Array) -> None:
        """Writes one array; see `PartWriter.write`. Values must be finite.

        Raises:
            SpecInvalid: not an array of this kind, another dtype or rank, or written before.
            StoreCorrupt: a value is not finite, or the disk takes no more.
        """
        layout = admission.check_layout(self._kind, self._scene, name, values)
        if name in self._arrays:
            raise SpecInvalid(f"the array {name!r} of scene {self._scene!r} was written before; write it once")
        try:
            budget = zarr_arrays.file_budget(self._kind, name)
            self._files |= zarr_arrays.write_array(self._path, name, values, layout, budget)
        except NotFinite as error:
            shutil.rmtree(self._path / name, ignore_errors=True)
            raise admission.not_finite(self._kind, self._scene, name, values, error.row) from None
        except zarr_arrays.FAULTS as error:
            raise self._unwritable(f"the array {name} could not be written ({error})") from error
        self._arrays[name] = ArrayEntry(tuple(values.shape), values.dtype.name)

    def set(self, **attributes: Any) -> None:
        """Adds attributes; they lie in the group's Zarr attributes.

        Raises:
            SpecInvalid: a value that JSON cannot hold.
        """
        self._attributes.update(admission.plain_attributes(attributes))

    def path(self, name: str) -> Path:
        """A local path to write a plain file to.

        Raises:
            SpecInvalid: parts of this kind hold no plain files.
            InvalidInput: not a plain file's name.
        """
        if not KINDS[self._kind].files:
            raise SpecInvalid(f"a part of kind {self._kind} holds no plain files, got {name!r}")
        folder = self._path / FILES
        folder.mkdir(exist_ok=True)
        return folder / admission.check_file_name(name)

    def finish(self) -> PartManifest:
        """Writes attributes and manifest, after reading back what lies on disk.

        Raises:
            StoreCorrupt: something is missing or does not read back.
        """
        folder = self._path / FILES
        names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
        admission.check_complete(self._kind, self._scene, self._arrays, names, self._attributes.get("num_points"))
        try:
            zarr_arrays.close_group(self._path, self._arrays, self._attributes)
            for name, array in self._arrays.items():
                found = zarr_arrays.check_array(self._path, name)
                if found != (array.shape, array.dtype):
                    raise ValueError(f"{name} reads back as {found}, {array} was written")
            manifest = PartManifest(
                key=self._key,
                kind=self._kind,
                scene=self._scene,
                arrays=self._arrays,
                files=digest_files(self._path, self._files),
                attributes={n: self._attributes[n] for n in SUMMARY if n in self._attributes},
                format_version=admission.version_needed(self._kind, self._arrays),
            )
            (self._path / MANIFEST).write_bytes(encode_part(manifest))
        except zarr_arrays.FAULTS as error:
            raise self._unwritable(f"it does not read back as it was written ({error})") from error
        return manifest

    def _unwritable(self, fault: str) -> StoreCorrupt:
        return StoreCorrupt(
            f"the part {self._key} (scene {self._scene or 'none'}) is not published: {fault}; check the disk's space, "
            "and whether the staging directory was swept because the run's lease ended",
            scene=self._scene or None,
        )

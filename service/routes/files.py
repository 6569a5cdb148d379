"""Plain files of artifacts: only those that a manifest lists, wherever a path in a request points."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from service.schemas import File
from storage.artifacts.kinds import KINDS
from storage.artifacts.store import ArtifactManifest, ArtifactStore
from storage.errors import NotFound


def files_of(store: ArtifactStore, key: str) -> list[File]:
    """The plain files of an artifact; empty where its kind has none or it is not in the store.

    Raises:
        StoreCorrupt, FormatTooNew: its manifest cannot be read.
    """
    manifest = store.manifest(key)
    return [] if manifest is None else list(_files(store, manifest))


def file_path(store: ArtifactStore, key: str, name: str) -> Path:
    """The local path of one file of an artifact.

    Raises:
        NotFound: the store has no such artifact, or its manifest lists no such file.
    """
    manifest = store.manifest(key)
    if manifest is None:
        raise NotFound(f"there is no artifact {key!r} in the store")
    names = []
    for file in _files(store, manifest):
        if file.name == name:
            return Path(file.path)
        names.append(file.name)
    raise NotFound(f"the artifact {key} has no file {name!r}; it has: {', '.join(names[:20]) or 'none'}")


def _files(store: ArtifactStore, manifest: ArtifactManifest) -> Iterator[File]:
    """Each plain file of each part."""
    if not KINDS[manifest.kind].files:
        return
    for entry in manifest.parts:
        part = store.part(entry.key)
        for name in part.files() if part is not None else ():
            assert part is not None
            path = part.file(name)
            yield File(
                artifact_key=manifest.key,
                output=manifest.output,
                scene=entry.scene,
                name=name,
                num_bytes=path.stat().st_size,
                url=f"/api/v1/artifacts/{manifest.key}/files/{quote(name)}",
                path=str(path),
            )

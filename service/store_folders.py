"""Stores that lie on this machine, looked at beside the API: for the command line, without a service or a database."""

from __future__ import annotations

from pathlib import Path

from service.schemas import FeatureDiff
from storage.artifacts import comparing
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import NotFound


def compare_folders(
    folders: tuple[Path, Path], keys: tuple[str, str], *, scenes: int | None = None, rows: int | None = None
) -> FeatureDiff:
    """Two feature stores in two folders, or in one, side by side.

    Args:
        folders: of the stores: what holds `parts` and `artifacts`.
        keys: of the two; they may be one.
        scenes: most scenes that are opened; None: all.
        rows: most rows that are compared of a scene; None: all.

    Raises:
        NotFound: a folder is no store, or holds no such artifact.
        SpecInvalid, StoreCorrupt, FormatTooNew: an artifact holds no embeddings, or cannot be read.
    """
    left, right = (comparing.Side.of(open_folder(folder), key) for folder, key in zip(folders, keys, strict=True))
    found = comparing.compare(left, right, comparing.Limits(scenes, rows))
    return FeatureDiff.model_validate(found, from_attributes=True)


def open_folder(folder: Path) -> ZarrStore:
    """The store in a folder.

    Raises:
        NotFound: the folder is no store.
    """
    if not (folder / "artifacts").is_dir():
        raise NotFound(f"there is no store in {folder}: it has no folder `artifacts`; VLGLAB_HOME/store is one")
    return ZarrStore(folder)

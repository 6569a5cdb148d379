"""Which store the settings name. The only place that picks one."""

from __future__ import annotations

from storage.artifacts.store import ArtifactStore
from storage.artifacts.zarr_store import ZarrStore
from storage.settings import Settings


def open_store(settings: Settings) -> ArtifactStore:
    """The store of this deployment: a local directory, the only kind as yet.

    Raises:
        ValueError: the store's URL is not file://.
    """
    return ZarrStore(settings.store_path)

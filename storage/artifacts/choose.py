"""Which store the settings name, and where the files of runs lie. The only place that picks one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage.artifacts.run_files import RunFiles
from storage.artifacts.store import ArtifactStore
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import ExtraMissing
from storage.settings import S3, Settings

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Bucket


def open_store(settings: Settings) -> ArtifactStore:
    """The store of this deployment: a local directory, or a bucket of S3-compatible object storage.

    Raises:
        ValueError: the store's URL is neither file:// nor s3://.
        ExtraMissing: it is s3:// and obstore is not installed.
    """
    bucket = _bucket(settings)
    if bucket is None:
        return ZarrStore(settings.store_path)
    from storage.artifacts.object_store import ObjectStore

    return ObjectStore(bucket, settings.store_path, int(settings.copies_gb * 1e9))


def open_run_files(settings: Settings) -> RunFiles:
    """Logs and checkpoints of this deployment's runs; errors as `open_store`."""
    bucket = _bucket(settings)
    if bucket is None:
        return RunFiles(settings.store_path)
    from storage.artifacts.objects import Objects

    return RunFiles(settings.store_path, Objects(bucket))


def _bucket(settings: Settings) -> Bucket | None:
    """The bucket that the settings name, or None where they name a folder."""
    if not settings.store_url.startswith(S3):
        return None
    try:
        from obstore.store import S3Store
    except ImportError as error:
        raise ExtraMissing(
            f"the store {settings.store_url} needs obstore, which is not installed; install the extra `s3`: "
            'pip install -c constraints.txt -e ".[s3]"'
        ) from error
    return S3Store.from_url(settings.store_url)

"""Which store the settings name. The only place that picks one."""

from __future__ import annotations

from storage.artifacts.store import ArtifactStore
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import ExtraMissing
from storage.settings import S3, Settings


def open_store(settings: Settings) -> ArtifactStore:
    """The store of this deployment: a local directory, or a bucket of S3-compatible object storage.

    Raises:
        ValueError: the store's URL is neither file:// nor s3://.
        ExtraMissing: it is s3:// and obstore is not installed.
    """
    if not settings.store_url.startswith(S3):
        return ZarrStore(settings.store_path)
    try:
        from obstore.store import S3Store

        from storage.artifacts.object_store import ObjectStore
    except ImportError as error:
        raise ExtraMissing(
            f"the store {settings.store_url} needs obstore, which is not installed; install the extra `s3`: "
            'pip install -c constraints.txt -e ".[s3]"'
        ) from error
    bucket = S3Store.from_url(settings.store_url)
    return ObjectStore(bucket, settings.store_path, int(settings.copies_gb * 1e9))

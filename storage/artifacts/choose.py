"""Which store the settings name, and where the files of runs lie. The only place that picks one."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from storage.artifacts.run_files import RunFiles
from storage.artifacts.store import ArtifactStore
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import ExtraMissing
from storage.settings import S3, Settings

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Bucket

SMALL_TIMEOUT, SMALL_RETRY_S = "10s", 20
"""What a request for something small may take, and for how long it is repeated: others may wait for its answer."""
CLIENT = (
    "allow_http", "allow_invalid_certificates", "connect_timeout", "http1_only", "http2_only", "pool_idle_timeout",
    "pool_max_idle_per_host", "proxy_ca_certificate", "proxy_excludes", "proxy_url", "timeout", "user_agent",
)  # fmt: skip
"""What AWS_* variables may say of connections; obstore reads them no more where it is given a timeout."""
FILE_TIMEOUT = "600s"
"""What sending or fetching one file may take; AWS_TIMEOUT says otherwise."""


def open_store(settings: Settings) -> ArtifactStore:
    """The store of this deployment: a local directory, or a bucket of S3-compatible object storage.

    Raises:
        ValueError: the store's URL is neither file:// nor s3://.
        ExtraMissing: it is s3:// and obstore is not installed.
    """
    both = buckets(settings)
    if both is None:
        return ZarrStore(settings.store_path)
    from storage.artifacts.object_store import ObjectStore

    small, files = both
    return ObjectStore(small, settings.store_path, int(settings.copies_gb * 1e9), files)


def open_run_files(settings: Settings) -> RunFiles:
    """Logs and checkpoints of this deployment's runs; errors as `open_store`."""
    both = buckets(settings)
    if both is None:
        return RunFiles(settings.store_path)
    from storage.artifacts.objects import Objects

    return RunFiles(settings.store_path, Objects(*both))


def buckets(settings: Settings) -> tuple[Bucket, Bucket] | None:
    """The bucket that the settings name, for what is small and for whole files; None where they name a folder."""
    if not settings.store_url.startswith(S3):
        return None
    try:
        from obstore.store import S3Store
    except ImportError as error:
        raise ExtraMissing(
            f"the store {settings.store_url} needs obstore, which is not installed; install the extra `s3`: "
            'pip install -c constraints.txt -e ".[s3]"'
        ) from error
    known = {name: os.environ.get(f"AWS_{name.upper()}") for name in CLIENT}
    said = {name: value for name, value in known.items() if value is not None}
    small: Any = {**said, "timeout": SMALL_TIMEOUT}
    files: Any = {"timeout": FILE_TIMEOUT, **said}
    patience = timedelta(seconds=SMALL_RETRY_S)
    return (
        S3Store.from_url(settings.store_url, client_options=small, retry_config={"retry_timeout": patience}),
        S3Store.from_url(settings.store_url, client_options=files),
    )

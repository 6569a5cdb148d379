"""A lease at the source of a pull: while it is held, the service there collects nothing of the artifact."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

from workers.sources import Source

LEASE_S = 600.0
"""Seconds that a lease lasts: so long an artifact stays there for somebody who has died here."""
RENEW_S = 120.0
"""Seconds between two renewals."""


@contextmanager
def reading(source: Source, key: str) -> Iterator[bool]:
    """Holds a lease of an artifact at a source, and renews it, until the block ends.

    A folder that is served gives none, nor does a service that refuses: what is read is then kept by the grace period
    of the collector there alone.

    Yields:
        Whether there is one.
    """
    lease = _take(source, key)
    over = threading.Event()

    def renew() -> None:
        nonlocal lease
        while not over.wait(RENEW_S):
            if lease is None or source.post(f"/leases/{quote(lease, safe='')}/renew", {"seconds": LEASE_S}) is None:
                lease = _take(source, key) or lease

    keeper = threading.Thread(target=renew, name="lease at the source", daemon=True)
    if lease is not None:
        keeper.start()
    try:
        yield lease is not None
    finally:
        over.set()
        if lease is not None:
            source.post(f"/leases/{quote(lease, safe='')}/release", {})


def _take(source: Source, key: str) -> str | None:
    """Id of a new lease, or None where none is given."""
    given = source.post(f"/artifacts/{quote(key, safe='')}/lease", {"seconds": LEASE_S})
    found = None if given is None else given.get("id")
    return found if isinstance(found, str) else None

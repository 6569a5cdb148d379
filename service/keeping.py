"""The client's calls that keep the disk under control, and leases of readers. A part of `service.client.Client`."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote

from service import schemas
from service.acting import DRY
from service.connection import Connection
from storage import errors


@dataclass(slots=True)
class Reading:
    """A lease that a thread renews, while its block lasts."""

    lease: schemas.ReadLease
    _lost: list[errors.VlglabError] = field(default_factory=list)

    def check(self) -> None:
        """Raises where the lease could not be renewed: what is read may be deleted now.

        Raises:
            NotFound: it was released by an admin, or it lapsed and its artifact was collected.
            ServiceUnreachable: the service did not answer when it was last asked.
        """
        if self._lost:
            raise self._lost[-1]


class Keeping(Connection):
    """Calls about the room in the store, pins and leases."""

    def store_usage(self) -> schemas.StoreUsage:
        """What takes the room in the store, what could go, and what is free."""
        return self._get("/store/usage", schemas.StoreUsage)

    def store_policy(self) -> schemas.Policy:
        """The store's quota, what expires and when, and how long what is marked stays."""
        return self._get("/store/policy", schemas.Policy)

    def change_store_policy(self, body: schemas.PolicyRequest) -> schemas.Policy:
        """Changes what is given of the store's policy.

        Raises:
            NotPermitted: the client's token is no admin's.
            InvalidInput: a kind that never expires.
        """
        return self._post("/store/policy", schemas.Policy, body, repeatable=True)

    def collect(self, *, dry_run: bool = False) -> schemas.Collection:
        """Marks what nothing needs and deletes what was marked long enough ago; with `dry_run`, only tells.

        Raises:
            NotPermitted: the client's token is no admin's.
            StoreUnwritable: the store's disk is read-only or full.
        """
        return self._post("/store/collect", schemas.Collection, params=DRY if dry_run else None, repeatable=True)

    def pins(self) -> Sequence[schemas.Pin]:
        """Who wants which artifact to stay, newest first."""
        return self._get("/pins", schemas.PinPage).items

    def pin(self, key: str, reason: str, until: datetime | None = None) -> schemas.Pin:
        """Keeps an artifact from the collector and from the deletion of its run.

        Raises:
            NotFound: none of that key is published.
            InvalidInput: the end is past.
        """
        body = schemas.PinRequest(reason=reason, until=until)
        return self._post(f"/artifacts/{quote(key, safe='')}/pin", schemas.Pin, body, repeatable=True)

    def unpin(self, key: str, owner: str | None = None) -> schemas.Pin:
        """Takes one's own pin away, or as an admin somebody else's.

        Raises:
            NotFound: they have not pinned it.
            NotPermitted: it is somebody else's.
        """
        return self._post(f"/artifacts/{quote(key, safe='')}/unpin", schemas.Pin, params={"owner": owner})

    def read_leases(self) -> Sequence[schemas.ReadLease]:
        """Who reads what now, newest first."""
        return self._get("/leases", schemas.ReadLeasePage).items

    def take_lease(self, key: str, seconds: float = 600) -> schemas.ReadLease:
        """Keeps an artifact for so long from now.

        Raises:
            NotFound: none of that key is published (any more).
        """
        body = schemas.ReadLeaseRequest(seconds=seconds)
        return self._post(f"/artifacts/{quote(key, safe='')}/lease", schemas.ReadLease, body, repeatable=True)

    def renew_lease(self, lease_id: str, seconds: float = 600) -> schemas.ReadLease:
        """Keeps its artifact for so long from now.

        Raises:
            NotFound: it was released, or it lapsed and its artifact was collected.
        """
        body = schemas.ReadLeaseRequest(seconds=seconds)
        return self._post(f"/leases/{quote(lease_id, safe='')}/renew", schemas.ReadLease, body, repeatable=True)

    def release_lease(self, lease_id: str) -> schemas.ReadLease:
        """Ends a lease; errors as `renew_lease`."""
        return self._post(f"/leases/{quote(lease_id, safe='')}/release", schemas.ReadLease)

    @contextmanager
    def reading(self, key: str, seconds: float = 600) -> Iterator[Reading]:
        """Holds a lease while the block lasts: a thread renews it three times in its length, and it is released after.

        Raises:
            NotFound: none of that key is published (any more).
        """
        held, over = Reading(self.take_lease(key, seconds)), threading.Event()
        renewing = threading.Thread(target=self._keep, args=(held, seconds, over), daemon=True)
        renewing.start()
        try:
            yield held
        finally:
            over.set()
            renewing.join()
            with suppress(errors.VlglabError):  # where it cannot be released it lapses
                self.release_lease(held.lease.id)

    def _keep(self, held: Reading, seconds: float, over: threading.Event) -> None:
        """Renews a lease until it is over, or gone."""
        while not over.wait(seconds / 3):
            try:
                held.lease = self.renew_lease(held.lease.id, seconds)
                held._lost.clear()
            except errors.ServiceUnreachable as error:
                held._lost.append(error)
            except errors.VlglabError as error:
                held._lost.append(error)
                return

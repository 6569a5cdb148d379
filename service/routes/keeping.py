"""Keeping the disk under control: usage, policy and collector (admins), pins, and leases of readers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi import Path as PathParameter

from service import keeping_examples, problems
from service.access import TheCaller, only_admins
from service.dependencies import TheDatabase, TheRunFiles, TheSettings, TheStore
from service.routes.features import Key
from service.schemas import (
    Collectable,
    Collection,
    Pin,
    PinPage,
    PinRequest,
    Policy,
    PolicyRequest,
    ReadLease,
    ReadLeasePage,
    ReadLeaseRequest,
    StoreUsage,
)
from storage.records import pins, policies, read_leases, usage
from storage.records.collecting import Collector

router = APIRouter(responses=problems.RESPONSES)

LeaseId = Annotated[str, PathParameter(description="A lease's id.", examples=[keeping_examples.READ_LEASE["id"]])]


@router.get("/store/usage", tags=["store"], summary="Read what takes the room in the store")
def read_usage(db: TheDatabase, store: TheStore, settings: TheSettings) -> StoreUsage:
    """Bytes by kind, dataset and owner, the largest artifacts, what is pinned, marked and reclaimable, what is free."""
    return StoreUsage.model_validate(usage.report(db, store, settings.store_path))


@router.get("/store/policy", tags=["store"], summary="Read the store's policy")
def read_policy(db: TheDatabase) -> Policy:
    """Its quota, what expires and when, and how long what is marked stays."""
    return Policy.model_validate(policies.get(db))


@router.post("/store/policy", tags=["store"], summary="Change the store's policy", dependencies=[Depends(only_admins)])
def change_policy(body: PolicyRequest, db: TheDatabase, caller: TheCaller) -> Policy:
    """Changes what is given and leaves the rest. For admins. It holds from the next claim and the next collector on."""
    return Policy.model_validate(policies.change(db, caller.name, **body.model_dump(exclude_none=True)))


@router.post("/store/collect", tags=["store"], summary="Collect", dependencies=[Depends(only_admins)])
def collect(
    db: TheDatabase,
    store: TheStore,
    files: TheRunFiles,
    settings: TheSettings,
    dry_run: Annotated[bool, Query(description="Only tell what would be marked and deleted.")] = False,
) -> Collection:
    """Marks what nothing needs, deletes what was marked long enough ago, and sweeps what dead workers staged.

    For admins. 507: the store's disk is read-only or full; the next collector ends what was begun.
    """
    collector = Collector(db, store, settings.store_path, files)
    done = collector.look() if dry_run else collector.collect()
    return Collection(
        dry_run=dry_run,
        marked=[Collectable.model_validate(one) for one in done.marked],
        removed=[Collectable.model_validate(one) for one in done.removed],
        unmarked=done.unmarked,
        num_staged=done.num_staged,
        staged_bytes=done.staged_bytes,
        removed_bytes=done.removed_bytes,
    )


@router.get("/pins", tags=["store"], summary="List pins")
def list_pins(db: TheDatabase) -> PinPage:
    """Who wants which artifact to stay, why, and until when; newest first."""
    return PinPage(items=[Pin.model_validate(pin) for pin in pins.list_pins(db)])


@router.post("/artifacts/{key}/pin", tags=["store"], status_code=201, summary="Pin an artifact")
def pin(key: Key, body: PinRequest, db: TheDatabase, caller: TheCaller) -> Pin:
    """Keeps an artifact from the collector and from going with its run. Sent again, it changes the caller's pin."""
    return Pin.model_validate(pins.add(db, key, caller.name, body.reason, body.until))


@router.post("/artifacts/{key}/unpin", tags=["store"], summary="Take a pin away")
def unpin(
    key: Key,
    db: TheDatabase,
    caller: TheCaller,
    owner: Annotated[
        str | None, Query(description="Whose pin; default the caller's own. Admins alone: others'.")
    ] = None,
) -> Pin:
    """Takes a pin away; other people's pins of the artifact stay. 403: it is somebody else's."""
    whose = caller.name if owner is None else owner
    caller.needs_to_own(whose, f"the pin of the artifact {key}")
    return Pin.model_validate(pins.remove(db, key, whose))


@router.get("/leases", tags=["store"], summary="List leases of readers")
def list_leases(db: TheDatabase) -> ReadLeasePage:
    """Who reads what now and until when; newest first."""
    return ReadLeasePage(items=[ReadLease.model_validate(lease) for lease in read_leases.list_leases(db)])


@router.post("/artifacts/{key}/lease", tags=["store"], status_code=201, summary="Take a lease to read an artifact")
def take_lease(key: Key, body: ReadLeaseRequest, db: TheDatabase, caller: TheCaller) -> ReadLease:
    """Keeps an artifact while somebody reads it. For readers too. 404: there is none, or it has been collected."""
    return ReadLease.model_validate(read_leases.take(db, key, caller.name, body.seconds))


@router.post("/leases/{lease_id}/renew", tags=["store"], summary="Renew a lease")
def renew_lease(lease_id: LeaseId, body: ReadLeaseRequest, db: TheDatabase, caller: TheCaller) -> ReadLease:
    """Keeps its artifact for so long from now. 404: it was released, or it lapsed and its artifact was collected."""
    caller.needs_to_own(read_leases.get(db, lease_id).owner, f"the lease {lease_id}")
    return ReadLease.model_validate(read_leases.renew(db, lease_id, body.seconds))


@router.post("/leases/{lease_id}/release", tags=["store"], summary="Release a lease")
def release_lease(lease_id: LeaseId, db: TheDatabase, caller: TheCaller) -> ReadLease:
    """Ends it: whoever held it reads no more."""
    caller.needs_to_own(read_leases.get(db, lease_id).owner, f"the lease {lease_id}")
    return ReadLease.model_validate(read_leases.release(db, lease_id))

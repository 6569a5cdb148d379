"""Worker hosts: who runs runs; admins pause, resume and drain them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi import Path as PathParameter

from service import examples, problems
from service.access import only_admins
from service.dependencies import Cursor, Limit, TheDatabase
from service.schemas import Host, HostPage
from storage.records import hosts

router = APIRouter(prefix="/hosts", tags=["hosts"], responses=problems.RESPONSES)

HostId = Annotated[str, PathParameter(description="A host's id.", examples=[examples.HOST["id"]])]


@router.get("", summary="Worker hosts")
def list_hosts(
    db: TheDatabase,
    alive: Annotated[bool | None, Query(description="Only those that live, or only those that do not.")] = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> HostPage:
    """Who runs runs, newest first: slots, GPUs, memory, last heartbeat, and what their processes hold in memory."""
    page = hosts.list_hosts(db, cursor, limit, alive=alive)
    return HostPage(items=[Host.model_validate(host) for host in page.items], next=page.next)


@router.post("/{host_id}/pause", summary="Pause a host", dependencies=[Depends(only_admins)])
def pause(host_id: HostId, db: TheDatabase) -> Host:
    """It claims nothing more; what it runs goes on. For admins. 409: it has ended."""
    return Host.model_validate(hosts.set_mode(db, host_id, "paused"))


@router.post("/{host_id}/resume", summary="Let a host go on", dependencies=[Depends(only_admins)])
def resume(host_id: HostId, db: TheDatabase) -> Host:
    """It claims runs again, whether it was paused or draining. For admins. 409: it has ended."""
    return Host.model_validate(hosts.set_mode(db, host_id, "active"))


@router.post("/{host_id}/drain", summary="Drain a host", dependencies=[Depends(only_admins)])
def drain(host_id: HostId, db: TheDatabase) -> Host:
    """It claims nothing more, and its process ends once its runs have ended. For admins. 409: it has ended."""
    return Host.model_validate(hosts.set_mode(db, host_id, "draining"))

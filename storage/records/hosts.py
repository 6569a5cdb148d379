"""Worker hosts: who claims runs, how many at once, what is free on its machine, and whether it still beats."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from storage import keys
from storage.errors import NotFound
from storage.records.database import Database, now
from storage.records.tables import AttemptRow, HostRow

ALIVE_S = 15.0
"""Seconds without a heartbeat after which a host counts as gone."""


@dataclass(frozen=True, slots=True)
class Host:
    """A worker host."""

    id: str
    name: str
    """The machine's name."""
    pid: int
    slots: int
    gpus: tuple[int, ...]
    registered_at: datetime
    heartbeat_at: datetime
    retired_at: datetime | None
    rss_bytes: int
    """Resident memory of all its worker processes at the last heartbeat."""
    peak_rss_bytes: int
    """Most that they ever held at once."""
    alive: bool
    """It has beaten lately and is not retired."""


@dataclass(frozen=True, slots=True)
class Room:
    """What a host may still take."""

    slots: int
    """How many more runs; 0 where it is full."""
    gpus: tuple[int, ...]
    """Indices of its GPUs that no run holds."""
    has_gpus: bool
    """Whether it has GPUs at all."""


def register(db: Database, name: str, pid: int, slots: int, gpus: Sequence[int]) -> str:
    """Writes a host's row and returns its id."""
    with db.write() as session:
        moment = now(session)
        host_id = keys.new_id("h")
        session.add(
            HostRow(
                id=host_id,
                name=name,
                pid=pid,
                slots=slots,
                gpus=list(gpus),
                registered_at=moment,
                heartbeat_at=moment,
                rss_bytes=0,
                peak_rss_bytes=0,
            )
        )
        return host_id


def beat(db: Database, host_id: str, rss_bytes_all: int, peak_rss_bytes_all: int) -> None:
    """Records that a host lives, with the memory of all its workers now and at its peak, bytes.

    Raises:
        NotFound: there is no such host.
    """
    with db.write(ordered=False) as session:
        row = _row(session.get(HostRow, host_id), host_id)
        row.heartbeat_at = now(session)
        row.rss_bytes = rss_bytes_all
        row.peak_rss_bytes = max(row.peak_rss_bytes, peak_rss_bytes_all)


def retire(db: Database, host_id: str) -> None:
    """Records that a host has stopped.

    Raises:
        NotFound: there is no such host.
    """
    with db.write() as session:
        row = _row(session.get(HostRow, host_id), host_id)
        row.retired_at = row.retired_at or now(session)
        row.rss_bytes = 0


def list_hosts(db: Database, *, alive_s: float = ALIVE_S) -> list[Host]:
    """Every host, newest first."""
    with db.read() as session:
        since = now(session) - timedelta(seconds=alive_s)
        return [_read(row, since) for row in session.scalars(select(HostRow).order_by(HostRow.id.desc()))]


def room(session: Session, host_id: str, started: Collection[str] = ()) -> Room:
    """What is free for a host, within the transaction that claims it.

    Runs outlive the host that started them, so whatever holds a lease on this machine takes room, whichever host
    started it: a run on a GPU takes that GPU; one without takes a slot of the hosts that share a GPU with its own,
    or that have none as its own has none.

    Args:
        session: the transaction.
        host_id: the host.
        started: tokens of attempts whose processes this host still sees; they take room whatever their lease.

    Raises:
        NotFound: there is no such host.
    """
    host = _row(session.get(HostRow, host_id), host_id)
    leased = and_(AttemptRow.state == "running", AttemptRow.lease_until >= now(session))
    query = (
        select(AttemptRow.gpu, HostRow.gpus)
        .join(HostRow, HostRow.id == AttemptRow.host_id)
        .where(HostRow.name == host.name, or_(leased, AttemptRow.token.in_(started)))
    )
    mine = frozenset(host.gpus)
    held = [gpu for gpu, theirs in session.execute(query) if _takes_room(mine, gpu, frozenset(theirs))]
    return Room(
        slots=max(0, host.slots - len(held)),
        gpus=tuple(gpu for gpu in host.gpus if gpu not in held),
        has_gpus=bool(host.gpus),
    )


def _takes_room(mine: frozenset[int], gpu: int | None, theirs: frozenset[int]) -> bool:
    """Whether a run on `gpu` (None: on none), of a host with the GPUs `theirs`, takes room of a host with `mine`."""
    if gpu is not None:
        return gpu in mine
    return bool(mine & theirs) or not (mine or theirs)


def _row(row: HostRow | None, host_id: str) -> HostRow:
    """The row, which must exist."""
    if row is None:
        raise NotFound(f"there is no host {host_id!r}; register it first")
    return row


def _read(row: HostRow, since: datetime) -> Host:
    """The host of a row; alive where it has beaten after `since`."""
    return Host(
        id=row.id,
        name=row.name,
        pid=row.pid,
        slots=row.slots,
        gpus=tuple(row.gpus),
        registered_at=row.registered_at,
        heartbeat_at=row.heartbeat_at,
        retired_at=row.retired_at,
        rss_bytes=row.rss_bytes,
        peak_rss_bytes=row.peak_rss_bytes,
        alive=row.retired_at is None and row.heartbeat_at >= since,
    )

"""Worker hosts: who claims runs, how many at once, what is free on its machine, and whether it still beats."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import ColumnElement, and_, not_, or_, select
from sqlalchemy.orm import Session

from storage import keys
from storage.errors import IllegalMove, NotFound
from storage.records.database import Database, now
from storage.records.needs import Needs
from storage.records.pages import Page, clamp, page_of
from storage.records.tables import AttemptRow, HostRow, RunRow

Mode = Literal["active", "paused", "draining"]
"""active: claims runs; paused: claims none; draining: claims none, and ends once its runs have ended."""

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
    memory_gb: float | None
    """GB of memory that its runs may ask for together; None where it did not say."""
    stages: tuple[str, ...]
    """Stages of which it takes runs; empty where it takes all."""
    mode: Mode
    alive: bool
    """It has beaten lately and is not retired."""

    @property
    def whole(self) -> Needs:
        """The most that one run may ask of it."""
        return _whole(self.gpus, self.memory_gb)

    def takes(self, stage: str) -> bool:
        """Whether it takes runs of a stage."""
        return not self.stages or stage in self.stages


@dataclass(frozen=True, slots=True)
class Room:
    """What a host may still take."""

    slots: int
    """How many more runs; 0 where it is full."""
    gpus: tuple[int, ...]
    """Indices of its GPUs that no run holds."""
    has_gpus: bool
    """Whether it has GPUs at all."""
    memory_gb: float | None = None
    """GB of memory that no run has asked for; None where nobody said how much there is."""

    @property
    def free(self) -> Needs:
        """What one more run may ask for."""
        return _whole(self.gpus, self.memory_gb)


def register(
    db: Database,
    name: str,
    pid: int,
    slots: int,
    gpus: Sequence[int],
    memory_gb: float | None = None,
    stages: Collection[str] = (),
) -> str:
    """Writes a host's row and returns its id; `memory_gb` and `stages` as in `Host`."""
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
                memory_gb=memory_gb,
                stages=sorted(stages),
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


def set_mode(db: Database, host_id: str, mode: Mode) -> Host:
    """Tells a host to pause, to drain or to go on; it sees that at its next tick.

    Raises:
        NotFound: there is no such host.
        IllegalMove: it has ended.
    """
    with db.write() as session:
        row = _row(session.get(HostRow, host_id), host_id)
        if row.retired_at is not None:
            raise IllegalMove(f"the host {host_id} on {row.name} has ended; start another there")
        row.mode = mode
        return _read(row, now(session) - timedelta(seconds=ALIVE_S))


def mode_of(db: Database, host_id: str) -> Mode:
    """What a host was told to do.

    Raises:
        NotFound: there is no such host.
    """
    with db.read() as session:
        mode: Mode = _row(session.get(HostRow, host_id), host_id).mode  # type: ignore[assignment]
        return mode


def list_hosts(db: Database, cursor: str | None = None, limit: int = 100, *, alive: bool | None = None) -> Page[Host]:
    """A page of hosts, newest first.

    Args:
        db: the database.
        cursor: `Page.next` of the page before.
        limit: rows a page, 1 to 500.
        alive: only those that live, or only those that do not; None for both.
    """
    limit = clamp(limit)
    query = select(HostRow).order_by(HostRow.id.desc()).limit(limit + 1)
    if cursor is not None:
        query = query.where(HostRow.id < cursor)
    with db.read() as session:
        since = now(session) - timedelta(seconds=ALIVE_S)
        if alive is not None:
            query = query.where(_lives(since) if alive else not_(_lives(since)))
        return page_of(session.scalars(query).all(), limit, lambda row: row.id, lambda row: _read(row, since))


def living(session: Session) -> list[Host]:
    """Every host that lives, newest first."""
    return _all(session, _lives)


def of_machine(db: Database, name: str) -> list[Host]:
    """Every host that a machine ever had, newest first."""
    with db.read() as session:
        return _all(session, lambda _: HostRow.name == name)


def room(session: Session, host_id: str, started: Collection[str] = ()) -> Room:
    """What is free for a host, within the transaction that claims it; no slot where it is paused or draining.

    Runs outlive the host that started them, so whatever holds a lease on this machine takes room, whichever host
    started it: a run on GPUs takes those GPUs; one without takes a slot of the hosts that share a GPU with its own,
    or that have none as its own has none. What takes room takes the memory that it asked for. Hosts of one machine
    with GPUs apart do not see each other: each must be told its share of the memory (`VLGLAB_MEMORY_GB`).

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
        select(AttemptRow.gpus, HostRow.gpus, RunRow.memory_gb)
        .join(HostRow, HostRow.id == AttemptRow.host_id)
        .join(RunRow, RunRow.id == AttemptRow.run_id)
        .where(HostRow.name == host.name, or_(leased, AttemptRow.token.in_(started)))
    )
    mine = frozenset(host.gpus)
    held = [(gpus, gb) for gpus, theirs, gb in session.execute(query) if _takes_room(mine, gpus, frozenset(theirs))]
    taken = {gpu for gpus, _ in held for gpu in gpus}
    memory_gb = None if host.memory_gb is None else max(0.0, host.memory_gb - sum(gb or 0.0 for _, gb in held))
    return Room(
        slots=max(0, host.slots - len(held)) if host.mode == "active" else 0,
        gpus=tuple(gpu for gpu in host.gpus if gpu not in taken),
        has_gpus=bool(host.gpus),
        memory_gb=memory_gb,
    )


def stages(session: Session, host_id: str) -> tuple[str, ...]:
    """Stages of which a host takes runs; empty where it takes all.

    Raises:
        NotFound: there is no such host.
    """
    return tuple(_row(session.get(HostRow, host_id), host_id).stages)


def whole(session: Session, host_id: str) -> Needs:
    """The most that one run may ever ask of a host.

    Raises:
        NotFound: there is no such host.
    """
    host = _row(session.get(HostRow, host_id), host_id)
    return _whole(host.gpus, host.memory_gb)


def _whole(gpus: Sequence[int], memory_gb: float | None) -> Needs:
    """GPUs and memory as an amount; memory that nobody named is without end."""
    return Needs(len(gpus), math.inf if memory_gb is None else memory_gb)


def _takes_room(mine: frozenset[int], gpus: Sequence[int], theirs: frozenset[int]) -> bool:
    """Whether a run on `gpus`, of a host with the GPUs `theirs`, takes room of a host with `mine`."""
    if gpus:
        return not mine.isdisjoint(gpus)
    return bool(mine & theirs) or not (mine or theirs)


def _all(session: Session, which: Callable[[datetime], ColumnElement[bool]]) -> list[Host]:
    """Every host for which a condition holds, given the moment since which those that live have beaten."""
    since = now(session) - timedelta(seconds=ALIVE_S)
    query = select(HostRow).where(which(since)).order_by(HostRow.id.desc())
    return [_read(row, since) for row in session.scalars(query)]


def _lives(since: datetime) -> ColumnElement[bool]:
    """SQL's condition for hosts that live: the same as `Host.alive`."""
    return and_(HostRow.retired_at.is_(None), HostRow.heartbeat_at >= since)


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
        memory_gb=row.memory_gb,
        stages=tuple(row.stages),
        mode=row.mode,  # type: ignore[arg-type]
        alive=row.retired_at is None and row.heartbeat_at >= since,
    )

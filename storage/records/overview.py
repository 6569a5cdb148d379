"""The lab in a few numbers, read within one transaction. Knows the tables; nobody's format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, select

from storage.records import id_counters, quotas
from storage.records.database import Database, now
from storage.records.hosts import ALIVE_S
from storage.records.quotas import Room
from storage.records.tables import ArtifactTableRow, AttemptRow, Base, DeliveryRow, EventRow, HostRow, RunRow

_EVENTS = Base.metadata.tables[EventRow.__tablename__]


@dataclass(frozen=True, slots=True)
class Overview:
    """How many there are of what."""

    runs: Mapping[str, int]
    """State -> number of runs; states without any are left out."""
    oldest_ready_s: float
    """Seconds since the oldest ready run was submitted; 0 where none is ready."""
    hosts: int
    """Hosts that beat."""
    slots: int
    rss_bytes: int
    artifacts: int
    artifact_bytes: int
    num_events: int
    """Events that were ever written, by their ids: those of deleted runs count on."""
    lost_attempts: int
    webhooks_waiting: int
    """Messages that are still to be delivered."""
    store: Room
    """How full the store is by its quota; what it holds is counted only where there is one."""


def of(db: Database) -> Overview:
    """The lab as one transaction sees it."""
    with db.read() as session:
        moment = now(session)
        states = session.execute(select(RunRow.state, func.count()).group_by(RunRow.state)).all()
        oldest = session.scalar(select(func.min(RunRow.created_at)).where(RunRow.state == "ready"))
        beats = HostRow.heartbeat_at >= moment - timedelta(seconds=ALIVE_S)
        hosts = session.execute(
            select(func.count(), func.sum(HostRow.slots), func.sum(HostRow.rss_bytes)).where(
                HostRow.retired_at.is_(None), beats
            )
        ).one()
        published = session.execute(select(func.count(), func.sum(ArtifactTableRow.num_bytes))).one()
        waiting = select(func.count()).select_from(DeliveryRow).where(DeliveryRow.state == "waiting")
        lost = select(func.count()).select_from(AttemptRow).where(AttemptRow.state == "lost")
        return Overview(
            runs={str(state): int(number) for state, number in states},
            oldest_ready_s=0.0 if oldest is None else max(0.0, (moment - oldest).total_seconds()),
            hosts=int(hosts[0]),
            slots=int(hosts[1] or 0),
            rss_bytes=int(hosts[2] or 0),
            artifacts=int(published[0]),
            artifact_bytes=int(published[1] or 0),
            num_events=id_counters.last_given(session, _EVENTS, _EVENTS.c.id),
            lost_attempts=int(session.scalar(lost) or 0),
            webhooks_waiting=int(session.scalar(waiting) or 0),
            store=quotas.room(session),
        )

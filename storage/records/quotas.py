"""Whether the store has room by its quota: counted in SQL. What is published is never refused its place afterwards.

Where the quota is used up, no host claims a run, and runs wait with that reason: what was submitted in the evening is
not lost, runs whose outputs exist still end as `cached`, and whatever makes room lets the others go on. What is running
may end, for its hours of work are spent already. What is brought in from outside is asked about before it comes
(`check_room`): its bytes are known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage.errors import QuotaExceeded
from storage.records import part_index, policies
from storage.records.tables import AttemptRow

Fill = Literal["no_quota", "ok", "nearly_full", "full"]

WARN_SHARE = 0.9
"""Share of the quota from which on people are warned."""


@dataclass(frozen=True, slots=True)
class Room:
    """How full a store is by its quota."""

    used_bytes: int
    quota_bytes: int
    """0: there is none."""

    @property
    def fill(self) -> Fill:
        """How full it is."""
        if not self.quota_bytes:
            return "no_quota"
        if self.used_bytes >= self.quota_bytes:
            return "full"
        return "nearly_full" if self.used_bytes >= WARN_SHARE * self.quota_bytes else "ok"

    @property
    def warning(self) -> str:
        """What people are told, and what to do; empty where there is no need.

        Examples:
            >>> Room(95, 100).warning
            'the store holds 95 of the 100 bytes of its quota; at 100 new runs wait: see `vlglab features usage`'
        """
        held = f"the store holds {self.used_bytes:,} of the {self.quota_bytes:,} bytes of its quota"
        if self.fill == "nearly_full":
            return f"{held}; at {self.quota_bytes:,} new runs wait: see `vlglab features usage`"
        if self.fill == "full":
            return (
                f"{held}; new runs wait until room is made (`vlglab features gc`, `vlglab runs delete --at-once`)"
                " or the quota is raised (`vlglab features policy --quota`)"
            )
        return ""


def room(session: Session) -> Room:
    """How full the store is; its parts are summed only where there is a quota."""
    quota = policies.of(session).quota_bytes
    return Room(part_index.used_bytes(session) if quota else 0, quota)


def is_full(session: Session) -> bool:
    """Whether the quota is used up."""
    return room(session).fill == "full"


def check_room(session: Session, num_bytes: int, apart_from: str = "") -> None:
    """Checks that so much more has room: for what is brought into the store from outside, and can be refused.

    Args:
        session: a transaction; an ordered write where the room is kept then (`leases.keep_room`).
        num_bytes: what comes; nothing fits always.
        apart_from: token of the attempt that asks; what other running attempts keep room for is not free.

    Raises:
        QuotaExceeded: it has not.
    """
    found = room(session)
    if not num_bytes or not found.quota_bytes:
        return
    kept = _kept_bytes(session, apart_from)
    free = found.quota_bytes - found.used_bytes - kept
    if num_bytes > free:
        raise QuotaExceeded(
            f"{num_bytes:,} more bytes do not fit: {max(0, free):,} of the {found.quota_bytes:,} bytes of the store's"
            f" quota are free ({found.used_bytes:,} are published, {kept:,} kept for what other runs fetch now);"
            " collect (`vlglab features gc`), delete runs (`vlglab runs delete --at-once`), see what is pinned"
            " (`vlglab features pins`), or raise the quota (`vlglab features policy --quota`), then try again"
        )


def _kept_bytes(session: Session, apart_from: str) -> int:
    """Bytes that running attempts have asked for, all but one."""
    running = AttemptRow.state == "running", AttemptRow.token != apart_from
    return int(session.scalar(select(func.sum(AttemptRow.room_bytes)).where(*running)) or 0)

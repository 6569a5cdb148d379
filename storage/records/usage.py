"""What takes the room in the store: by kind, dataset and owner, what could go, and what is free. Counted in SQL.

Files are looked at for two things alone: what lies in staging, and the disk's free space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage.artifacts.disks import disk_of
from storage.artifacts.store import ArtifactStore
from storage.records import part_index, policies, references, staging
from storage.records.database import Database
from storage.records.keeping_tables import ArtifactRoomRow, CollectionMarkRow
from storage.records.quotas import Fill, Room
from storage.records.tables import ArtifactTableRow, RunRow
from storage.specs.spec import ArtifactKind

LARGEST = 10
"""How many of the largest artifacts are named."""


@dataclass(frozen=True, slots=True)
class Share:
    """What the artifacts of one kind, dataset or owner take."""

    name: str
    """Empty where an artifact has none: made of no dataset, or by a run that was deleted or is nobody's."""
    num_artifacts: int
    num_bytes: int
    """A part that artifacts share is counted with the oldest of them."""


@dataclass(frozen=True, slots=True)
class Large:
    """One of the largest artifacts."""

    key: str
    kind: ArtifactKind
    dataset: str
    owner: str
    num_bytes: int
    """All its parts, shared ones too."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What takes the room in the store."""

    num_artifacts: int
    num_bytes: int
    """All parts that artifacts hold, each counted once."""
    shared_bytes: int
    """What sharing saves: the artifacts' own sizes add up to so much more."""
    by_kind: tuple[Share, ...]
    by_dataset: tuple[Share, ...]
    by_owner: tuple[Share, ...]
    largest: tuple[Large, ...]
    pinned_bytes: int
    marked_bytes: int
    """What is deleted when its grace period is over, unless somebody uses it."""
    reclaimable_bytes: int
    """What is marked, and what the next collector would mark of what has a row."""
    num_staged: int
    """Staging directories, of living and dead workers."""
    staged_bytes: int
    free_bytes: int
    """What is free on the store's disk."""
    disk_bytes: int
    quota_bytes: int
    fill: Fill
    warning: str
    """Empty where there is no need to."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """An artifact as it is counted."""

    key: str
    kind: ArtifactKind
    dataset: str
    owner: str
    num_bytes: int
    counted_bytes: int
    """The parts that no older artifact holds."""


def report(db: Database, store: ArtifactStore, store_root: Path) -> Usage:
    """What takes the room, at one moment."""
    with db.read() as session:
        entries = _entries(session)
        policy = policies.of(session)
        marks = list(session.scalars(select(CollectionMarkRow)))
        chosen = [one.key for one in references.candidates(session, policy)]
        own = part_index.own_bytes(session, chosen)
        pinned = part_index.bytes_of(session, references.pinned_keys(session))
    total = sum(one.counted_bytes for one in entries)
    room = Room(total, policy.quota_bytes)
    unlisted = sum(mark.num_bytes for mark in marks if mark.what != "artifact")
    staged, disk = store.staged(), disk_of(store_root)
    by_size = sorted(entries, key=lambda one: (-one.num_bytes, one.key))[:LARGEST]
    return Usage(
        num_artifacts=len(entries),
        num_bytes=total,
        shared_bytes=sum(one.num_bytes for one in entries) - total,
        by_kind=_shares(entries, lambda one: one.kind),
        by_dataset=_shares(entries, lambda one: one.dataset),
        by_owner=_shares(entries, lambda one: one.owner),
        largest=tuple(Large(one.key, one.kind, one.dataset, one.owner, one.num_bytes) for one in by_size),
        pinned_bytes=pinned,
        marked_bytes=sum(mark.num_bytes for mark in marks),
        reclaimable_bytes=sum(own.values()) + unlisted,
        num_staged=len(staged),
        staged_bytes=staging.num_bytes(store_root, staged),
        free_bytes=disk.free_bytes,
        disk_bytes=disk.total_bytes,
        quota_bytes=policy.quota_bytes,
        fill=room.fill,
        warning=room.warning,
    )


def _entries(session: Session) -> list[_Entry]:
    """Every artifact; one whose parts are not copied yet counts with all its bytes."""
    table, room = ArtifactTableRow, ArtifactRoomRow
    dataset = func.coalesce(RunRow.dataset, table.attributes["dataset"].as_string(), "")
    counted = func.coalesce(room.counted_bytes, table.num_bytes)
    query = (
        select(table.key, table.kind, dataset, func.coalesce(RunRow.owner, ""), table.num_bytes, counted)
        .outerjoin(RunRow, RunRow.id == table.run_id)
        .outerjoin(room, room.artifact_key == table.key)
        .order_by(table.key)
    )
    return [_Entry(key, kind, *more) for key, kind, *more in session.execute(query)]  # type: ignore[arg-type]


def _shares(entries: Sequence[_Entry], name_of: Callable[[_Entry], str]) -> tuple[Share, ...]:
    """What artifacts of each name take, the most first."""
    numbers: dict[str, int] = {}
    sizes: dict[str, int] = {}
    for one in entries:
        name = name_of(one)
        numbers[name] = numbers.get(name, 0) + 1
        sizes[name] = sizes.get(name, 0) + one.counted_bytes
    return tuple(Share(name, numbers[name], sizes[name]) for name in sorted(sizes, key=lambda n: (-sizes[n], n)))

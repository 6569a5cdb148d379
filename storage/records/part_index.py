"""Which parts published artifacts hold, as SQL: copied from their manifests once, so that usage needs no file.

An artifact that is not copied yet counts with the bytes of its own row. How much each copied one adds to the store is
kept beside (`ArtifactRoomRow`): a part counts with the oldest that holds it. It is counted anew wherever parts come or
go, under the writer's lock. Knows manifests and tables; no collector.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from sqlalchemy import BindParameter, ColumnElement, Select, and_, bindparam, case, delete, func, insert, or_, select
from sqlalchemy.orm import Session, aliased

from storage.artifacts.store import ArtifactManifest, ArtifactStore
from storage.errors import StoreError
from storage.records.database import Database
from storage.records.keeping_tables import ArtifactPartRow, ArtifactRoomRow
from storage.records.pages import pieces
from storage.records.tables import ArtifactTableRow

NOTHING = ""
"""The part's key in the only row of an artifact that holds no part."""


def update(db: Database, store: ArtifactStore, since: datetime | None = None) -> int:
    """Copies what is not copied yet; returns of how many artifacts. One without a readable manifest waits.

    Args:
        db: the database.
        store: where the manifests lie.
        since: look at no artifact that was recorded before.
    """
    query = not_copied()
    if since is not None:
        query = query.where(ArtifactTableRow.created_at >= since)
    with db.read() as session:
        missing = list(session.scalars(query))
    number = 0
    for key in missing:
        manifest = readable(store, key)
        if manifest is None:
            continue
        with db.write() as session:
            if session.scalar(not_copied().where(ArtifactTableRow.key == key)) is not None:
                _add(session, key, {part.key: part.num_bytes for part in manifest.parts} or {NOTHING: 0})
                number += 1
    return number


def remove(session: Session, keys: Collection[str]) -> None:
    """Forgets which parts some artifacts hold, within the ordered write transaction that takes their rows away.

    What they were counted with is counted with the oldest that is left.
    """
    heirs: set[str] = set()
    for some in pieces(sorted(keys)):
        heirs.update(session.scalars(_SHARING, {"keys": some}))
    for some in pieces(sorted(keys)):
        for table in (ArtifactPartRow, ArtifactRoomRow):
            session.execute(delete(table).where(table.artifact_key.in_(some)))
    _count(session, heirs - set(keys))


def not_copied() -> Select[str]:
    """A query of the keys of the artifacts whose parts are not copied yet."""
    copied = select(ArtifactRoomRow.artifact_key).where(ArtifactRoomRow.artifact_key == ArtifactTableRow.key)
    return select(ArtifactTableRow.key).where(~copied.exists())


def used_bytes(session: Session) -> int:
    """Bytes of all parts that artifacts hold, each counted once."""
    copied = session.scalar(select(func.sum(ArtifactRoomRow.counted_bytes))) or 0
    others = session.scalar(select(func.sum(ArtifactTableRow.num_bytes)).where(ArtifactTableRow.key.in_(not_copied())))
    return int(copied) + int(others or 0)


def bytes_of(session: Session, keys: Iterable[str]) -> int:
    """Bytes of the parts that some artifacts hold, each counted once."""
    return sum(_parts_of(session, keys)[0].values()) + sum(_of_rows(session, keys).values())


def own_bytes(session: Session, keys: Iterable[str]) -> dict[str, int]:
    """Artifact's key -> bytes that go with it where all of `keys` go; a part that several hold is told of once."""
    wanted = list(keys)
    sizes, holders = _parts_of(session, wanted)
    total: dict[str, int] = {}
    for some in pieces(list(sizes)):
        query = select(ArtifactPartRow.part_key, func.count()).where(ArtifactPartRow.part_key.in_(some))
        for part, number in session.execute(query.group_by(ArtifactPartRow.part_key)):
            total[part] = number
    found = dict.fromkeys(wanted, 0) | _of_rows(session, wanted)
    for part, those in holders.items():
        if len(those) == total[part]:
            found[those[0]] += sizes[part]
    return found


def known(session: Session, parts: Iterable[str], apart_from: Collection[str] = ()) -> frozenset[str]:
    """Those of some parts that an artifact holds whose parts are copied, those `apart_from` some artifacts."""
    table, left_out = ArtifactPartRow, frozenset(apart_from)
    found: set[str] = set()
    for some in pieces(list(parts)):
        query = select(table.part_key, table.artifact_key).where(table.part_key.in_(some))
        found.update(part for part, key in session.execute(query) if key not in left_out)
    return frozenset(found)


def readable(store: ArtifactStore, key: str) -> ArtifactManifest | None:
    """An artifact's manifest; None where it is gone or cannot be read."""
    try:
        return store.manifest(key)
    except StoreError:
        return None


def _add(session: Session, key: str, held: Mapping[str, int]) -> None:
    """Writes down which parts an artifact holds, within an ordered write transaction; part's key -> bytes."""
    rows = [{"artifact_key": key, "part_key": one, "num_bytes": size} for one, size in held.items()]
    session.execute(insert(ArtifactPartRow), rows)
    _count(session, {key, *session.scalars(_YOUNGER, {"key": key})})


def _count(session: Session, keys: Collection[str]) -> None:
    """Counts anew what some artifacts add to the store."""
    for some in pieces(sorted(keys)):
        session.execute(delete(ArtifactRoomRow).where(ArtifactRoomRow.artifact_key.in_(some)))
        counted = session.execute(_COUNTED, {"keys": some})
        rows = [{"artifact_key": key, "counted_bytes": int(size)} for key, size in counted]
        if rows:
            session.execute(insert(ArtifactRoomRow), rows)


def _is_older(one: type[ArtifactTableRow], other: type[ArtifactTableRow]) -> ColumnElement[bool]:
    """Whether one artifact was recorded before another; of one moment, that of the smaller key."""
    return or_(one.created_at < other.created_at, and_(one.created_at == other.created_at, one.key < other.key))


_MINE, _OWN = aliased(ArtifactPartRow), aliased(ArtifactTableRow)
_THEIRS, _OTHER = aliased(ArtifactPartRow), aliased(ArtifactTableRow)
_KEYS: BindParameter[list[str]] = bindparam("keys", expanding=True)

_SHARED = (
    select(_THEIRS.artifact_key)
    .join(_MINE, _MINE.part_key == _THEIRS.part_key)
    .where(_THEIRS.artifact_key != _MINE.artifact_key, _MINE.part_key != NOTHING)
    .distinct()
)
_SHARING = _SHARED.where(_MINE.artifact_key.in_(_KEYS))
"""Which others hold a part that some hold. Statements are kept: SQLAlchemy takes as long to make one as to run it."""
_YOUNGER = (
    _SHARED.join(_OWN, _OWN.key == _MINE.artifact_key)
    .join(_OTHER, _OTHER.key == _THEIRS.artifact_key)
    .where(_MINE.artifact_key == bindparam("key"), _is_older(_OWN, _OTHER))
)
"""Which artifacts that are younger than one hold a part of it."""
_OF_OLDER = (
    select(_THEIRS.artifact_key)
    .join(_OTHER, _OTHER.key == _THEIRS.artifact_key)
    .where(_THEIRS.part_key == _MINE.part_key, _THEIRS.artifact_key != _MINE.artifact_key, _is_older(_OTHER, _OWN))
)
_SIZE = case((_MINE.num_bytes == 0, 0), (_OF_OLDER.exists(), 0), else_=_MINE.num_bytes)
_COUNTED = (
    select(_MINE.artifact_key, func.sum(_SIZE))
    .join(_OWN, _OWN.key == _MINE.artifact_key)
    .where(_MINE.artifact_key.in_(_KEYS))
    .group_by(_MINE.artifact_key)
)
"""What some artifacts add to the store: the bytes of their parts that no older one holds."""


def _parts_of(session: Session, keys: Iterable[str]) -> tuple[dict[str, int], dict[str, list[str]]]:
    """The parts of some artifacts: part's key -> its bytes, and which of the artifacts hold it."""
    sizes: dict[str, int] = {}
    holders: dict[str, list[str]] = {}
    table = ArtifactPartRow
    for some in pieces(sorted(set(keys))):
        query = select(table.part_key, table.num_bytes, table.artifact_key).where(table.artifact_key.in_(some))
        for part, size, key in session.execute(query.order_by(table.artifact_key, table.part_key)):
            sizes[part] = size
            holders.setdefault(part, []).append(key)
    return sizes, holders


def _of_rows(session: Session, keys: Iterable[str]) -> dict[str, int]:
    """Key -> bytes of those of some artifacts whose parts are not copied yet."""
    found: dict[str, int] = {}
    for some in pieces(sorted(set(keys))):
        query = select(ArtifactTableRow.key, ArtifactTableRow.num_bytes).where(ArtifactTableRow.key.in_(some))
        for key, size in session.execute(query.where(ArtifactTableRow.key.in_(not_copied()))):
            found[key] = size
    return found

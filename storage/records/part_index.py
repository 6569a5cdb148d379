"""Which parts published artifacts hold, as SQL: copied from their manifests once, so that usage needs no file.

An artifact that is not copied yet counts with the bytes of its own row. Knows manifests and tables; no collector.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Select, func, insert, select
from sqlalchemy.orm import Session

from storage.artifacts.store import ArtifactManifest, ArtifactStore
from storage.errors import StoreError
from storage.records.database import Database
from storage.records.keeping_tables import ArtifactPartRow
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
                held = {part.key: part.num_bytes for part in manifest.parts} or {NOTHING: 0}
                rows = [{"artifact_key": key, "part_key": one, "num_bytes": size} for one, size in held.items()]
                session.execute(insert(ArtifactPartRow), rows)
                number += 1
    return number


def not_copied() -> Select[str]:
    """A query of the keys of the artifacts whose parts are not copied yet."""
    copied = select(ArtifactPartRow.artifact_key).where(ArtifactPartRow.artifact_key == ArtifactTableRow.key)
    return select(ArtifactTableRow.key).where(~copied.exists())


def used_bytes(session: Session) -> int:
    """Bytes of all parts that artifacts hold, each counted once."""
    each = select(func.max(ArtifactPartRow.num_bytes).label("size")).group_by(ArtifactPartRow.part_key).subquery()
    copied = session.scalar(select(func.sum(each.c.size))) or 0
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


def known(session: Session, parts: Iterable[str]) -> frozenset[str]:
    """Those of some parts that an artifact holds whose parts are copied."""
    found: set[str] = set()
    for some in pieces(list(parts)):
        found.update(session.scalars(select(ArtifactPartRow.part_key).where(ArtifactPartRow.part_key.in_(some))))
    return frozenset(found)


def readable(store: ArtifactStore, key: str) -> ArtifactManifest | None:
    """An artifact's manifest; None where it is gone or cannot be read."""
    try:
        return store.manifest(key)
    except StoreError:
        return None


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

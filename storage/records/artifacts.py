"""Published artifacts: an artifact is visible from the moment its row is committed under a valid token (`leases`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage.errors import NotFound
from storage.records import artifact_sources, features
from storage.records.database import Database, now
from storage.records.pages import Page, clamp, page_of, pieces
from storage.records.tables import ArtifactTableRow, FeatureTableRow, RunRow
from storage.specs.spec import ArtifactKind


@dataclass(frozen=True, slots=True)
class ArtifactRow:
    """What the database knows of an artifact; the rest stands in its manifest in the store."""

    key: str
    kind: ArtifactKind
    stage: str
    output: str
    run_id: str
    """The run that computed it."""
    manifest_digest: str
    num_bytes: int
    num_scenes: int
    num_points: int
    attributes: dict[str, Any] = field(default_factory=dict)
    created_at: datetime | None = None
    """When its row was written; None before."""


def insert(session: Session, run_id: str, artifact: ArtifactRow, sources: Mapping[str, str] | None = None) -> None:
    """Adds an artifact's row within a write transaction of the run that holds a valid token; known keys stay.

    Args:
        session: the transaction.
        run_id: the run.
        artifact: the row.
        sources: the `inputs` of its manifest; None where nobody read it.
    """
    if session.get(ArtifactTableRow, artifact.key) is not None:
        return
    row = ArtifactTableRow(
        key=artifact.key,
        kind=artifact.kind,
        stage=artifact.stage,
        output=artifact.output,
        run_id=run_id,
        manifest_digest=artifact.manifest_digest,
        num_bytes=artifact.num_bytes,
        num_scenes=artifact.num_scenes,
        num_points=artifact.num_points,
        attributes=artifact.attributes,
        created_at=now(session),
    )
    session.add(row)
    if sources is not None:
        session.flush()
        artifact_sources.add(session, row.key, sources.values())
    made_by = session.get(RunRow, run_id)
    features.insert(session, row, "" if made_by is None else made_by.owner)


def get(db: Database, key: str) -> ArtifactRow:
    """One artifact.

    Raises:
        NotFound: none of that key is published.
    """
    with db.read() as session:
        row = session.get(ArtifactTableRow, key)
        if row is None:
            raise NotFound(f"there is no published artifact {key!r}")
        return _read(row)


def owner_of(db: Database, key: str) -> str:
    """Who submitted the run that computed an artifact; of what is no feature store only while that run is there.

    Returns:
        Empty where nobody is known.

    Raises:
        NotFound: none of that key is published.
    """
    table = ArtifactTableRow
    owner = func.coalesce(FeatureTableRow.owner, RunRow.owner, "")
    query = select(owner).select_from(table).outerjoin(FeatureTableRow, FeatureTableRow.key == table.key)
    with db.read() as session:
        found = session.scalar(query.outerjoin(RunRow, RunRow.id == table.run_id).where(table.key == key))
    if found is None:
        raise NotFound(f"there is no published artifact {key!r}")
    return str(found)


def exists(db: Database, keys: Iterable[str]) -> frozenset[str]:
    """Those of `keys` that are published."""
    with db.read() as session:
        return existing(session, keys)


def digests(db: Database, keys: Iterable[str]) -> dict[str, str]:
    """Key -> digest of the manifest, of those of `keys` that are published."""
    table = ArtifactTableRow
    found: dict[str, str] = {}
    with db.read() as session:
        for some in pieces(sorted(set(keys))):
            rows = session.execute(select(table.key, table.manifest_digest).where(table.key.in_(some)))
            found.update((key, recorded) for key, recorded in rows)
    return found


def existing(session: Session, keys: Iterable[str]) -> frozenset[str]:
    """Those of `keys` that are published, within a transaction."""
    wanted = sorted(set(keys))
    found: set[str] = set()
    for some in pieces(wanted):
        found.update(session.scalars(select(ArtifactTableRow.key).where(ArtifactTableRow.key.in_(some))))
    return frozenset(found)


def list_artifacts(
    db: Database, kind: ArtifactKind | None = None, cursor: str | None = None, limit: int = 100
) -> Page[ArtifactRow]:
    """A page of artifacts of a kind (None: of every kind), newest first.

    Raises:
        NotFound: the cursor is no artifact's.
    """
    limit = clamp(limit)
    table = ArtifactTableRow
    query = select(table).order_by(table.created_at.desc(), table.key.desc()).limit(limit + 1)
    if kind is not None:
        query = query.where(table.kind == kind)
    with db.read() as session:
        if cursor is not None:
            last = session.get(table, cursor)
            if last is None:
                raise NotFound(f"got the cursor {cursor!r}, which no page gave; start again without one")
            earlier = (table.created_at == last.created_at) & (table.key < last.key)
            query = query.where((table.created_at < last.created_at) | earlier)
        return page_of(session.scalars(query).all(), limit, lambda row: row.key, _read)


def _read(row: ArtifactTableRow) -> ArtifactRow:
    """The artifact of a row."""
    kind: ArtifactKind = row.kind  # type: ignore[assignment]
    return ArtifactRow(
        key=row.key,
        kind=kind,
        stage=row.stage,
        output=row.output,
        run_id=row.run_id,
        manifest_digest=row.manifest_digest,
        num_bytes=row.num_bytes,
        num_scenes=row.num_scenes,
        num_points=row.num_points,
        attributes=row.attributes,
        created_at=row.created_at,
    )

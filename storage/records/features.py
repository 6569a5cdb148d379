"""Feature stores as they are looked for: published embeddings, who made and who reads them, whether they verify.

A narrow copy of what the artifacts say of themselves: their attributes name every scene, and lists do not read them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, func, literal, or_, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from storage.errors import NotFound
from storage.records import walks
from storage.records.database import Database, now
from storage.records.keeping_tables import ArtifactPartRow
from storage.records.pages import Page, clamp
from storage.records.tables import ArtifactTableRow, FeatureTableRow, RunInputRow, RunRow

KIND = "embeddings"
"""The kind of artifact that is a feature store."""
PULLED_FROM = "pulled_from"
"""The attribute of an artifact's row, and of no manifest, that says where it was pulled from: `source`, `artifact`."""
MAX_USERS = 100
"""Most runs that are named as users of one store."""

_FAULT_CHARACTERS = 2000
_COPIED = ("dataset", "encoder_title", "weights_digest")
_ORDER = "newest"
_BRINGING = frozenset({"pull", "repair"})
"""Stages whose spec says nothing of how what they publish was made."""


@dataclass(frozen=True, slots=True)
class Feature:
    """Published embeddings, and how they were made."""

    key: str
    run_id: str
    """The run that computed them; it may be deleted."""
    stage: str
    output: str
    manifest_digest: str
    num_bytes: int
    num_scenes: int
    num_points: int
    owner: str
    """Who submitted that run."""
    dataset: str | None
    encoder: str | None
    encoder_title: str | None
    weights_digest: str | None
    dimension: int | None
    dtype: str
    """Type of the embeddings as they are stored."""
    num_covered: int | None
    """Points that have an embedding; None where nobody counted them."""
    splits: dict[str, int]
    """Split -> how many scenes."""
    lifting: dict[str, Any] | None
    created_at: datetime
    verified_at: datetime | None
    """When they were verified last; None: never."""
    verified_by: str | None
    """The run that did."""
    num_faults: int | None
    """How many faults it found; 0: none."""
    fault: str | None
    """The first of them."""


@dataclass(frozen=True, slots=True)
class FeatureUser:
    """A run that names a feature store as an input."""

    run_id: str
    name: str
    stage: str
    state: str
    owner: str
    port: str


@dataclass(frozen=True, slots=True)
class FeatureStory:
    """A feature store with what stands only in the records of runs."""

    feature: Feature
    spec: dict[str, Any] | None
    """Spec of the run that computed it here; None where that was deleted, or did not compute it but pull it."""
    inputs: dict[str, str]
    """Port -> artifact that this run read."""
    pulled_from: dict[str, str] | None
    """The URL (`source`) and the key there (`artifact`) that it was pulled from; None where it was made here."""
    users: tuple[FeatureUser, ...]
    """The newest runs that name it, MAX_USERS at most."""
    num_users: int


@dataclass(frozen=True, slots=True)
class FeatureFilter:
    """Which feature stores a list holds; None does not filter."""

    dataset: str | None = None
    encoder: str | None = None
    owner: str | None = None
    dimension: int | None = None
    text: str | None = None
    """Stands in the key, the dataset, the encoder's name or title, or the digest of its weights; any case of A to Z."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a verification found."""

    num_faults: int
    fault: str | None = None
    """The first fault, in words."""
    num_covered: int | None = None
    """Points that have an embedding, where all could be counted."""

    @classmethod
    def of(cls, faults: Sequence[str], num_covered: int | None = None) -> Finding:
        """What some faults come to."""
        return cls(len(faults), faults[0][:_FAULT_CHARACTERS] if faults else None, num_covered)


_SHOWN: dict[str, InstrumentedAttribute[Any]] = {
    name: getattr(FeatureTableRow if hasattr(FeatureTableRow, name) else ArtifactTableRow, name)
    for name in Feature.__dataclass_fields__
}


def insert(session: Session, artifact: ArtifactTableRow, owner: str) -> None:
    """Adds what lists show of an artifact that is being recorded; of other kinds than embeddings nothing is shown."""
    if artifact.kind != KIND:
        return
    known: Mapping[str, Any] = artifact.attributes
    encoder, splits, covered = known.get("encoder"), known.get("splits"), known.get("num_covered")
    name = encoder.get("name") if isinstance(encoder, Mapping) else encoder
    dimension, lifting = known.get("dimension"), known.get("lifting")
    session.flush()
    session.add(
        FeatureTableRow(
            **{column: _text(known.get(column)) for column in _COPIED},
            key=artifact.key,
            owner=owner,
            encoder=_text(name),
            dimension=dimension if isinstance(dimension, int) and 0 < dimension < 1 << 31 else None,
            dtype=_text(known.get("dtype")) or "float16",
            num_covered=covered if isinstance(covered, int) else None,
            splits=dict(Counter(map(str, splits.values()))) if isinstance(splits, Mapping) else {},
            lifting=dict(lifting) if isinstance(lifting, Mapping) else None,
            created_at=artifact.created_at,
        )
    )


def list_features(
    db: Database, only: FeatureFilter = FeatureFilter(), cursor: str | None = None, limit: int = 100
) -> Page[Feature]:
    """A page of feature stores, newest first: one statement along the index of a filter, whatever the attributes hold.

    Raises:
        InvalidInput: no page of this list gave the cursor.
    """
    limit = clamp(limit)
    table = FeatureTableRow
    query = _select().where(*_conditions(only)).order_by(table.created_at.desc(), table.key.desc()).limit(limit + 1)
    if cursor is not None:
        at, key = walks.key_of(cursor, _ORDER, (datetime, str))
        after = tuple_(literal(at.replace(tzinfo=UTC), table.created_at.type), literal(key))
        query = query.where(tuple_(table.created_at, table.key) < after)
    with db.read() as session:
        found = [Feature(*row) for row in session.execute(query)]
    kept = found[:limit]
    last = (kept[-1].created_at, kept[-1].key) if len(found) > limit else None
    return Page(tuple(kept), walks.cursor_of(_ORDER, last))


def get(db: Database, key: str) -> Feature:
    """One feature store.

    Raises:
        NotFound: no embeddings of that key are published.
    """
    with db.read() as session:
        return _get(session, key)


def story(db: Database, key: str) -> FeatureStory:
    """One feature store, with the run that computed it and those that read it.

    Raises:
        NotFound: no embeddings of that key are published.
    """
    reads = RunInputRow.artifact_key == key
    with db.read() as session:
        feature = _get(session, key)
        made_by = session.get(RunRow, feature.run_id)
        users = (
            select(RunRow.id, RunRow.name, RunRow.stage, RunRow.state, RunRow.owner, RunInputRow.port)
            .join(RunInputRow, RunInputRow.run_id == RunRow.id)
            .where(reads)
            .order_by(RunInputRow.run_id.desc(), RunInputRow.port)
            .limit(MAX_USERS)
        )
        if made_by is not None and made_by.stage in _BRINGING:
            made_by = None
        attributes = session.scalar(select(ArtifactTableRow.attributes).where(ArtifactTableRow.key == key))
        number = select(func.count(func.distinct(RunInputRow.run_id))).where(reads)
        return FeatureStory(
            feature,
            None if made_by is None else made_by.spec,
            {} if made_by is None else {one.port: one.artifact_key for one in made_by.inputs if one.artifact_key},
            (attributes or {}).get(PULLED_FROM),
            tuple(FeatureUser(*row) for row in session.execute(users)),
            session.scalar(number) or 0,
        )


def record_finding(session: Session, key: str, run_id: str, found: Finding) -> None:
    """Writes down what a run found of a feature store; where nothing of that key is published any more, nothing."""
    row = session.get(FeatureTableRow, key)
    if row is None:
        return
    row.verified_at, row.verified_by = now(session), run_id
    row.num_faults, row.fault = found.num_faults, found.fault
    if row.num_covered is None and not found.num_faults:
        row.num_covered = found.num_covered


def is_doubted(db: Database, part: str) -> bool:
    """Whether the last verification of a feature store that holds this part found faults."""
    held = select(ArtifactPartRow.part_key).where(ArtifactPartRow.artifact_key == FeatureTableRow.key)
    not_known = ~held.exists()  # `part_index` has not come to it: any part may be of it
    doubted = select(FeatureTableRow.key).where(
        FeatureTableRow.num_faults > 0, or_(held.where(ArtifactPartRow.part_key == part).exists(), not_known)
    )
    with db.read() as session:
        return session.scalar(doubted.limit(1)) is not None


def _get(session: Session, key: str) -> Feature:
    row = session.execute(_select().where(FeatureTableRow.key == key)).first()
    if row is None:
        raise NotFound(f"there are no published features {key!r}; `vlglab features list` shows those there are")
    return Feature(*row)


def _select() -> Select[Any]:
    """What is shown, in the order of Feature's fields; the artifacts' attributes are not among it."""
    return select(*_SHOWN.values()).join(ArtifactTableRow, ArtifactTableRow.key == FeatureTableRow.key)


def _conditions(only: FeatureFilter) -> list[ColumnElement[bool]]:
    """What a row must fulfil."""
    table = FeatureTableRow
    exact = {
        table.dataset: only.dataset, table.encoder: only.encoder, table.owner: only.owner,
        table.dimension: only.dimension,
    }  # fmt: skip
    found: list[ColumnElement[bool]] = [column == value for column, value in exact.items() if value is not None]
    if only.text is not None:
        places = (table.key, table.dataset, table.encoder, table.encoder_title, table.weights_digest)
        found.append(or_(*(place.icontains(only.text, autoescape=True) for place in places)))
    return found


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None

"""Artifacts that go with their last run: which do, and how their files leave the store. Knows tables and store.

Which files leave is read from manifests. Who may withdraw what, and when, `removals` and `collecting` say.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from storage.artifacts.store import ArtifactManifest, ArtifactStore
from storage.errors import StoreUnwritable
from storage.records import artifact_sources, part_index, references
from storage.records.database import Database
from storage.records.keeping_tables import ArtifactUseRow, CollectionMarkRow, PinRow, ReadLeaseRow
from storage.records.pages import pieces
from storage.records.part_index import readable
from storage.records.tables import ArtifactTableRow, EvaluationTableRow, RemovalRow, RunInputRow, RunOutputRow
from storage.specs.spec import ArtifactKind

_NAMED = 3
"""Most users of an artifact that are named."""

_NO_ARTIFACT = "-"
"""What can be no artifact's key, to withdraw parts alone."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An artifact that stays, and why."""

    key: str
    kind: ArtifactKind
    num_bytes: int
    why: str


@dataclass(frozen=True, slots=True)
class Removed:
    """An artifact that goes."""

    key: str
    kind: ArtifactKind
    num_parts: int
    """Parts that go with it."""
    num_bytes: int
    """What these hold."""
    shared_parts: int
    """Parts that stay, for other artifacts hold them too."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of the artifacts of some runs."""

    removed: Mapping[str, ArtifactKind]
    """Keys of those that no other run uses and nobody keeps."""
    kept: tuple[Kept, ...]


@dataclass(slots=True)
class _Sharing:
    """Which parts published artifacts hold: `part_index` knows, and of what it has not come to, the manifests do."""

    store: ArtifactStore
    parts: dict[str, frozenset[str]] = field(default_factory=dict)
    """Artifact's key -> its parts' keys; of those alone that were not copied when they were looked at."""
    unread: set[str] = field(default_factory=set)
    """Artifacts whose manifests cannot be read: nobody knows what they hold."""
    told_of: set[str] = field(default_factory=set)

    def look(self, keys: Iterable[str]) -> None:
        """Reads the manifests that were not read yet. It takes long: no transaction should wait for the most of it."""
        for key in keys:
            if key not in self.parts and key not in self.unread:
                manifest = readable(self.store, key)
                if manifest is None:
                    self.unread.add(key)
                else:
                    self.parts[key] = frozenset(part.key for part in manifest.parts)

    def own_parts(self, session: Session, manifest: ArtifactManifest, gone: Collection[str]) -> set[str]:
        """Keys of the parts that no artifact but those in `gone` holds.

        Empty where a manifest of the kind cannot be read: what it holds must stay.
        """
        if not self.unread <= set(gone):
            return set()
        named = {part.key for part in manifest.parts}
        others: set[str] = set().union(*(parts for key, parts in self.parts.items() if key not in gone))
        return named - others - part_index.known(session, named, apart_from=gone)

    def told(self, session: Session, manifest: ArtifactManifest, gone: Collection[str]) -> Removed:
        """What of an artifact goes, where the artifacts `gone` count no more; each part is told of once."""
        own = self.own_parts(session, manifest, gone)
        new = {part.key: part.num_bytes for part in manifest.parts if part.key in own - self.told_of}
        self.told_of |= own
        shared = len({part.key for part in manifest.parts} - own)
        return Removed(manifest.key, manifest.kind, len(new), sum(new.values()), shared)


def fate(session: Session, ids: Sequence[str]) -> Fate:
    """What becomes of the artifacts that some runs gave, or computed and did not live to give."""
    given = select(RunOutputRow.artifact_key).where(RunOutputRow.run_id.in_(ids))
    computed = select(ArtifactTableRow.key).where(ArtifactTableRow.run_id.in_(ids))
    keys = sorted({*session.scalars(given), *session.scalars(computed)})
    rows = {row.key: row for row in session.scalars(select(ArtifactTableRow).where(ArtifactTableRow.key.in_(keys)))}
    needed = users(session, keys, ids) | references.held(session, keys)
    kept = tuple(
        Kept(key, kind_of(rows[key].kind), rows[key].num_bytes, needed[key])
        for key in keys
        if key in needed and key in rows
    )
    return Fate({key: kind_of(rows[key].kind) for key in keys if key not in needed and key in rows}, kept)


def foreseen(db: Database, store: ArtifactStore, what: Fate) -> tuple[tuple[Removed, ...], tuple[Kept, ...]]:
    """What would go and what would stay, without touching anything."""
    sharing = _Sharing(store)
    found = []
    with db.read() as session:
        alike = [key for kind in sorted(set(what.removed.values())) for key in _not_copied(session, kind)]
    sharing.look(alike)
    manifests = {key: readable(store, key) for key in what.removed}
    with db.read() as session:
        for key, kind in what.removed.items():
            manifest = manifests[key]
            told = None if manifest is None else sharing.told(session, manifest, what.removed)
            found.append(told or Removed(key, kind, 0, 0, 0))
    return tuple(found), what.kept


def hide(session: Session, keys: Collection[str], moment: datetime) -> None:
    """Takes the rows of artifacts away by which anybody would find them, and marks them for `withdraw_all`.

    Args:
        session: an ordered write transaction, in which it was seen that no run gives them and nobody keeps them.
        keys: the artifacts; those without a row are only marked.
        moment: now.
    """
    of_artifacts = (EvaluationTableRow, PinRow, ReadLeaseRow, ArtifactUseRow)
    part_index.remove(session, keys)
    artifact_sources.remove(session, keys)
    for some in pieces(keys):
        for table in of_artifacts:
            session.execute(delete(table).where(table.artifact_key.in_(some)))
        marked = CollectionMarkRow.what.in_(("artifact", "manifest")), CollectionMarkRow.id.in_(some)
        session.execute(delete(CollectionMarkRow).where(*marked))
        session.execute(delete(ArtifactTableRow).where(ArtifactTableRow.key.in_(some)))
    for key in keys:
        if session.get(RemovalRow, ("artifact", key)) is None:
            session.add(RemovalRow(what="artifact", id=key, at=moment))


def withdraw_parts(db: Database, store: ArtifactStore, keys: Sequence[str], scene_wise: bool | None) -> list[str]:
    """Takes those of some parts out of the store that no artifact holds; their keys.

    None goes while the parts of a recorded artifact are not known, or while a run has begun that may count on one.

    Args:
        db: the database.
        store: the store.
        keys: keys of the parts.
        scene_wise: whether they are scenes; None where that is not known.

    Raises:
        StoreUnwritable: the store cannot be changed.
    """
    gone: list[str] = []
    for some in pieces(keys):
        with db.write() as session:
            unsure = session.scalar(part_index.not_copied().limit(1)) is not None
            if unsure or references.is_being_written(session, scene_wise=scene_wise):
                return gone
            free = sorted(set(some) - part_index.known(session, some))
            with writable():
                store.withdraw(_NO_ARTIFACT, free)
            marked = CollectionMarkRow.what == "part", CollectionMarkRow.id.in_(some)
            session.execute(delete(CollectionMarkRow).where(*marked))
            gone += free
    return gone


@contextmanager
def writable() -> Iterator[None]:
    """Turns what a disk answers to a change of the store into our error.

    Raises:
        StoreUnwritable: the disk is read-only, full, or not ours.
    """
    try:
        yield
    except OSError as error:
        raise StoreUnwritable(
            f"the store cannot be changed ({error}); see that its disk is mounted for writing, has room, and that the"
            " folder belongs to the service. What was begun is ended by the next try"
        ) from error


def withdraw_all(db: Database, store: ArtifactStore) -> list[Removed]:
    """Takes the files of all marked artifacts out of the store and their marks away.

    One that was computed and recorded anew since it was marked stays.

    Raises:
        StoreUnwritable: the store cannot be changed; the marks of what is left stay.
    """
    with db.read() as session:
        marked = sorted(session.scalars(select(RemovalRow.id).where(RemovalRow.what == "artifact")))
    sharing = _Sharing(store)
    return [one for key in marked if (one := _withdraw(db, store, key, sharing)) is not None]


def _withdraw(db: Database, store: ArtifactStore, key: str, sharing: _Sharing) -> Removed | None:
    """Withdraws one artifact; None where nothing of it was there, or it is wanted again."""
    manifest = readable(store, key)
    if manifest is not None:
        with db.read() as session:
            alike = _not_copied(session, manifest.kind)
        sharing.look(alike)  # the slow part, before anybody has to wait for it
    with db.write() as session:
        session.execute(delete(RemovalRow).where(RemovalRow.what == "artifact", RemovalRow.id == key))
        if session.get(ArtifactTableRow, key) is not None:
            return None
        if manifest is None:
            with writable():
                store.withdraw(key, ())
            return None
        sharing.look(_not_copied(session, manifest.kind))
        with writable():
            store.withdraw(key, sharing.own_parts(session, manifest, (key,)))
        return sharing.told(session, manifest, (key,))


def _not_copied(session: Session, kind: str) -> list[str]:
    """Keys of the published artifacts of a kind whose parts are not copied: only those of a kind can share a part."""
    return list(session.scalars(part_index.not_copied().where(ArtifactTableRow.kind == kind)))


def users(session: Session, keys: Sequence[str], apart_from: Collection[str]) -> dict[str, str]:
    """Artifact's key -> which other runs use it, in words; keys that none uses are left out."""
    found: dict[str, list[str]] = defaultdict(list)
    tables: Iterable[tuple[str, type[RunOutputRow] | type[RunInputRow]]] = (
        ("an output of", RunOutputRow), ("an input of", RunInputRow),
    )  # fmt: skip
    for words, table in tables:
        query = select(table.artifact_key, table.run_id).where(
            table.artifact_key.in_(keys), table.run_id.not_in(apart_from)
        )
        for key, run_id in session.execute(query.order_by(table.run_id)):
            if key is not None:
                found[key].append(f"{words} the run {run_id}")
    return {
        key: ", ".join(uses[:_NAMED]) + (f" and {len(uses) - _NAMED} more" if len(uses) > _NAMED else "")
        for key, uses in found.items()
    }


def kind_of(kind: str) -> ArtifactKind:
    """A kind as the table has it, typed."""
    return kind  # type: ignore[return-value]

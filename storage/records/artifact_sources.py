"""What artifacts were made from, as SQL: written down when one is recorded, so that a deletion needs no manifest.

Of one that was recorded before that was kept, nothing is known until `learn` has read its manifest once. Knows
manifests and tables; deletes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sqlalchemy import ColumnElement, Select, delete, insert, or_, select
from sqlalchemy.orm import Session

from storage.artifacts.store import ArtifactStore
from storage.records.database import Database
from storage.records.keeping_tables import ArtifactSourceRow
from storage.records.pages import pieces
from storage.records.part_index import readable
from storage.records.tables import ArtifactTableRow, RunRow

NOTHING = ""
"""The source in the only row of an artifact that was made from nothing that has a key."""
BRINGING = ("pull", "repair")
"""Stages whose runs do not read what their artifacts were made from."""


def add(session: Session, key: str, sources: Iterable[str]) -> None:
    """Writes down what a recorded artifact was made from, in the ordered write transaction; what is known stays.

    Args:
        session: the transaction, in which the artifact's row is there.
        key: the artifact.
        sources: keys of artifacts, and digests of what lies outside the store, as its manifest's `inputs` say.
    """
    if session.scalar(select(ArtifactSourceRow.source).where(ArtifactSourceRow.artifact_key == key).limit(1)) is None:
        named = sorted(set(sources)) or [NOTHING]
        session.execute(insert(ArtifactSourceRow), [{"artifact_key": key, "source": source} for source in named])


def remove(session: Session, keys: Collection[str]) -> None:
    """Forgets what some artifacts were made from, within the write transaction that takes their rows away."""
    for some in pieces(sorted(keys)):
        session.execute(delete(ArtifactSourceRow).where(ArtifactSourceRow.artifact_key.in_(some)))


def learn(db: Database, store: ArtifactStore) -> int:
    """Reads the manifests of those whose sources nothing tells yet; one that cannot be read is tried again next time.

    Returns:
        Of how many it was learned.
    """
    known = select(ArtifactSourceRow.artifact_key).where(ArtifactSourceRow.artifact_key == ArtifactTableRow.key)
    query = _silent().where(~known.exists()).order_by(ArtifactTableRow.key)
    with db.read() as session:
        unknown = list(session.execute(query))
    number = 0
    for some in pieces(unknown):
        found = [(key, manifest) for key, _ in some if (manifest := readable(store, key)) is not None]
        with db.write() as session:
            for key, manifest in found:
                if session.get(ArtifactTableRow, key) is not None:
                    add(session, key, manifest.inputs.values())
                    number += 1
    return number


def made_from(session: Session, key: str) -> tuple[str, str] | None:
    """Key and kind of an artifact that was made from one, of those whose runs cannot say so; None where there is none.

    What a run here made from it is known by that run's inputs. Of what was pulled, and of what a deleted run has left,
    only this tells.
    """
    query = _silent().join(ArtifactSourceRow, ArtifactSourceRow.artifact_key == ArtifactTableRow.key)
    named = query.where(ArtifactSourceRow.source == key, ArtifactTableRow.key != key)
    found = session.execute(named.order_by(ArtifactTableRow.key).limit(1)).first()
    return None if found is None else (found[0], found[1])


def _silent() -> Select[str, str]:
    """Keys and kinds of the artifacts whose inputs no run's records tell."""
    no_run_tells: ColumnElement[bool] = or_(RunRow.id.is_(None), RunRow.stage.in_(BRINGING))
    query = select(ArtifactTableRow.key, ArtifactTableRow.kind)
    return query.outerjoin(RunRow, RunRow.id == ArtifactTableRow.run_id).where(no_run_tells)

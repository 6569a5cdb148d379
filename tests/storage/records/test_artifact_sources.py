"""What artifacts were made from stands in the tables: nothing is deleted that another was made from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import pytest
from sqlalchemy import select, update

from storage import keys
from storage.artifacts.run_files import RunFiles
from storage.artifacts.store import ArtifactManifest, ArtifactStore
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import InUse, StoreCorrupt
from storage.records import artifact_removals, artifacts, leases, part_index
from storage.records.claims import Claim
from storage.records.database import Database
from storage.records.keeping_tables import ArtifactSourceRow
from storage.records.removals import Remover
from storage.records.tables import RunRow
from tests.fixtures.publishing import NOBODY, leave, row_of, write_parts

Claimed = Callable[..., Claim]


class Noted:
    """A store that notes whose manifests are read, and cannot read some of them."""

    def __init__(self, store: ZarrStore) -> None:
        self.store = store
        self.read: list[str] = []
        self.damaged: set[str] = set()

    def manifest(self, key: str) -> ArtifactManifest | None:
        self.read.append(key)
        if key in self.damaged:
            raise StoreCorrupt("its bytes are others")
        return self.store.manifest(key)

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)


def made_from(db: Database, store: ZarrStore, key: str, *, run_id: str = NOBODY, told: bool = True) -> str:
    """Records an artifact that was made from another; whether its sources are told with it, as workers do."""
    write_parts(store, "left", "b")
    entry = store.entry(keys.digest("b"))
    assert entry is not None
    inputs = {"scenes": key, "weights": "cd" * 32}
    made = ArtifactManifest(keys.digest([key]), "embeddings", "extract", "embeddings", {}, inputs, (entry,))
    row = row_of(made, store.publish(made, token="left"), run_id)
    with db.write() as session:
        artifacts.insert(session, run_id, row, inputs if told else None)
    return made.key


def sources(db: Database) -> set[tuple[str, str]]:
    with db.read() as session:
        return {(row.artifact_key, row.source) for row in session.scalars(select(ArtifactSourceRow))}


def delete(db: Database, store: ZarrStore | Noted, key: str, **asked: bool) -> None:
    artifact_removals.delete(db, cast("ArtifactStore", store), key, "ada", **asked)


@pytest.fixture
def noted(store: ZarrStore) -> Iterator[Noted]:
    return Noted(store)


@pytest.mark.parametrize("told", [True, False], ids=["told", "read"])
@pytest.mark.parametrize("maker", ["deleted", "pull", "extract"])
def test_an_artifact_that_another_was_made_from_is_not_deleted(
    db: Database, store: ZarrStore, claimed: Claimed, maker: str, told: bool
) -> None:
    """Of what a run here made, the run's own inputs tell: one that read nothing of it has nothing to do with it."""
    key = leave(db, store, "a")
    claim = claimed()
    made = made_from(db, store, key, run_id=claim.run_id, told=told)
    leases.succeed(db, claim.token, {"embeddings": made}, cached=False)
    with db.write() as session:
        session.execute(update(RunRow).values(stage=maker))
    if maker == "deleted":
        Remover(db, store, RunFiles(store.root)).run(claim.run_id)
    if maker == "extract":
        delete(db, store, key)
    else:
        for asked in ({}, {"at_once": True}, {"dry_run": True}):
            with pytest.raises(InUse, match=f"the embeddings artifact {made} was made from the artifact {key}"):
                delete(db, store, key, **asked)


def test_a_deletion_reads_no_manifest_but_that_of_what_goes(db: Database, store: ZarrStore, noted: Noted) -> None:
    key = leave(db, store, "a")
    others = [leave(db, store, name, "b") for name in "cde"]
    part_index.update(db, store)
    for asked in ({"dry_run": True}, {}, {"at_once": True}):
        noted.read.clear()
        delete(db, noted, key, **asked)
        assert set(noted.read) == {key}
    assert [store.verify(other) for other in others] == [[], [], []]


def test_what_was_recorded_before_is_read_once(db: Database, store: ZarrStore, noted: Noted) -> None:
    key, alone = leave(db, store, "a"), leave(db, store, "c")
    made = made_from(db, store, key, told=False)
    part_index.update(db, store)
    with pytest.raises(InUse, match=made):
        delete(db, noted, key)
    assert noted.read == [made]
    with pytest.raises(InUse, match=made):
        delete(db, noted, key)
    assert noted.read == [made]
    assert sources(db) == {(made, key), (made, "cd" * 32), (key, ""), (alone, "")}


def test_a_manifest_that_cannot_be_read_is_tried_again_at_the_next_deletion(
    db: Database, store: ZarrStore, noted: Noted
) -> None:
    key, another = leave(db, store, "a"), leave(db, store, "c")
    made = made_from(db, store, key, told=False)
    part_index.update(db, store)
    noted.damaged.add(made)
    delete(db, noted, another)
    noted.damaged.clear()
    with pytest.raises(InUse, match=made):
        delete(db, noted, key)


def test_sources_go_with_their_artifact(db: Database, store: ZarrStore) -> None:
    key = leave(db, store, "a")
    made = made_from(db, store, key)
    delete(db, store, made, at_once=True)
    assert sources(db) == {(key, "")}
    delete(db, store, key, at_once=True)
    assert sources(db) == set()

"""What the store is said to hold equals a recount of every part, whatever was published, copied and deleted before."""

from __future__ import annotations

import random
import threading
from collections.abc import Collection
from typing import Any, cast

import pytest
from sqlalchemy import select

from storage.artifacts.store import ArtifactManifest, ArtifactStore
from storage.artifacts.zarr_store import ZarrStore
from storage.records import artifacts, part_index, policies, quotas, soundness, usage, withdrawals
from storage.records.database import Database, now
from storage.records.keeping_tables import ArtifactPartRow, ArtifactRoomRow
from storage.records.tables import ArtifactTableRow
from tests.fixtures.publishing import NOBODY, leave, row_of, write_manifest

SCENES = "abcdef"


class Some:
    """A store of which some manifests cannot be read now."""

    def __init__(self, store: ZarrStore, hidden: Collection[str]) -> None:
        self._store, self._hidden = store, hidden

    def manifest(self, key: str) -> ArtifactManifest | None:
        return None if key in self._hidden else self._store.manifest(key)


def recounted(db: Database) -> tuple[dict[str, int], int]:
    """Copied artifact -> bytes of the parts that no older copied one holds; and all bytes, by a walk over the rows."""
    with db.read() as session:
        rows = sorted(session.scalars(select(ArtifactTableRow)), key=lambda row: (row.created_at, row.key))
        parts = list(session.scalars(select(ArtifactPartRow)))
    seen: set[str] = set()
    counted: dict[str, int] = {}
    total = 0
    for row in rows:
        held = {part.part_key: part.num_bytes for part in parts if part.artifact_key == row.key}
        if not held:
            total += row.num_bytes
            continue
        counted[row.key] = sum(size for part, size in held.items() if part not in seen)
        seen |= held.keys()
    return counted, total + sum(counted.values())


def kept(db: Database) -> tuple[dict[str, int], int]:
    """The same, as it is kept."""
    with db.read() as session:
        rows = {row.artifact_key: row.counted_bytes for row in session.scalars(select(ArtifactRoomRow))}
        return rows, part_index.used_bytes(session)


def hide(db: Database, keys: Collection[str]) -> None:
    with db.write() as session:
        withdrawals.hide(session, keys, now(session))


@pytest.mark.parametrize("seed", range(3))
def test_totals_equal_a_recount_after_every_step(db: Database, store: ZarrStore, seed: int) -> None:
    chance = random.Random(seed)
    shared = 0
    for _ in range(40):
        known = [row.key for row in artifacts.list_artifacts(db, limit=500).items]
        match chance.randrange(4):
            case 0 | 1:
                leave(db, store, *chance.sample(SCENES, chance.randrange(4)), run_id=f"r{chance.randrange(9)}")
            case 2:
                hidden = set(chance.sample(known, chance.randrange(len(known) + 1)))
                part_index.update(db, cast("ArtifactStore", Some(store, hidden)))
            case _:
                hide(db, chance.sample(known, min(len(known), chance.randrange(4))))
        assert kept(db) == recounted(db)
        found = usage.report(db, store, store.root)
        for shares in (found.by_kind, found.by_dataset, found.by_owner):
            assert sum(one.num_bytes for one in shares) == found.num_bytes == recounted(db)[1]
        shared += found.shared_bytes > 0
    assert shared > 3, "some parts were shared"
    policies.change(db, "", quota_bytes=10**12)
    with db.read() as session:
        assert quotas.room(session).used_bytes == recounted(db)[1]
    assert soundness.check_rows(db) == []


def test_an_older_artifact_that_is_copied_later_counts_what_it_shares(db: Database, store: ZarrStore) -> None:
    old, young = leave(db, store, "a", "b"), leave(db, store, "b", "c")
    part = artifacts.get(db, old).num_bytes // 2
    part_index.update(db, cast("ArtifactStore", Some(store, {old})))
    assert kept(db) == ({young: 2 * part}, 4 * part)
    part_index.update(db, store)
    assert kept(db) == ({old: 2 * part, young: part}, 3 * part)
    hide(db, [old])
    assert kept(db) == ({young: 2 * part}, 2 * part)


def test_totals_hold_when_many_publish_copy_and_delete_at_once(db: Database, store: ZarrStore) -> None:
    faults: list[Any] = []

    def work(seed: int) -> None:
        chance = random.Random(seed)
        try:
            for _ in range(15):
                part_index.update(db, store)
                hide(db, [row.key for row in artifacts.list_artifacts(db).items if chance.random() < 0.1])
                manifest, digest = write_manifest(store, f"left{seed}", *chance.sample(SCENES, 3))
                with db.write() as session:
                    artifacts.insert(session, NOBODY, row_of(manifest, digest, NOBODY))
        except Exception as error:  # noqa: BLE001
            faults.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert kept(db) == recounted(db)
    part_index.update(db, store)
    assert kept(db) == recounted(db)
    assert any(kept(db)[0].values()), "something is left to count"

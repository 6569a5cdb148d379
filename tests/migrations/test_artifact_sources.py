"""Migration 0016 on a database with artifacts: they stay, and what they were made from is learned from manifests."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from migrations import upgrade
from storage.artifacts.store import ArtifactManifest
from storage.artifacts.zarr_store import ZarrStore
from storage.errors import InUse
from storage.records import artifact_removals
from storage.records.database import Database
from tests.fixtures.migrating import step

AT = "2026-01-31 12:00:00"


def test_what_was_recorded_before_is_known_to_be_made_from_what_its_manifest_says(
    empty_database_url: str, tmp_path: Path
) -> None:
    store = ZarrStore(tmp_path / "store")
    upgrade.upgrade(empty_database_url)
    db = Database.open(empty_database_url)
    step(db, "0015", down=True)
    old, new = "a0" * 16, "b0" * 16
    for key, inputs in ((old, {}), (new, {"scenes": old})):
        store.publish(ArtifactManifest(key, "labels", "x", "x", {}, inputs, ()), token="t0")
        with db.write() as session:
            session.execute(
                text(
                    "INSERT INTO artifacts (key, kind, stage, output, run_id, manifest_digest, num_bytes, num_scenes,"
                    f" num_points, attributes, created_at) VALUES ('{key}', 'labels', 'x', 'x', '', 'm', 0, 0, 0,"
                    f" '{{}}', '{AT}')"
                )
            )

    def artifacts() -> list[tuple[object, ...]]:
        with db.read() as session:
            return [tuple(row) for row in session.execute(text("SELECT * FROM artifacts ORDER BY key"))]

    was = artifacts()
    for _ in range(2):
        step(db, "0016")
        assert artifacts() == was
        with pytest.raises(InUse, match=f"{new} was made from the artifact {old}"):
            artifact_removals.delete(db, store, old, "")
        with db.read() as session:
            found = session.execute(text("SELECT artifact_key, source FROM artifact_sources ORDER BY artifact_key"))
            assert [tuple(row) for row in found] == [(old, ""), (new, old)]
        step(db, "0015", down=True)
        assert artifacts() == was
    db.close()

"""Embeddings that were published before there were features get their rows, whatever their attributes hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import text

from migrations import upgrade
from storage.records import features
from storage.records.database import Database
from tests.fixtures.migrating import step

AT = "2026-01-31 12:00:00"
WHOLE = {
    "dataset": "offices", "encoder": {"name": "mini"}, "encoder_title": "Mini", "weights_digest": "w",
    "dimension": 384, "lifting": {"width": 320}, "splits": {"a": "train", "b": "train", "c": "test"},
}  # fmt: skip


def add(db: Database, key: str, attributes: Any, kind: str = "embeddings", run: str = "r1") -> None:
    columns = "key, kind, stage, output, run_id, manifest_digest, num_bytes, num_scenes, num_points, attributes"
    values = ":key, :kind, 'extract', 'embeddings', :run, 'm', 10, 3, 100, :attributes, :at"
    with db.write() as session:
        given = {"key": key, "kind": kind, "run": run, "attributes": json.dumps(attributes), "at": AT}
        session.execute(text(f"INSERT INTO artifacts ({columns}, created_at) VALUES ({values})"), given)


@pytest.fixture
def old(empty_database_url: str) -> Any:
    """A database at the revision before, with a run of ada's."""
    upgrade.upgrade(empty_database_url)
    db = Database.open(empty_database_url)
    step(db, "0010", down=True)
    with db.write() as session:
        session.execute(
            text(
                "INSERT INTO runs (id, name, stage, spec, spec_digest, state, priority, attempt, created_at, code,"
                " environment, cancel_requested, peak_rss_bytes, owner) VALUES ('r1', 'x', 'extract', '{}', 'd',"
                f" 'succeeded', 0, 1, '{AT}', '{{}}', '{{}}', false, 0, 'ada')"
            )
        )
    yield db
    db.close()


def test_each_gets_a_row_with_what_its_attributes_say(old: Database) -> None:
    add(old, "k1", WHOLE)
    add(old, "k2", WHOLE | {"dataset": "homes"}, run="deleted")
    add(old, "k3", WHOLE, kind="labels")
    step(old, "0011", down=False)
    found = {one.key: one for one in features.list_features(old).items}
    assert set(found) == {"k1", "k2"}
    one = found["k1"]
    assert (one.owner, one.dataset, one.encoder, one.encoder_title) == ("ada", "offices", "mini", "Mini")
    assert (one.weights_digest, one.dimension, one.lifting) == ("w", 384, {"width": 320})
    assert (one.splits, one.dtype, one.num_covered, one.verified_at) == ({"train": 2, "test": 1}, "float16", None, None)
    assert one.created_at.isoformat() == "2026-01-31T12:00:00+00:00"
    assert (found["k2"].owner, found["k2"].dataset) == ("", "homes")
    step(old, "0010", down=True)
    step(old, "0011", down=False)
    assert {one.key: one for one in features.list_features(old).items} == found


@pytest.mark.parametrize("odd", [[], "text", 7, None, {"name": 3}, {"dimension": 2**40, "splits": 3, "encoder": []}])
def test_odd_attributes_stop_no_upgrade(old: Database, odd: Any) -> None:
    add(old, "k1", odd)
    add(old, "k2", dict.fromkeys(WHOLE, odd))
    step(old, "0011", down=False)
    assert {one.key for one in features.list_features(old).items} == {"k1", "k2"}

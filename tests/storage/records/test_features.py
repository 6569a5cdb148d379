"""Feature stores as they are looked for: pages, filters, who reads them, what verifications found."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, event, insert, select, update

from storage.errors import InvalidInput, NotFound
from storage.records import artifacts, features
from storage.records.artifacts import ArtifactRow
from storage.records.database import Database, now
from storage.records.features import FeatureFilter, Finding
from storage.records.tables import ArtifactTableRow, FeatureTableRow, RunInputRow, RunRow

SPLITS = {"room_a": "train", "room_b": "train", "room_c": "test"}


def run_row(run_id: str, owner: str, moment: Any, **fields: Any) -> dict[str, Any]:
    row = {
        "id": run_id, "name": "extract", "stage": "extract", "spec": {"stage": "extract"}, "spec_digest": "d",
        "state": "succeeded", "owner": owner, "created_at": moment, "code": {}, "environment": {},
    }  # fmt: skip
    return row | fields


def add(db: Database, key: str, owner: str = "ada", kind: Any = "embeddings", **attributes: Any) -> None:
    """Records an artifact of a run of its own."""
    about = {"dataset": "offices", "encoder": {"name": "mini"}, "dimension": 384, "splits": SPLITS, **attributes}
    with db.write() as session:
        session.execute(insert(RunRow), [run_row(f"r{key}", owner, now(session))])
        row = ArtifactRow(key, kind, "extract", kind, f"r{key}", "m" * 64, 1000, 3, 200, about)
        artifacts.insert(session, row.run_id, row)


def keys_of(db: Database, **only: Any) -> list[str]:
    return [one.key for one in features.list_features(db, FeatureFilter(**only)).items]


def test_a_store_is_listed_with_what_its_artifact_says(db: Database) -> None:
    add(
        db, "k1", encoder_title="Mini", weights_digest="w" * 32, lifting={"width": 320}, num_covered=150, dtype="int8"
    )  # fmt: skip
    add(db, "k2", kind="labels")
    (found,) = features.list_features(db).items
    assert (found.key, found.run_id, found.owner, found.stage) == ("k1", "rk1", "ada", "extract")
    assert (found.dataset, found.encoder, found.encoder_title, found.dimension) == ("offices", "mini", "Mini", 384)
    assert (found.weights_digest, found.lifting, found.dtype) == ("w" * 32, {"width": 320}, "int8")
    assert (found.num_scenes, found.num_points, found.num_covered, found.num_bytes) == (3, 200, 150, 1000)
    assert found.splits == {"train": 2, "test": 1}
    assert (found.verified_at, found.num_faults, found.fault) == (None, None, None)
    assert features.get(db, "k1") == found
    with pytest.raises(NotFound, match="k2"):
        features.get(db, "k2")


@pytest.mark.parametrize("odd", [[], "text", 7, None, {"name": 3}, {"deep": {}}])
def test_attributes_of_odd_types_are_left_out(db: Database, odd: Any) -> None:
    names = ("dataset", "encoder", "dimension", "splits", "lifting", "num_covered", "dtype")
    add(db, "k1", **dict.fromkeys(names, odd))
    assert features.get(db, "k1").dtype in ("float16", "text")


def test_each_filter_narrows_the_list(db: Database) -> None:
    add(db, "k1")
    add(db, "k2", owner="bob", dataset="homes", encoder={"name": "openseg"}, dimension=768, encoder_title="OpenSeg")
    add(db, "k3", weights_digest="beef" * 8)
    assert keys_of(db, dataset="homes") == ["k2"]
    assert keys_of(db, encoder="openseg") == ["k2"]
    assert keys_of(db, owner="bob") == ["k2"]
    assert keys_of(db, dimension=768) == ["k2"]
    assert keys_of(db, text="OPENs") == ["k2"]
    assert keys_of(db, text="beefbeef") == ["k3"]
    assert set(keys_of(db, dataset="offices", dimension=384)) == {"k1", "k3"}
    assert keys_of(db, dataset="offices", owner="bob") == []
    assert keys_of(db, text="100%") == []


def test_pages_hold_each_store_once_newest_first_also_those_of_one_moment(db: Database) -> None:
    for number in range(7):
        add(db, f"k{number}")
    with db.write() as session:
        moment = now(session)
        for number in range(7):
            at = moment + timedelta(seconds=number // 3)
            session.execute(update(FeatureTableRow).where(FeatureTableRow.key == f"k{number}").values(created_at=at))
    seen: list[str] = []
    cursor = None
    for _ in range(4):
        page = features.list_features(db, cursor=cursor, limit=2)
        seen += [one.key for one in page.items]
        cursor = page.next
    assert cursor is None
    assert seen == ["k6", "k5", "k4", "k3", "k2", "k1", "k0"]
    with pytest.raises(InvalidInput, match="which no page"):
        features.list_features(db, cursor="k3")


def test_a_page_is_one_statement_that_reads_no_attributes(db: Database) -> None:
    for number in range(5):
        add(db, f"k{number}")
    asked: list[str] = []
    event.listen(db.reading, "before_cursor_execute", lambda *given: asked.append(given[2]))
    assert len(features.list_features(db, FeatureFilter(dataset="offices"), limit=3).items) == 3
    selects = [one for one in asked if one.startswith("SELECT features") or "FROM features" in one]
    assert len(selects) == 1
    assert "attributes" not in selects[0]


def test_its_story_names_the_runs_that_read_it(db: Database) -> None:
    add(db, "k1")
    with db.write() as session:
        moment = now(session)
        readers = [run_row(f"s{number:03d}", "bob", moment, name="distill", stage="distill") for number in range(103)]
        session.execute(insert(RunRow), readers)
        session.execute(
            insert(RunInputRow),
            [
                {"run_id": "rk1", "port": "scenes", "artifact_key": "points"},
                *({"run_id": row["id"], "port": "embeddings", "artifact_key": "k1"} for row in readers),
            ],
        )
    story = features.story(db, "k1")
    assert (story.num_users, len(story.users)) == (103, features.MAX_USERS)
    assert (story.users[0].run_id, story.users[0].owner, story.users[0].port) == ("s102", "bob", "embeddings")
    assert (story.spec, story.inputs) == ({"stage": "extract"}, {"scenes": "points"})
    with db.write() as session:
        session.execute(delete(RunInputRow).where(RunInputRow.run_id == "rk1"))
        session.execute(delete(RunRow).where(RunRow.id == "rk1"))
    story = features.story(db, "k1")
    assert (story.spec, story.inputs, story.feature.owner) == (None, {}, "ada"), "it outlives the run that computed it"


def test_a_verification_is_kept_and_counts_points_that_nobody_had(db: Database) -> None:
    add(db, "k1")
    with db.write() as session:
        features.record_finding(session, "k1", "rv1", Finding.of(["chunk 0 was changed", "chunk 1"], None))
    found = features.get(db, "k1")
    assert (found.verified_by, found.num_faults, found.fault) == ("rv1", 2, "chunk 0 was changed")
    assert found.verified_at is not None and found.num_covered is None
    with db.write() as session:
        features.record_finding(session, "k1", "rv2", Finding.of([], 150))
        features.record_finding(session, "gone", "rv2", Finding.of([], 150))
    again = features.get(db, "k1")
    expected = replace(found, verified_at=again.verified_at, verified_by="rv2", num_faults=0, fault=None)
    assert again == replace(expected, num_covered=150)


def test_it_goes_with_its_artifact(db: Database) -> None:
    add(db, "k1")
    with db.write() as session:
        session.execute(delete(ArtifactTableRow).where(ArtifactTableRow.key == "k1"))
    with db.read() as session:
        assert session.scalars(select(FeatureTableRow)).all() == []

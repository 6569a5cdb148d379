"""A collector killed at any moment: the store is as before or complete, and the next collector ends what was begun."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import obstore
import pytest
from sqlalchemy import func, select

from storage import keys
from storage.artifacts.object_store import ObjectStore
from storage.artifacts.store import ArtifactStore
from storage.artifacts.zarr_store import ZarrStore
from storage.records import artifacts, part_index, pins, policies, read_leases, soundness
from storage.records.collecting import Collector
from storage.records.database import Database
from storage.records.keeping_tables import CollectionMarkRow
from storage.records.tables import RemovalRow
from tests.fixtures.dying import Dying
from tests.fixtures.faulty_storage import FAULTS, Faults, faulty_storage
from tests.fixtures.object_storage import ObjectStorage
from tests.fixtures.publishing import leave, write_manifest, write_parts
from tests.fixtures.used_bucket import published

SCENES = "abcdef"


@dataclass(frozen=True, slots=True)
class Filled:
    """What a round put into the store."""

    kept: frozenset[str]
    """Keys of artifacts that must stay."""
    going: frozenset[str]
    """Keys of artifacts that may go."""
    scenes: frozenset[str]
    """Scenes of those that stay."""


def fill(db: Database, store: ArtifactStore, folder: Path, chance: random.Random) -> Filled:
    """Artifacts of overlapping scenes, some pinned or leased, and what dead workers leave of each kind.

    Args:
        db: the database.
        store: an empty store.
        folder: where it stages.
        chance: what decides.
    """
    kept: dict[str, list[str]] = {}
    going: set[str] = set()
    for number in range(5):
        chosen = sorted(chance.sample(SCENES, chance.randint(1, 4)))
        key = keys.digest(chosen)
        if key in kept or key in going:
            continue
        leave(db, store, *chosen)
        how = ("pin", "lease", "none")[number % 3] if number < 3 else chance.choice(("pin", "lease", "none", "none"))
        if how == "pin":
            pins.add(db, key, "", "kept")
        elif how == "lease":
            read_leases.take(db, key, "", 3600)
        if how == "none":
            going.add(key)
        else:
            kept[key] = chosen
    write_manifest(store, "dead", "x", "y")
    write_parts(store, "dead", "z")
    staged = folder / "staging" / "dead" / "w" / "zarr.json"
    staged.parent.mkdir(parents=True)
    staged.write_text("{}")
    if chance.random() < 0.5:
        part_index.update(db, store)
    return Filled(frozenset(kept), frozenset(going), frozenset(scene for some in kept.values() for scene in some))


def check_as_before_or_complete(db: Database, store: ArtifactStore, filled: Filled) -> None:
    """What has its row is whole; what must stay has one; nothing hangs in the air."""
    recorded = artifacts.exists(db, [*filled.kept, *filled.going])
    assert recorded >= filled.kept
    assert {key: faults for key in recorded if (faults := store.verify(key))} == {}
    assert soundness.check_rows(db) == []


def check_complete(db: Database, store: ArtifactStore, filled: Filled) -> None:
    """What may go has gone with every byte of it, and what must stay is whole."""
    check_as_before_or_complete(db, store, filled)
    assert set(store.artifacts()) == filled.kept
    assert set(store.parts()) == {keys.digest(scene) for scene in filled.scenes}
    assert store.staged() == frozenset()
    with db.read() as session:
        assert [session.scalar(select(func.count()).select_from(t)) for t in (RemovalRow, CollectionMarkRow)] == [0, 0]


def storm(db: Database, url: str, folder: Path, rounds: int, seed: int) -> None:
    """Rounds of filling a store, collecting it in a process that is killed, and collecting it to the end."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    policies.change(db, "", grace_s=0)
    dying = Dying("tests.fixtures.dying_collector", chance)
    for number in range(rounds):
        store = ZarrStore(folder / f"store-{number}")
        filled = fill(db, store, store.root, chance)
        for _ in range(chance.randint(1, 2)):
            dying.start(url, store.root)
            check_as_before_or_complete(db, store, filled)
        Collector(db, store, store.root).collect()
        check_complete(db, store, filled)
        for key in filled.kept:
            _forget(db, key)
        Collector(db, store, store.root).collect()
        assert list(store.parts()) == [], f"round {number} of seed {seed}"
    assert dying.steps > 50, "a collector makes more steps than that"
    assert dying.killed > rounds // 4, "too few collectors were killed"


def bucket_storm(db: Database, url: str, folder: Path, rounds: int, seed: int) -> None:
    """As `storm`, of a store in a bucket, where requests fail at times."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    policies.change(db, "", grace_s=0)
    dying, faults = Dying("tests.fixtures.dying_collector", chance), Faults(random.Random(seed + 1))
    with faulty_storage(faults) as storage:
        for number in range(rounds + 1):  # the first only counts the steps
            here = folder / f"here-{number}"
            a_round_in_a_bucket(db, url, storage, faults, dying, here, chance)
            shutil.rmtree(here)
    said = f"{dying.killed} killed, {dying.failed} failed; {faults.met}"
    print(f"{dying.begun} collectors of {dying.steps} steps: {said}")
    assert dying.steps > 50, "a collector makes more steps than that"
    assert dying.killed > rounds // 4, "too few collectors were killed"
    assert rounds < 100 or (dying.failed and all(faults.met[fault] for fault in FAULTS)), "too few requests failed"


def a_round_in_a_bucket(
    db: Database, url: str, storage: ObjectStorage, faults: Faults, dying: Dying, here: Path, chance: random.Random
) -> None:
    """Fills a bucket, collects it in a process that is killed, and to the end."""
    bucket = storage.bucket()
    name, store = str(bucket.config["bucket"]), ObjectStore(bucket, here)
    filled = fill(db, store, here, chance)
    for path in (f"staging/dead/{keys.digest('w')}", f"parts/{keys.digest('w')[:2]}/{keys.digest('w')}/zarr.json"):
        obstore.put(bucket, path, b"{}")
    for attempt in range(chance.randint(1, 2)):
        faults.share = chance.choice((0, 0.02, 0.1)) if dying.begun else 0
        who = f"{name}-{attempt}"
        dying.start(url, here, storage.endpoint, name, who)
        faults.share = 0
        faults.gone(who)
        check_as_before_or_complete(db, store, filled)
    Collector(db, store, here).collect()
    check_complete(db, store, filled)
    now = storage.objects(name)
    assert sorted(now) == sorted(published(now))
    for key in filled.kept:
        _forget(db, key)
    Collector(db, store, here).collect()
    assert storage.objects(name) == {}


def _forget(db: Database, key: str) -> None:
    """Lets go of an artifact."""
    for pin in pins.list_pins(db):
        if pin.artifact_key == key:
            pins.remove(db, key, "")
    for lease in read_leases.list_leases(db):
        if lease.artifact_key == key:
            read_leases.release(db, lease.id)


@pytest.mark.slow
def test_a_collector_that_is_killed_leaves_the_store_as_before_or_complete(
    db: Database, database_url: str, tmp_path: Path
) -> None:
    storm(db, database_url, tmp_path, 5, random.SystemRandom().randrange(2**32))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_collectors_that_are_killed_200_times_lose_nothing(db: Database, database_url: str, tmp_path: Path) -> None:
    storm(db, database_url, tmp_path, 200, random.SystemRandom().randrange(2**32))


@pytest.mark.slow
def test_a_collector_of_a_bucket_that_is_killed_leaves_it_as_before_or_complete(
    db: Database, database_url: str, tmp_path: Path
) -> None:
    bucket_storm(db, database_url, tmp_path, 5, random.SystemRandom().randrange(2**32))


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_collectors_of_a_bucket_that_are_killed_200_times_lose_nothing(
    db: Database, database_url: str, tmp_path: Path
) -> None:
    bucket_storm(db, database_url, tmp_path, 200, random.SystemRandom().randrange(2**32))

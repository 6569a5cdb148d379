"""A pull killed at any moment: the store is as before or complete, and the next attempt goes on where it was."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from storage import keys
from storage.artifacts.zarr_store import ZarrStore
from tests.fixtures.dying import Dying
from tests.fixtures.dying_puller import pull, scratch
from tests.fixtures.lab_artifact import KEY, SCENES, files
from tests.fixtures.lab_source import LabSource, lab_source
from tests.fixtures.publishing import write_manifest
from tests.fixtures.used_store import LIVING, Before, before, check_nothing_half, check_swept

BREAKING = "embeddings/c/1/0"
"""The end of paths that answers break off at, at times."""


def fill(store: ZarrStore, there: ZarrStore, chance: random.Random) -> Before:
    """Something published before, and one part of what is to be pulled."""
    write_manifest(store, "old", "x", "y")
    key = keys.digest([KEY, chance.choice(SCENES)])
    shutil.copytree(there.part_path(key), store.part_path(key))
    return before(store)


def fetched(store: ZarrStore, there: ZarrStore) -> dict[str, int]:
    """Path at the source of each file of a part that has come, some of it or all -> bytes that are here."""
    come = {name: len(content) for name, content in files(store.root).items() if name.startswith("parts/")}
    for path in (scratch(store) / "parts").rglob("*"):
        part, _, name = path.relative_to(scratch(store) / "parts").as_posix().partition("/")
        if path.is_file() and name != "manifest.json":
            come[f"parts/{part[:2]}/{part}/{name.removesuffix('.partial')}"] = path.stat().st_size
    return {name: num_bytes for name, num_bytes in come.items() if num_bytes and (there.root / name).exists()}


def check_asked(source: LabSource, come: dict[str, int]) -> None:
    """What was here was not asked for again, and of what was here in part the rest alone."""
    first = {path.lstrip("/"): given for path, given in reversed(source.asked)}
    for name, num_bytes in come.items():
        if num_bytes < (source.root / name).stat().st_size:
            assert first[name] == f"bytes={num_bytes}-", name
        else:
            assert name not in first


def check_bytes(store: ZarrStore, there: ZarrStore) -> None:
    """Every file of the source lies here, byte for byte."""
    assert files(there.root).items() <= files(store.root).items()


def storm(there: ZarrStore, source: LabSource, folder: Path, rounds: int, seed: int) -> None:
    """Rounds of pulling into a used store by processes that are killed, then by one that is not."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    dying = Dying("tests.fixtures.dying_puller", chance)
    resumed = 0
    for number in range(rounds + 1):  # the first only counts the steps
        store = ZarrStore(folder / f"here-{number}")
        was = fill(store, there, chance)
        connections = chance.randint(1, 4)
        deaths = 0
        for _ in range(chance.randint(1, 2)):
            source.cut = {BREAKING: chance.randint(0, 2)}
            deaths += dying.start(store.root, source.url, connections)
            check_nothing_half(store, was, [KEY])
            if store.manifest(KEY) is not None:
                check_bytes(store, there)
            assert len(store.staged() - {LIVING}) <= deaths, "a staging folder for each that died, at most"
        if chance.random() < 0.5:
            check_swept(store)
        come = fetched(store, there)
        resumed += bool(come.keys() - was.files.keys())
        with lab_source(there.root) as again:  # a server that hears nothing late of the dead
            pull(store, again.url, connections)
        check_asked(again, come)
        check_nothing_half(store, was, [KEY])
        check_bytes(store, there)
        assert not (scratch(store) / "parts").exists()
        check_swept(store)
        shutil.rmtree(store.root)
    assert dying.steps > 50, "a pull makes more steps than that"
    assert dying.killed > dying.begun // 4, "too few pulls were killed"
    assert resumed > rounds // 4, "too little had come before a death"


@pytest.mark.slow
def test_a_pull_that_is_killed_leaves_the_store_as_before_or_complete(
    there: ZarrStore, source: LabSource, tmp_path: Path
) -> None:
    storm(there, source, tmp_path, 5, random.SystemRandom().randrange(2**32))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_pulls_that_are_killed_200_times_publish_nothing_half(
    there: ZarrStore, source: LabSource, tmp_path: Path
) -> None:
    storm(there, source, tmp_path, 200, random.SystemRandom().randrange(2**32))

"""Records to test with: a dataset, a host, and runs in the states that a test asks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from storage.artifacts.zarr_store import ZarrStore
from storage.records import claims, datasets, hosts, runs
from storage.records.artifacts import ArtifactRow
from storage.records.claims import Claim
from storage.records.collecting import Collector
from storage.records.database import Database
from storage.records.datasets import Dataset
from storage.records.runs import Run
from storage.records.submissions import Submission, Wishes
from storage.specs import stages
from storage.specs.plans import InputRef, PlannedRun
from tests.fixtures.moving_runs import make_ready


@pytest.fixture
def store(tmp_path: Path) -> ZarrStore:
    """A store on a disk of its own."""
    return ZarrStore(tmp_path / "store")


@pytest.fixture
def collector(db: Database, store: ZarrStore) -> Collector:
    """The collector of that store."""
    return Collector(db, store, store.root)


@pytest.fixture
def host(db: Database) -> str:
    """The id of a worker host without GPUs, with slots enough for every run of a test."""
    return hosts.register(db, "here", 1, 64, [])


@pytest.fixture
def offices(db: Database) -> str:
    """The name of a registered dataset."""
    return datasets.add(db, Dataset("offices", "synthrooms", "/rooms", "s3dis13")).name


@pytest.fixture
def new_run(db: Database, offices: str) -> Callable[..., Run]:
    """Makes a queued run: `ingest` by default, or a spec with inputs."""

    def make(spec: stages.StageSpec | None = None, inputs: dict[str, InputRef] | None = None, priority: int = 0) -> Run:
        chosen = spec or stages.Ingest(label_set="s3dis13")
        planned = PlannedRun(chosen.stage, chosen, inputs or {}, offices if chosen.needs_dataset else None)
        wishes = {planned.name: Wishes(priority=priority)}
        return runs.create(db, [planned], Submission(wishes=wishes))[0]

    return make


@pytest.fixture
def ready_run(db: Database, new_run: Callable[..., Run]) -> Callable[..., Run]:
    """Makes a run that a host may claim."""

    def make(spec: stages.StageSpec | None = None, priority: int = 0) -> Run:
        run = new_run(spec, priority=priority)
        make_ready(db, run.id)
        return runs.get(db, run.id)

    return make


@pytest.fixture
def claimed(db: Database, host: str, ready_run: Callable[..., Run]) -> Callable[..., Claim]:
    """Makes a run that a worker holds, for an hour unless told otherwise."""

    def make(spec: stages.StageSpec | None = None, lease_s: float = 3600.0) -> Claim:
        run = ready_run(spec, priority=1000)
        claim = claims.claim(db, host, lease_s)
        assert claim is not None
        assert claim.run_id == run.id
        return claim

    return make


@pytest.fixture
def artifact() -> Callable[..., ArtifactRow]:
    """Makes an artifact's row."""

    def make(key: str, kind: str = "scenes", run_id: str = "") -> ArtifactRow:
        return ArtifactRow(
            key=key,
            kind=kind,  # type: ignore[arg-type]
            stage="ingest",
            output="scenes",
            run_id=run_id,
            manifest_digest="ab" * 32,
            num_bytes=10,
            num_scenes=2,
            num_points=3_000_000_000,
            attributes={"dimension": 4},
        )

    return make

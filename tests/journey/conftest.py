"""A service of the tests' own, with a worker host, and the smallest experiment that runs every stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from service import schemas
from service.cli.local_service import LocalService
from service.client import Client

TINY_ROOMS = {"train_rooms": 2, "test_rooms": 1, "points": 3000, "views": {"count": 3, "width": 160, "height": 120}}
TINY = {
    "extract.lifting": {"width": 160, "height": 120, "depth_tolerance": 0.25, "border_px": 4},
    "specialize.optimiser.epochs": 2,
    "specialize.points_per_scene": 500,
    "distill.training.optimiser.epochs": 1,
    "distill.training.crop_voxels": 1500,
    "distill.voxel_m": 0.1,
}
FINAL = frozenset({"succeeded", "cached", "failed", "cancelled"})
DEADLINE_S = 240.0


def wait_for(fetch: Callable[[], Sequence[schemas.Run]], *, until: Callable[[schemas.Run], bool]) -> list[schemas.Run]:
    """The runs, once each satisfies the condition; fails when that takes too long."""
    end = time.monotonic() + DEADLINE_S
    while True:
        runs = list(fetch())
        if runs and all(until(run) for run in runs):
            return runs
        if time.monotonic() > end:
            states = [(run.name, run.state, run.reason) for run in runs]
            raise AssertionError(f"not there after {DEADLINE_S:.0f} s: {states}")
        time.sleep(0.1)


def ended(client: Client, experiment_id: str) -> dict[str, schemas.Run]:
    """Name -> run of an experiment, once all have ended."""
    runs = wait_for(lambda: list(client.runs(experiment=experiment_id)), until=lambda run: run.state in FINAL)
    return {run.name: run for run in runs}


def submit(client: Client, dataset: str, **changes: object) -> schemas.Experiment:
    """Submits the recipe at its smallest; `changes` are more overrides (`__` for a dot)."""
    overrides = TINY | {name.replace("__", "."): value for name, value in changes.items()}
    return client.submit(
        schemas.ExperimentRequest(
            recipe="3dss-vlg", preset="demo", dataset=dataset, overrides=overrides, seed=0, name="tiny"
        )
    )


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the journey's service keeps everything."""
    return tmp_path_factory.mktemp("journey") / "home"


@pytest.fixture(scope="session")
def captures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An allowed root for datasets that tests write."""
    return tmp_path_factory.mktemp("captures")


@pytest.fixture(scope="session")
def client(home: Path, captures: Path) -> Iterator[Client]:
    """A client of a running service on SQLite, with a worker host."""
    environment = pytest.MonkeyPatch()
    environment.setenv("VLGLAB_THREADS", "1")
    environment.setenv("VLGLAB_LEASE_S", "8")
    with LocalService(home, [captures]) as service, service.client() as opened:
        opened.add_dataset(
            schemas.DatasetRequest(name="tiny", kind="synthrooms", path=None, label_set="s3dis13", options=TINY_ROOMS)
        )
        yield opened
    environment.undo()

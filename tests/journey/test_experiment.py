"""HTTP in, mIoU out: the recipe at its smallest, through the service, the host and every stage."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image

from service import schemas
from service.client import Client
from tests.journey.conftest import TINY, ended, submit, wait_for

EVERY = (
    "ingest", "embed_labels", "extract", "pseudo_label", "label_text", "specialize", "distill", "predict", "evaluate",
    "report",
)  # fmt: skip


@pytest.fixture(scope="module")
def first(client: Client) -> dict[str, schemas.Run]:
    """The runs of the first experiment, all ended."""
    return ended(client, submit(client, "tiny").id)


def test_every_stage_succeeds(first: dict[str, schemas.Run]) -> None:
    assert {name: (run.state, run.reason) for name, run in first.items()} == dict.fromkeys(EVERY, ("succeeded", None))


def test_a_run_records_what_made_it(first: dict[str, schemas.Run]) -> None:
    run = first["distill"]
    assert run.seed == 0 and run.attempt == 1 and run.device == "cpu" and run.host
    assert run.environment["packages"]["torch"].startswith("2.") and run.environment["python"]
    assert "version" in run.code and "commit" in run.code
    assert set(run.inputs) == {"scenes", "embeddings", "adapter", "text_embeddings"}
    assert run.inputs["adapter"].artifact_key == first["specialize"].outputs["adapter"]
    assert run.peak_rss_bytes > 50e6
    assert run.progress is not None and run.progress.done == run.progress.total


def test_scores_come_back_over_http(client: Client, first: dict[str, schemas.Run]) -> None:
    rows = client.run_evaluations(first["evaluate"].id)
    assert {(row.prediction, row.subset) for row in rows} == {
        (name, subset) for name in ("2d_text", "2d_filtered", "ours") for subset in ("covered", "all")
    }
    by_name = {(row.prediction, row.subset): row for row in rows}
    counts = {row.subset: row.num_points for row in rows}
    assert counts["covered"] < counts["all"] == 3000
    for row in rows:
        assert row.miou is not None and 0 < row.miou < 1
        assert [one.name for one in row.classes][:3] == ["ceiling", "floor", "wall"]
        known = [one.iou for one in row.classes if one.iou is not None]
        assert row.miou == pytest.approx(sum(known) / len(known))
    assert by_name["2d_filtered", "covered"].miou >= by_name["2d_text", "covered"].miou  # type: ignore[operator]


def test_the_loss_has_a_history(client: Client, first: dict[str, schemas.Run]) -> None:
    points = client.metrics(first["specialize"].id, "loss")
    assert [point.step for point in points] == list(range(1, len(points) + 1)) and len(points) >= 2
    assert all(np.isfinite(point.value) for point in points)


def test_the_picture_is_served_and_the_store_opens_with_plain_zarr(
    client: Client, first: dict[str, schemas.Run], home: Path, tmp_path: Path
) -> None:
    files = {file.name: file for file in client.run_files(first["report"].id)}
    picture = client.download(files["segmentation.png"].artifact_key, "segmentation.png", tmp_path / "picture.png")
    with Image.open(picture) as image:
        assert image.width > image.height
    manifest = client.artifact(first["extract"].outputs["embeddings"])
    part = manifest.parts[0]
    group = zarr.open_group(home / "store" / "parts" / part.key[:2] / part.key, mode="r")
    embeddings = group["embeddings"]
    assert isinstance(embeddings, zarr.Array)
    assert embeddings.dtype == np.float16 and embeddings.shape[1] == manifest.attributes["dimension"]
    assert np.isfinite(np.asarray(embeddings)).all()


def test_the_same_experiment_again_is_cached_and_changes_no_byte(
    client: Client, first: dict[str, schemas.Run], home: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (home / "store" / "parts").rglob("*") if path.is_file()}
    again = ended(client, submit(client, "tiny").id)
    assert {name: run.state for name, run in again.items()} == dict.fromkeys(first, "cached")
    assert {name: run.outputs for name, run in again.items()} == {name: run.outputs for name, run in first.items()}
    assert len(client.run_evaluations(again["evaluate"].id)) == 6
    after = {path: path.stat().st_mtime_ns for path in (home / "store" / "parts").rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.slow
def test_one_changed_field_computes_only_what_depends_on_it(client: Client, first: dict[str, schemas.Run]) -> None:
    again = ended(client, submit(client, "tiny", specialize__adapter__alpha=0.5).id)
    states = {name: run.state for name, run in again.items()}
    redone = {"specialize", "distill", "predict", "evaluate", "report"}
    assert {name for name, state in states.items() if state == "succeeded"} == redone
    assert {name for name, state in states.items() if state == "cached"} == set(first) - redone


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(client: Client, first: dict[str, schemas.Run]) -> None:
    experiment = submit(client, "tiny", distill__training__repeats=20, distill__seed=5)

    def distilling() -> list[schemas.Run]:
        return [run for run in client.runs(experiment=experiment.id) if run.name == "distill"]

    wait_for(distilling, until=lambda run: run.progress is not None and run.progress.done > 1)
    started = [event for event in client.events(distilling()[0].id) if "process" in event.message]
    os.kill(int(started[-1].message.rsplit(" ", 1)[1]), signal.SIGKILL)
    runs = ended(client, experiment.id)
    assert runs["distill"].state == "succeeded", runs["distill"].reason
    assert runs["distill"].attempt == 2
    assert runs["evaluate"].state == "succeeded", runs["evaluate"].reason


def test_a_running_run_is_cancelled_and_what_needs_it_with_it(client: Client, first: dict[str, schemas.Run]) -> None:
    experiment = submit(client, "tiny", distill__training__repeats=400, distill__seed=6)

    def distilling() -> list[schemas.Run]:
        return [run for run in client.runs(experiment=experiment.id) if run.name == "distill"]

    (run,) = wait_for(distilling, until=lambda run: run.state == "running")
    client.cancel_run(run.id)
    asked = time.monotonic()
    runs = ended(client, experiment.id)
    assert runs["distill"].state == "cancelled"
    assert time.monotonic() - asked < 60
    assert {runs[name].state for name in ("predict", "evaluate", "report")} == {"cancelled"}
    assert runs["predict"].reason_code == "input_failed"
    assert runs["specialize"].state == "cached"


def test_a_negative_learning_rate_is_refused_before_anything_runs(client: Client) -> None:
    before = len(list(client.experiments()))
    with pytest.raises(ValueError, match=r"learning_rate.*greater than 0"):
        submit(client, "tiny", specialize__optimiser__learning_rate=-1.0)
    assert len(list(client.experiments())) == before
    assert "specialize.optimiser.epochs" in TINY

"""`make bench-method`: the demo's experiment with several training seeds, its rows, and the bounds around them.

Prints, on the held-out SynthRooms offices, mIoU and mAcc (mean and deviation over the seeds) of the 2D rows, of the 3D
network, and of the same network trained on the ground truth; then two classifiers that see no geometry: colour alone,
and colour with height above the floor (scikit-learn, trained on the ground truth). Everything but those two goes over
HTTP to a service of its own; equal parts are computed once, and with VLGLAB_THREADS=1 two trainings run side by side.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.ensemble import HistGradientBoostingClassifier

from service import schemas
from service.cli.local_service import LocalService
from service.client import Client
from storage.artifacts.zarr_store import ZarrStore
from storage.labels import label_set
from workers import scoring

SEEDS = (0, 1, 2)
FINAL = frozenset({"succeeded", "cached", "failed", "cancelled"})
Row = list[float]
"""One value a seed."""


def main() -> int:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=None, help="keep everything there; default: a temporary folder")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = (given.home or Path(temporary)).resolve()
        with LocalService(home) as service, service.client() as client:
            rows, keys = measure(client, given.seeds, service)
        rows |= bounds_without_geometry(home, *keys)
    show(rows, given.seeds)
    return 0


def measure(
    client: Client, seeds: Sequence[int], service: LocalService
) -> tuple[dict[tuple[str, str, str], Row], tuple[str, str]]:
    """The scores of every row, and the keys of the `scenes` and `ground_truth` artifacts.

    Returns:
        (prediction, subset, measure) -> a value a seed, in percent.
    """
    names = {dataset.name for dataset in client.datasets()}
    if "offices" not in names:
        client.add_dataset(
            schemas.DatasetRequest(name="offices", kind="synthrooms", path=None, label_set="s3dis13", options={})
        )
    rows: dict[tuple[str, str, str], Row] = {}
    keys = ("", "")
    began = time.monotonic()
    submitted = [
        (recipe, seed, client.submit(
            schemas.ExperimentRequest(
                recipe=recipe, preset="demo", dataset="offices", seed=seed, name=f"{recipe} {seed}", overrides={}
            )
        ))
        for recipe in ("3dss-vlg", "supervised")
        for seed in seeds
    ]  # fmt: skip
    for recipe, seed, experiment in submitted:
        runs = _wait(client, experiment.id, service)
        print(f"{recipe}, seed {seed}: done after {time.monotonic() - began:.0f} s", flush=True)
        ingest = next(run for run in runs if run.name == "ingest")
        keys = (ingest.outputs["scenes"], ingest.outputs["ground_truth"])
        for row in client.experiment_evaluations(experiment.id):
            assert row.miou is not None and row.macc is not None
            rows.setdefault((row.prediction, row.subset, "mIoU"), []).append(100 * row.miou)
            rows.setdefault((row.prediction, row.subset, "mAcc"), []).append(100 * row.macc)
    return rows, keys


def _wait(client: Client, experiment_id: str, service: LocalService) -> Sequence[schemas.Run]:
    """The runs of an experiment, once all have ended well."""
    while True:
        service.check()
        runs = list(client.runs(experiment=experiment_id))
        bad = [run for run in runs if run.state in ("failed", "cancelled")]
        if bad:
            raise SystemExit("\n".join(f"{run.name} {run.state}: {run.reason}" for run in bad))
        if all(run.state in FINAL for run in runs):
            return runs
        time.sleep(0.5)


def bounds_without_geometry(home: Path, scenes_key: str, truth_key: str) -> dict[tuple[str, str, str], Row]:
    """mIoU on all points of classifiers that see colour, or colour and height, of a point and nothing around it."""
    store = ZarrStore(home / "store")
    scenes, truth = store.manifest(scenes_key), store.manifest(truth_key)
    assert scenes is not None and truth is not None
    classes = len(label_set(scenes.attributes["label_set"]).classes)
    data: dict[str, list[tuple[NDArray[np.float32], NDArray[np.int16]]]] = {"train": [], "test": []}
    for points_entry in scenes.parts:
        entry = next(part for part in truth.parts if part.scene == points_entry.scene)
        group = zarr.open_group(home / "store" / "parts" / points_entry.key[:2] / points_entry.key, mode="r")
        points, colours = np.asarray(group["points"]), np.asarray(group["colours"])
        height = points[:, 2:] - np.percentile(points[:, 2], 0.5)
        part = store.part(entry.key)
        assert part is not None
        features = np.concatenate([colours.astype(np.float32) / 255, height], axis=1)
        data[scenes.attributes["splits"][points_entry.scene]].append((features, part.array("labels")))
    train = np.concatenate([f for f, _ in data["train"]]), np.concatenate([y for _, y in data["train"]])
    rows = {}
    for name, columns in (("colour alone", slice(0, 3)), ("colour and height", slice(0, 4))):
        model = HistGradientBoostingClassifier(max_iter=100, random_state=0)
        model.fit(train[0][:, columns], train[1])
        matrix = np.zeros((classes, classes + 1), np.int64)
        for features, labels in data["test"]:
            matrix += scoring.confusion(labels, model.predict(features[:, columns]).astype(np.int16), classes)
        rows[name, "all", "mIoU"] = [100 * scoring.scores(matrix).miou]
    return rows


def show(rows: dict[tuple[str, str, str], Row], seeds: Sequence[int]) -> None:
    """Prints the table, and each of the issue's bars with what was reached."""
    table = Table(title=f"Held-out SynthRooms offices, seeds {', '.join(map(str, seeds))}: mean ± deviation, percent")
    for column in ("row", "points", "mIoU", "mAcc", "mIoU by seed"):
        table.add_column(column, justify="left" if column in ("row", "points") else "right")
    for (name, subset, what), values in rows.items():
        if what == "mIoU":
            macc = rows.get((name, subset, "mAcc"))
            by_seed = " ".join(f"{v:.1f}" for v in values)
            table.add_row(name, subset, _spread(values), _spread(macc) if macc else "", by_seed)
    Console(width=110).print(table)
    flat, ours = rows["2d_text", "covered", "mIoU"], rows["ours", "covered", "mIoU"]
    bound = float(np.mean(rows["supervised", "all", "mIoU"]))
    gain = [o - f for o, f in zip(ours, flat, strict=True)]
    mean_gain = float(np.mean(gain))
    above = float(np.mean(rows["supervised", "covered", "mIoU"]) - np.mean(ours))
    colour, height = rows["colour alone", "all", "mIoU"][0], rows["colour and height", "all", "mIoU"][0]
    for text, reached in (
        (f"2D projection, text alone, between 25 and 55: {np.mean(flat):.1f}", 25 <= np.mean(flat) <= 55),
        (f"ours at least 5 above it in the mean: {mean_gain:+.1f}", mean_gain >= 5),
        (f"ours above it with every seed: {', '.join(f'{g:+.1f}' for g in gain)}", min(gain) > 0),
        (f"supervised at least 10 above ours: {above:+.1f}", above >= 10),
        (f"colour and height at least 15 below supervised: {height - bound:+.1f}", bound - height >= 15),
        (f"colour alone under 25: {colour:.1f}", colour < 25),
    ):
        print(f"{'reached' if reached else 'MISSED '}  {text}")


def _spread(values: Row) -> str:
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else f"{values[0]:.1f}"


if __name__ == "__main__":
    raise SystemExit(main())

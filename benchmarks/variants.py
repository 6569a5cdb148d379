"""What becomes of a recipe's scores when fields of it change: variants side by side, without a service.

    python -m benchmarks.variants --store FOLDER [--device cuda:0] [--jobs 4] [--preset demo] [--dataset offices]
        [--within 300] FILE

Each line of FILE is a variant: a name, a recipe and changes, such as `longer 3dss-vlg distill.training.repeats=40`.
Runs the same stages as the service, over one store: equal parts are computed once, and what is there already is not
computed again. Variants share the device, several at a time, each in a process of its own; none is begun after
`--within` seconds. Prints the seconds of the training, and mIoU / mAcc of every prediction on covered points and all.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from service.cli.console import assignments
from storage import keys
from storage.artifacts.store import ArtifactManifest
from storage.artifacts.zarr_store import ZarrStore
from storage.labels import LabelSetName
from storage.specs.plans import PlannedRun
from storage.specs.presets import Request
from storage.specs.recipes import build
from workers.context import Machine, RawDataset
from workers.trial import run_stage

SHARED = ("ingest", "embed_labels", "extract", "pseudo_label", "label_text")
"""Runs that most variants have in common: computed before any variant begins."""
LABEL_SETS: Mapping[str, LabelSetName] = {"offices": "s3dis13", "homes": "scannet20"}


def main() -> None:
    """Runs the variants of a file, or, as a child of itself, one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", metavar="FILE", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2, help="a job")
    parser.add_argument("--preset", default="demo")
    parser.add_argument("--dataset", default="offices", choices=sorted(LABEL_SETS))
    parser.add_argument("--within", type=float, default=float("inf"), metavar="SECONDS")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        print(run(given, given.one))
        return
    began = time.monotonic()
    lines = [line for line in given.variants.read_text().splitlines() if line.strip() and not line.startswith("#")]
    print(f"shared runs: {shared(given, lines[0]):.0f} s", flush=True)

    def child(line: str) -> None:
        if time.monotonic() - began > given.within:
            print(f"{line}: not begun", flush=True)
            return
        command = [sys.executable, "-m", "benchmarks.variants", *sys.argv[1:], "--one", line]
        threads = {"OMP_NUM_THREADS": str(given.threads), "OPENBLAS_NUM_THREADS": str(given.threads)}
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ | threads)
        print(done.stdout.strip() or f"{line}: {done.stderr[-600:]}", flush=True)

    with ThreadPoolExecutor(given.jobs) as pool:
        list(pool.map(child, lines))


def planned(given: argparse.Namespace, line: str) -> tuple[str, tuple[PlannedRun, ...]]:
    """A variant's name and its runs, without those that make pictures."""
    name, recipe, *changes = line.split()
    overrides = assignments(changes, "change")
    seed = overrides.pop("seed", 0)
    assert isinstance(seed, int)
    request = Request(given.dataset, LABEL_SETS[given.dataset], ("train", "test"), given.preset, seed)
    return name, tuple(run for run in build(recipe, request, overrides) if run.spec.stage != "report")


def shared(given: argparse.Namespace, line: str) -> float:
    """Computes the first variant's shared runs; the seconds that took."""
    began = time.monotonic()
    lab = Lab(given, threads=os.cpu_count() or 1)
    for planned_run in planned(given, line)[1]:
        if planned_run.name in SHARED:
            lab.run(planned_run)
    return time.monotonic() - began


def run(given: argparse.Namespace, line: str) -> str:
    """A variant's line of the table."""
    lab = Lab(given, given.threads)
    name, runs = planned(given, line)
    seconds = 0.0
    for planned_run in runs:
        began = time.monotonic()
        lab.run(planned_run)
        if planned_run.spec.stage in ("distill", "supervise"):
            seconds = time.monotonic() - began
    rows = lab.made["evaluate", "evaluation"].attributes["scores"]
    scores = ", ".join(
        f"{row['prediction']} {row['subset']} {100 * row['miou']:.1f}/{100 * row['macc']:.1f}" for row in rows
    )
    return f"{name:28s} {seconds:6.0f} s  {scores}"


class Lab:
    """Runs stages over one store, and remembers what they made; what the store has is not made again."""

    def __init__(self, given: argparse.Namespace, threads: int) -> None:
        self.store = ZarrStore(given.store)
        self.made: dict[tuple[str, str], ArtifactManifest] = {}
        folder = given.store.parent
        self.dataset = RawDataset(given.dataset, "synthrooms", folder / "rooms", {"domain": given.dataset})
        scratch = folder / "scratch" / keys.new_token()
        scratch.mkdir(parents=True)
        self.machine = Machine(given.device, threads, scratch, folder / "cache")

    def run(self, planned_run: PlannedRun) -> None:
        """Runs one."""
        spec = planned_run.spec
        trial = run_stage(
            spec,
            self.store,
            {name: self.made[ref.run, ref.output] for name, ref in planned_run.inputs.items()},
            dataset=self.dataset if planned_run.dataset else None,
            machine=self.machine if spec.uses_gpu else replace(self.machine, device="cpu"),
            reuse=True,
        )
        self.made |= {(planned_run.name, name): manifest for name, manifest in trial.artifacts.items()}


if __name__ == "__main__":
    main()

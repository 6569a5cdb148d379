"""Whole recipes from raw rooms, with the ground truth as it is and garbled: only scores and pictures may differ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from storage.artifacts.memory_store import MemoryStore
from storage.artifacts.store import ArtifactManifest
from storage.specs import presets, recipes
from storage.specs.plans import OutputRef, PlannedRun
from tests.journey.conftest import TINY, TINY_ROOMS
from workers import trial
from workers.context import RawDataset

SMALL = {**TINY, "distill.training.repeats": 1}
SEES_TRUTH = frozenset({"evaluate", "report"})
"""Stages of these recipes that may."""


def garbled(store: MemoryStore, truth: ArtifactManifest) -> ArtifactManifest:
    """Ground truth of the same rooms with labels drawn by chance, under a key of its own."""
    lines = []
    for entry in truth.parts:
        part = store.part(entry.key)
        assert part is not None
        labels = part.array("labels")
        with store.write_part(entry.key[::-1], kind="ground_truth", scene=entry.scene, token="t0") as writer:
            writer.write("labels", np.random.default_rng(5).integers(0, 13, labels.shape).astype(labels.dtype))
            for name in set(part.names()) - {"labels"}:
                writer.write(name, part.array(name))
            writer.set(**part.attributes)
        line = store.entry(entry.key[::-1])
        assert line is not None
        lines.append(line)
    made = replace(truth, key=truth.key[::-1], parts=tuple(lines))
    store.publish(made, token="t0")
    return made


def run(
    plan: tuple[PlannedRun, ...], dataset: RawDataset, *, garble: bool
) -> tuple[MemoryStore, dict[str, ArtifactManifest]]:
    """Runs a recipe, all of it; `run.output` -> artifact. The ground truth is garbled once the rooms are ingested."""
    store, have = MemoryStore(), dict[str, ArtifactManifest]()
    for planned in plan:
        inputs = {
            port: have[f"{ref.run}.{ref.output}"] for port, ref in planned.inputs.items() if isinstance(ref, OutputRef)
        }
        assert len(inputs) == len(planned.inputs)
        done = trial.run_stage(planned.spec, store, inputs, dataset=dataset if planned.dataset else None)
        have |= {f"{planned.name}.{output}": manifest for output, manifest in done.artifacts.items()}
        if garble and planned.spec.stage == "ingest":
            have["ingest.ground_truth"] = garbled(store, have["ingest.ground_truth"])
    return store, have


def content(store: MemoryStore, manifest: ArtifactManifest) -> dict[str, bytes]:
    """Every array and plain file of an artifact, by scene and name."""
    found = {}
    for entry in manifest.parts:
        part = store.part(entry.key)
        assert part is not None
        found |= {f"{entry.scene}/{name}": part.array(name).tobytes() for name in part.names()}
        found |= {f"{entry.scene}/files/{name}": part.file(name).read_bytes() for name in part.files()}
    return found


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> RawDataset:
    """Tiny rooms, which are made on their first use."""
    return RawDataset("tiny", "synthrooms", tmp_path_factory.mktemp("rooms"), TINY_ROOMS)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["3dss-vlg", "ablation-a", "cam"])
def test_garbled_ground_truth_changes_scores_and_pictures_and_no_other_byte(recipe: str, rooms: RawDataset) -> None:
    request = presets.Request("tiny", "s3dis13", ("train", "test"), "demo")
    names = {run.name for run in recipes.build(recipe, request)}
    small = {field: value for field, value in SMALL.items() if field.partition(".")[0] in names}
    plan = recipes.build(recipe, request, small)
    (store, plain), (other_store, other) = (run(plan, rooms, garble=garble) for garble in (False, True))
    assert plain.keys() == other.keys()
    stage_of = {planned.name: planned.spec.stage for planned in plan}
    compared = 0
    for name, manifest in plain.items():
        same = content(store, manifest) == content(other_store, other[name])
        if stage_of[name.partition(".")[0]] in SEES_TRUTH or name == "ingest.ground_truth":
            assert not same, f"{name} sees the ground truth"
        else:
            assert same, name
            assert manifest.key == other[name].key
            compared += 1
    assert compared >= 4

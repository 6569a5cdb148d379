"""Specs: strict, frozen, canonical; and the ports that runs are wired by."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import keys
from storage.errors import SpecInvalid, UnknownName
from storage.specs import stages
from storage.specs.plans import OutputRef, PlannedRun, check_plan


def minimal(stage: str) -> dict[str, object]:
    fields: dict[str, object] = {"stage": stage}
    if stage in ("ingest", "inspect", "embed_labels"):
        fields["label_set"] = "s3dis13"
    if stage in ("pull", "repair"):
        fields |= {"source": "http://lab.example.org:8765", "artifact": "0a" * 16}
    return fields


@pytest.mark.parametrize("stage", stages.STAGES)
def test_a_spec_survives_json_with_its_digest(stage: str) -> None:
    spec = stages.parse(minimal(stage))
    again = stages.parse(json.loads(spec.canonical()))
    assert again == spec
    assert again.digest() == spec.digest()


@pytest.mark.parametrize("stage", stages.STAGES)
def test_an_unknown_field_is_named(stage: str) -> None:
    with pytest.raises(SpecInvalid, match="colour_scheme"):
        stages.parse({**minimal(stage), "colour_scheme": "dark"})


def test_an_unknown_stage_gets_the_nearest() -> None:
    with pytest.raises(UnknownName, match="'destill'.*distill"):
        stages.parse({"stage": "destill"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"voxel_m": 0}, "voxel_m: Input should be greater than or equal to 0.001"),
        ({"training": {"optimiser": {"learning_rate": float("nan"), "epochs": 1, "batch_size": 1}}}, "learning_rate"),
        ({"network": {"arch": "ResNet"}}, "MinkUNet18A"),
        ({"seed": -1}, "seed"),
    ],
)
def test_values_out_of_range_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(SpecInvalid, match=words):
        stages.parse({"stage": "distill", **change})


@pytest.mark.parametrize(
    "document",
    [
        {"stage": "ingest", "label_set": "scannet20", "fusion": {"voxel_m": 1e-12}},
        {"stage": "inspect", "label_set": "scannet20", "fusion": {"voxel_m": 0.0009}},
        {"stage": "distill", "voxel_m": 1e-12},
        {"stage": "supervise", "voxel_m": 1e-12},
        {"stage": "import_checkpoint", "voxel_m": 1e-12},
    ],
)
def test_a_voxel_is_a_millimetre_wide_at_least(document: dict[str, object]) -> None:
    with pytest.raises(SpecInvalid, match=r"voxel_m: Input should be greater than or equal to 0\.001"):
        stages.parse(document)
    assert stages.parse({"stage": "supervise", "voxel_m": 0.001})


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        stages.Distill().seed = 3


def test_the_paper_s_values_are_the_defaults() -> None:
    specialize, distill = stages.Specialize(), stages.Distill()
    assert (specialize.adapter.alpha, specialize.optimiser.weight_decay, specialize.points_per_scene) == (
        0.95,
        4e-4,
        40_000,
    )
    assert (distill.network.arch, distill.voxel_m, distill.training.optimiser.schedule.kind) == (
        "MinkUNet18A",
        0.02,
        "poly",
    )
    lifting = stages.Extract().lifting
    assert (lifting.width, lifting.height, lifting.depth_tolerance, lifting.border_px) == (320, 240, 0.25, 10)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_keys_follow_the_spec_and_the_inputs(a: int, b: int) -> None:
    first, second = stages.Distill(seed=a), stages.Distill(seed=b)
    same = keys.artifact_key(first, "network", {"scenes": "x"}) == keys.artifact_key(second, "network", {"scenes": "x"})
    assert same == (a == b)
    assert keys.artifact_key(first, "network", {"scenes": "x"}) != keys.artifact_key(first, "network", {"scenes": "y"})


def test_the_splits_choose_scenes_and_do_not_change_a_scene_s_key() -> None:
    both, train = stages.Extract(), stages.Extract(splits=("train",))
    assert keys.scene_key(both, "embeddings", {"scenes": "x"}) == keys.scene_key(train, "embeddings", {"scenes": "x"})
    assert keys.artifact_key(both, "embeddings", {}) != keys.artifact_key(train, "embeddings", {})
    other = stages.Extract(lifting=both.lifting.model_copy(update={"border_px": 3}))
    assert keys.scene_key(both, "embeddings", {}) != keys.scene_key(other, "embeddings", {})


def test_the_type_of_embeddings_changes_keys_and_its_default_keeps_those_from_before_it_was_there() -> None:
    plain = stages.parse({"stage": "extract"})
    assert plain.digest() == "2d4c0c0fac5191d43c60f0ac30037e78"
    assert keys.artifact_key(plain, "embeddings", {"scenes": "x"}) == "832a7e2ae3c538bab75b0a18534d681b"
    assert keys.scene_key(plain, "embeddings", {"scenes": "x"}) == "16edb011f2f0a8bd6a78fffa908b9869"
    typed = [stages.parse({"stage": "extract", "dtype": dtype}) for dtype in ("float16", "int8", "float32")]
    assert typed[0] == plain
    assert len({spec.digest() for spec in typed}) == 3
    assert len({keys.scene_key(spec, "embeddings", {}) for spec in typed}) == 3
    with pytest.raises(SpecInvalid, match="int8"):
        stages.parse({"stage": "extract", "dtype": "int4"})


@pytest.mark.parametrize(
    ("stage", "before"),
    [("distill", "d51012cd715dd77a991c882b3dab41d4"), ("supervise", "d9aa4d47ecb2a39f054e5fab56420db8")],
)
def test_coarse_epochs_change_keys_and_none_keeps_those_from_before_there_were_any(stage: str, before: str) -> None:
    none, some = (stages.parse({"stage": stage, "training": {"coarse_epochs": count}}) for count in (0, 2))
    assert none == stages.parse({"stage": stage})
    assert none.digest() == before != some.digest()
    assert keys.artifact_key(none, "network", {}) != keys.artifact_key(some, "network", {})


@pytest.mark.parametrize(
    ("stage", "field", "before", "other"),
    [
        ("extract", "shrink_images", False, True),
        *((stage, "colours", "plus_half", "signed") for stage in ("distill", "supervise")),
        *((stage, "head_bias", True, False) for stage in ("distill", "supervise")),
    ],
)
def test_what_is_taken_from_the_authors_code_changes_keys_and_nothing_of_it_keeps_them(
    stage: str, field: str, before: object, other: object
) -> None:
    plain, none, some = (stages.parse({"stage": stage, **more}) for more in ({}, {field: before}, {field: other}))
    assert none == plain and field not in plain.keyed()
    assert plain.digest() != some.digest()
    assert keys.artifact_key(plain, "x", {}) != keys.artifact_key(some, "x", {})
    assert keys.scene_key(plain, "x", {}) != keys.scene_key(some, "x", {})


def run(name: str, spec: stages.StageSpec, **inputs: str) -> PlannedRun:
    refs = {port: OutputRef(*value.split("/")) for port, value in inputs.items()}
    return PlannedRun(name, spec, refs, "d" if spec.needs_dataset else None)


INGEST = run("ingest", stages.Ingest(label_set="s3dis13"))


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ([INGEST, INGEST], "two runs are named 'ingest'"),
        ([INGEST, run("x", stages.Extract(), scenes="ingest/points")], "no output 'points'"),
        ([INGEST, run("x", stages.Extract(), scenes="ingest/ground_truth")], "got an artifact of kind ground_truth"),
        ([INGEST, run("x", stages.Extract())], "misses its input scenes"),
        ([INGEST, run("x", stages.Distill(), scenes="ingest/scenes")], "misses its input embeddings"),
        ([INGEST, run("x", stages.Distill(), ground_truth="ingest/ground_truth")], "takes no input 'ground_truth'"),
        ([PlannedRun("ingest", stages.Ingest(label_set="s3dis13"))], "name one in 'dataset'"),
    ],
)  # fmt: skip
def test_a_plan_that_does_not_fit_is_refused(runs: list[PlannedRun], words: str) -> None:
    with pytest.raises(SpecInvalid, match=words):
        check_plan(runs)

"""Recipes: what they build, what a preset may change, and how overrides reach single fields."""

from __future__ import annotations

import pytest

from storage.errors import SpecInvalid, UnknownName
from storage.specs import recipes, stages
from storage.specs.recipes import Request, build

OFFICES = Request("offices", "s3dis13", ("train", "test"), "demo")


def test_the_method_runs_every_stage_but_the_supervised_one() -> None:
    runs = build("3dss-vlg", OFFICES)
    assert {run.spec.stage for run in runs} == set(stages.STAGES) - {"supervise"}


def test_no_run_of_the_method_but_evaluation_and_report_is_given_ground_truth() -> None:
    for run in build("3dss-vlg", OFFICES):
        takes = any(getattr(ref, "output", None) == "ground_truth" for ref in run.inputs.values())
        assert takes == (run.name in ("evaluate", "report"))


def test_with_one_split_training_and_prediction_share_the_scenes() -> None:
    runs = {run.name: run for run in build("3dss-vlg", Request("room", "scannet20", ("train",), "demo-capture"))}
    predict, evaluate = runs["predict"].spec, runs["evaluate"].spec
    assert isinstance(predict, stages.Predict) and isinstance(evaluate, stages.Evaluate)
    assert predict.splits == evaluate.splits == ("train",)


def test_an_override_changes_one_field_and_nothing_else() -> None:
    plain = {run.name: run for run in build("3dss-vlg", OFFICES)}
    changed = {run.name: run for run in build("3dss-vlg", OFFICES, {"distill.training.optimiser.epochs": 77})}
    assert [name for name in plain if plain[name].spec != changed[name].spec] == ["distill"]
    spec = changed["distill"].spec
    assert isinstance(spec, stages.Distill) and spec.training.optimiser.epochs == 77
    assert spec.training.optimiser.learning_rate == plain["distill"].spec.training.optimiser.learning_rate  # type: ignore[attr-defined]


def test_the_paper_s_preset_is_the_specs_own_defaults() -> None:
    runs = {run.name: run.spec for run in build("3dss-vlg", Request("d", "s3dis13", ("train", "test"), "paper"))}
    assert runs["specialize"] == stages.Specialize()
    assert runs["distill"] == stages.Distill()


def test_a_seed_reaches_the_stages_that_draw_and_only_those() -> None:
    one = build("3dss-vlg", OFFICES)
    two = build("3dss-vlg", Request("offices", "s3dis13", ("train", "test"), "demo", seed=5))
    assert [a.name for a, b in zip(one, two, strict=True) if a.spec != b.spec] == ["specialize", "distill"]


@pytest.mark.parametrize(
    ("overrides", "error", "words"),
    [
        ({"destill.seed": 1}, UnknownName, "distill"),
        ({"distill.training.epoch": 1}, SpecInvalid, "no such field"),
        ({"distill.stage": "predict"}, SpecInvalid, "no such field"),
        ({"distill": 1}, SpecInvalid, "no such field"),
        ({"distill.training.optimiser.learning_rate": -1}, SpecInvalid, "greater than 0"),
    ],
)
def test_a_wrong_override_is_refused(overrides: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        build("3dss-vlg", OFFICES, overrides)


def test_unknown_recipes_and_presets_get_the_nearest() -> None:
    with pytest.raises(UnknownName, match="3dss-vlg"):
        build("3dss", OFFICES)
    with pytest.raises(UnknownName, match="demo"):
        build("3dss-vlg", Request("offices", "s3dis13", ("train",), "dmo"))
    assert set(recipes.RECIPES) == {"3dss-vlg", "supervised"}

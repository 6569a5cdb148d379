"""Recipes: what they build, what a preset may change, and how overrides reach single fields."""

from __future__ import annotations

from dataclasses import replace

import pytest

from storage.errors import SpecInvalid, UnknownName
from storage.specs import recipes, stages
from storage.specs.plans import OutputRef
from storage.specs.presets import Request
from storage.specs.recipes import build
from workers.learning.schedules import learning_rate

OFFICES = Request("offices", "s3dis13", ("train", "test"), "demo")


def test_the_method_runs_every_stage_but_inspection_copies_and_the_supervised_one() -> None:
    runs = build("3dss-vlg", OFFICES)
    assert {run.spec.stage for run in runs} == set(stages.STAGES) - {
        "inspect",
        "supervise",
        "import_checkpoint",
        "import_features",
        "verify",
        "pull",
        "repair",
        "external",
    }


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


def test_point_clouds_without_pictures_take_the_recipes_that_need_none() -> None:
    clouds = replace(OFFICES, pictures=False)
    for name in recipes.WITHOUT_PICTURES:
        runs = {run.name: run for run in build(name, clouds)}
        assert "extract" not in runs and "coverage" not in runs["evaluate"].inputs
    with pytest.raises(SpecInvalid, match="has none; it can take: cam, supervised, published"):
        build("3dss-vlg", clouds)


def test_unknown_recipes_and_presets_get_the_nearest() -> None:
    with pytest.raises(UnknownName, match="3dss-vlg"):
        build("3dss", OFFICES)
    with pytest.raises(UnknownName, match="demo"):
        build("3dss-vlg", Request("offices", "s3dis13", ("train",), "dmo"))
    assert {"3dss-vlg", "ablation-a", "ablation-b", "ablation-c", "cam", "supervised", "published"} == set(
        recipes.RECIPES
    )


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_can_submit_the_network_s_prediction_to_scannet_s_server_and_no_unknown_one(name: str) -> None:
    homes = Request("homes", "scannet20", ("train", "test"), "demo")
    runs = {run.name: run for run in build(name, homes)}
    scored, drawn = ({p: r for p, r in runs[run].inputs.items() if p != "coverage"} for run in ("evaluate", "report"))
    assert drawn == scored and runs["report"].spec == stages.Report(splits=("test",))
    (network,) = (port for port, source in drawn.items() if source == OutputRef("predict", "labels"))
    prediction = network.removeprefix("predictions.")
    (spec,) = (run.spec for run in build(name, homes, {"report.submission": prediction}) if run.name == "report")
    assert spec == stages.Report(splits=("test",), submission=prediction)
    with pytest.raises(SpecInvalid, match=f"run 'report': got the submission 'mine', expected one of.*{prediction}"):
        build(name, homes, {"report.submission": "mine"})


def test_the_rows_of_table_3_differ_in_guidance_filtering_and_specialisation_alone() -> None:
    rows = {name: {run.name: run for run in build(name, OFFICES)} for name in recipes.RECIPES}
    for name, filtering in (("ablation-a", False), ("ablation-c", True)):
        spec, labels = rows[name]["distill"].spec, rows[name]["pseudo_label"].spec
        assert isinstance(spec, stages.Distill) and spec.target == "labels"
        assert isinstance(labels, stages.PseudoLabel) and labels.filtering is filtering
        assert "specialize" not in rows[name]
    assert "adapter" not in rows["ablation-b"]["distill"].inputs and "adapter" in rows["3dss-vlg"]["distill"].inputs
    assert rows["ablation-b"]["distill"].spec == rows["3dss-vlg"]["distill"].spec
    for name in recipes.RECIPES:
        assert rows[name]["predict"].spec == rows["3dss-vlg"]["predict"].spec


def test_a_published_checkpoint_is_named_by_an_override_and_trains_nothing() -> None:
    runs = {run.name: run for run in build("published", OFFICES, {"import_checkpoint.weights": "mink18.pth.tar"})}
    assert list(runs) == ["ingest", "embed_labels", "import_checkpoint", "predict", "evaluate", "report"]
    spec = runs["import_checkpoint"].spec
    assert isinstance(spec, stages.ImportCheckpoint) and spec.weights == "mink18.pth.tar"
    assert runs["predict"].inputs["network"] == OutputRef("import_checkpoint", "network")
    for path in ("../mink18.pth", "/mink18.pth", "", ".hidden"):
        with pytest.raises(SpecInvalid, match="weights"):
            build("published", OFFICES, {"import_checkpoint.weights": path})


def test_class_activation_maps_are_given_no_picture_and_no_point_s_label() -> None:
    distill = next(run for run in build("cam", OFFICES) if run.name == "distill")
    assert set(distill.inputs) == {"scenes", "text_embeddings"}


def test_the_authors_code_trains_at_ten_times_the_rate_from_the_second_step() -> None:
    runs = {run.name: run.spec for run in build("3dss-vlg", Request("d", "s3dis13", ("train",), "authors_code"))}
    adapter, network = runs["specialize"], runs["distill"]
    assert isinstance(adapter, stages.Specialize) and isinstance(network, stages.Distill)
    assert (adapter.optimiser.epochs, adapter.optimiser.batch_size) == (150, 24)
    optimiser = network.training.optimiser
    assert (optimiser.epochs, optimiser.batch_size, network.training.repeats) == (100, 4, 5)
    first, second = (learning_rate(optimiser, step, 10_000) for step in (0, 1))
    assert first == pytest.approx(1e-4) and second == pytest.approx(1e-3, rel=1e-3)

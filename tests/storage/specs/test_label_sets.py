"""Label sets that meet in one run: every recipe agrees with itself, and what does not is refused by name."""

from __future__ import annotations

import pytest

from storage.errors import SpecInvalid
from storage.specs import stages
from storage.specs.label_sets import check_agreement, check_plan_label_sets
from storage.specs.plans import ArtifactRef, InputRef, OutputRef, PlannedRun
from storage.specs.presets import Request
from storage.specs.recipes import RECIPES, build

OFFICES = Request("offices", "s3dis13", ("train", "test"), "demo")


def test_one_label_set_and_what_is_not_known_are_taken() -> None:
    check_agreement("predict", {"scenes": "s3dis13", "text_embeddings": "s3dis13", "network": None})
    check_agreement("predict", {"scenes": "s3dis13", "text_embeddings": None})
    check_agreement("embed_labels", {})


def test_two_label_sets_are_refused_and_both_are_named() -> None:
    with pytest.raises(SpecInvalid, match="'predict'.*scenes of s3dis13, text_embeddings of scannet20"):
        check_agreement("predict", {"text_embeddings": "scannet20", "scenes": "s3dis13", "network": None})


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_agrees_with_itself(recipe: str) -> None:
    check_plan_label_sets(build(recipe, OFFICES), lambda ref: None)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("run", ["embed_labels", "ingest"])
def test_every_recipe_refuses_one_other_label_set(recipe: str, run: str) -> None:
    plan = build(recipe, OFFICES, {f"{run}.label_set": "scannet20"})
    with pytest.raises(SpecInvalid, match=r"(?s)scannet20.*s3dis13|s3dis13.*scannet20"):
        check_plan_label_sets(plan, lambda ref: None)


def test_predictions_carry_the_label_set_of_their_text_into_the_evaluation() -> None:
    ours = [run for run in build("supervised", OFFICES) if run.name in ("ingest", "evaluate")]
    text = PlannedRun("text", stages.EmbedLabels(label_set="scannet20"))
    elsewhere = {"scenes": ArtifactRef("a" * 32), "network": ArtifactRef("b" * 32)}
    inputs = {**elsewhere, "text_embeddings": OutputRef("text", "text_embeddings")}
    plan = [ours[0], text, PlannedRun("predict", stages.Predict(), inputs), ours[1]]
    with pytest.raises(SpecInvalid, match="run 'evaluate'.*predictions.supervised of scannet20"):
        check_plan_label_sets(plan, lambda ref: None)


def test_a_network_of_another_data_set_may_be_asked_for_the_classes_of_the_scenes() -> None:
    text = PlannedRun("text", stages.EmbedLabels(label_set="s3dis13"))
    rooms = PlannedRun("rooms", stages.Ingest(label_set="s3dis13"), dataset="offices")
    homes = build("supervised", Request("homes", "scannet20", ("train",)))[:4]
    inputs = {
        "scenes": OutputRef("rooms", "scenes"),
        "network": OutputRef("supervise", "network"),
        "text_embeddings": OutputRef("text", "text_embeddings"),
    }
    check_plan_label_sets([*homes, text, rooms, PlannedRun("moved", stages.Predict(), inputs)], lambda ref: None)


@pytest.mark.parametrize("ref", [ArtifactRef("a" * 32), OutputRef("r1", "scenes")])
def test_what_lies_outside_the_plan_is_asked_for(ref: InputRef) -> None:
    text = PlannedRun("text", stages.EmbedLabels(label_set="s3dis13"))
    inputs = {"scenes": ref, "network": ArtifactRef("b" * 32), "text_embeddings": OutputRef("text", "text_embeddings")}
    plan = [text, PlannedRun("predict", stages.Predict(), inputs)]
    check_plan_label_sets(plan, lambda asked: "s3dis13" if asked == ref else None)
    with pytest.raises(SpecInvalid, match="run 'predict'.*scenes of scannet20, text_embeddings of s3dis13"):
        check_plan_label_sets(plan, lambda asked: "scannet20" if asked == ref else None)

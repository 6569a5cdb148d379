"""Whole experiments as named functions: each builds the runs of one experiment on one dataset.

`3dss-vlg` is the paper's method. A preset changes sizes and optimisers, never the method; overrides change single
fields: `{"distill.training.optimiser.epochs": 5}` sets that field of the run named `distill`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from storage.errors import SpecInvalid, UnknownName
from storage.labels import LabelSetName
from storage.specs import stages
from storage.specs.parts import Augment, Optimiser, PolySchedule, Split, StepSchedule, Training
from storage.specs.plans import OutputRef, PlannedRun, check_plan

PRESETS = ("paper", "demo", "demo-capture")
"""`paper`: the paper's schedules; `demo`: minutes on two cores (crops, and Muon beside Adam: docs/decisions/0005);
`demo-capture`: the same for one large real room."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a recipe is built for."""

    dataset: str
    label_set: LabelSetName
    splits: tuple[Split, ...]
    """Splits that the dataset has scenes in; with `train` alone, training and prediction share the scenes."""
    preset: str = "paper"
    seed: int = 0

    @property
    def held_out(self) -> tuple[Split, ...]:
        """The splits that are predicted and scored."""
        return ("test",) if "test" in self.splits else ("train",)


def build(recipe: str, request: Request, overrides: Mapping[str, Any] | None = None) -> tuple[PlannedRun, ...]:
    """The runs of a recipe, checked.

    Args:
        recipe: a name in RECIPES.
        request: dataset, preset and seed.
        overrides: `<run>.<field>[.<field>...]` -> value.

    Raises:
        UnknownName: no such recipe, preset, or run in an override.
        SpecInvalid: a field that does not exist, or a value out of range.
    """
    if recipe not in RECIPES:
        raise UnknownName.among("recipe", recipe, RECIPES)
    if request.preset not in PRESETS:
        raise UnknownName.among("preset", request.preset, PRESETS)
    runs = _overridden(RECIPES[recipe](request), overrides or {})
    check_plan(runs)
    return tuple(runs)


def three_dss_vlg(request: Request) -> list[PlannedRun]:
    """The paper's method and its two 2D rows: text alone, and filtered by scene-level labels.

    With the preset `demo` on SynthRooms offices: about 5 minutes on two cores (docs/results.md has the scores).
    """
    specialize, distill = _schedules(request)
    held_out = request.held_out
    embeddings = OutputRef("extract", "embeddings")
    scenes, truth = OutputRef("ingest", "scenes"), OutputRef("ingest", "ground_truth")
    text = OutputRef("embed_labels", "text_embeddings")
    lifted = {"scenes": scenes, "embeddings": embeddings, "text_embeddings": text}
    predictions = {
        "predictions.2d_text": OutputRef("label_text", "labels"),
        "predictions.2d_filtered": OutputRef("pseudo_label", "labels"),
        "predictions.ours": OutputRef("predict", "labels"),
    }
    return [
        PlannedRun("ingest", stages.Ingest(label_set=request.label_set), dataset=request.dataset),
        PlannedRun("embed_labels", stages.EmbedLabels(label_set=request.label_set)),
        PlannedRun("extract", stages.Extract(splits=request.splits), {"scenes": scenes}, dataset=request.dataset),
        PlannedRun("pseudo_label", stages.PseudoLabel(splits=request.splits), lifted),
        PlannedRun("label_text", stages.PseudoLabel(filtering=False, splits=held_out), lifted),
        PlannedRun(
            "specialize",
            specialize,
            {"embeddings": embeddings, "labels": OutputRef("pseudo_label", "labels"), "text_embeddings": text},
        ),
        PlannedRun(
            "distill",
            distill,
            {**lifted, "adapter": OutputRef("specialize", "adapter")},
        ),
        PlannedRun(
            "predict",
            _prediction(request),
            {"scenes": scenes, "network": OutputRef("distill", "network"), "text_embeddings": text},
        ),
        PlannedRun(
            "evaluate",
            stages.Evaluate(splits=held_out),
            {"scenes": scenes, "ground_truth": truth, "coverage": embeddings, **predictions},
        ),
        PlannedRun(
            "report",
            stages.Report(splits=held_out),
            {"scenes": scenes, "ground_truth": truth, **predictions},
        ),
    ]


def supervised(request: Request) -> list[PlannedRun]:
    """The same network trained on the ground truth: the upper bound of `make bench-method`."""
    _, distill = _schedules(request)
    held_out = request.held_out
    scenes, truth = OutputRef("ingest", "scenes"), OutputRef("ingest", "ground_truth")
    text = OutputRef("embed_labels", "text_embeddings")
    spec = stages.Supervise(
        network=distill.network, voxel_m=distill.voxel_m, training=distill.training, seed=request.seed
    )
    return [
        PlannedRun("ingest", stages.Ingest(label_set=request.label_set), dataset=request.dataset),
        PlannedRun("embed_labels", stages.EmbedLabels(label_set=request.label_set)),
        PlannedRun("extract", stages.Extract(splits=request.splits), {"scenes": scenes}, dataset=request.dataset),
        PlannedRun("supervise", spec, {"scenes": scenes, "ground_truth": truth, "text_embeddings": text}),
        PlannedRun(
            "predict",
            _prediction(request),
            {"scenes": scenes, "network": OutputRef("supervise", "network"), "text_embeddings": text},
        ),
        PlannedRun(
            "evaluate",
            stages.Evaluate(splits=held_out),
            {
                "scenes": scenes,
                "ground_truth": truth,
                "coverage": OutputRef("extract", "embeddings"),
                "predictions.supervised": OutputRef("predict", "labels"),
            },
        ),
    ]


RECIPES: Mapping[str, Callable[[Request], list[PlannedRun]]] = {
    "3dss-vlg": three_dss_vlg,
    "supervised": supervised,
}
"""Recipe name -> the function that builds it."""


def _schedules(request: Request) -> tuple[stages.Specialize, stages.Distill]:
    """The two training stages at the size that the preset asks for."""
    if request.preset == "paper":
        return stages.Specialize(seed=request.seed), stages.Distill(seed=request.seed)
    capture = request.preset == "demo-capture"
    specialize = stages.Specialize(
        optimiser=Optimiser(
            learning_rate=0.003, weight_decay=4e-4, schedule=StepSchedule(every_epochs=15), epochs=60, batch_size=4
        ),
        points_per_scene=20_000 if capture else 2_000,
        class_balance=1,
        seed=request.seed,
    )
    distill = stages.Distill(
        voxel_m=0.05,
        training=Training(
            optimiser=Optimiser(
                learning_rate=0.002,
                kernel_learning_rate=0.02,
                schedule=PolySchedule(warmup_steps=5),
                epochs=6 if capture else 7,
                batch_size=4,
            ),
            augment=Augment(elastic=False, colour_shift=0.3),
            repeats=80 if capture else 8,
            crop_voxels=2_500,
            precision="auto",
            class_balance=0.5,
            calibrate_norms=True,
        ),
        seed=request.seed,
    )
    return specialize, distill


def _prediction(request: Request) -> stages.Predict:
    """The prediction of the held-out scenes at the size that the preset asks for."""
    return stages.Predict(splits=request.held_out, voxelisations=1 if request.preset == "paper" else 4)


def _overridden(runs: Sequence[PlannedRun], overrides: Mapping[str, Any]) -> list[PlannedRun]:
    """The runs with single fields changed, each spec validated anew."""
    by_name = {run.name: run for run in runs}
    for path, value in overrides.items():
        name, _, field_path = path.partition(".")
        if name not in by_name:
            raise UnknownName.among("run in an override", name, by_name)
        document = by_name[name].spec.model_dump(mode="json")
        *parents, last = field_path.split(".")
        place: Any = document
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place or last == "stage":
            raise SpecInvalid(f"got the override {path!r}, but the stage {document['stage']!r} has no such field")
        place[last] = value
        by_name[name] = replace(by_name[name], spec=stages.parse(document))
    return list(by_name.values())

"""Whole experiments as named functions: each builds the runs of one experiment on one dataset.

`3dss-vlg` is the paper's method, `ablation-a` to `ablation-c` are the other rows of its Table 3, `cam` the conventional
baseline of its Fig. 1a, `supervised` the upper bound, `published` somebody else's network. Sizes and optimisers come
from `storage.specs.presets`; overrides change single fields: `{"distill.training.optimiser.epochs": 5}` sets that field
of the run named `distill`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from storage.errors import SpecInvalid, UnknownName
from storage.specs import changes, presets, stages
from storage.specs.plans import OutputRef, PlannedRun, check_plan
from storage.specs.presets import PRESETS, Request

SCENES = OutputRef("ingest", "scenes")
TRUTH = OutputRef("ingest", "ground_truth")
TEXT = OutputRef("embed_labels", "text_embeddings")
EMBEDDINGS = OutputRef("extract", "embeddings")
PSEUDO_LABELS = OutputRef("pseudo_label", "labels")
LIFTED = {"scenes": SCENES, "embeddings": EMBEDDINGS, "text_embeddings": TEXT}


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
    if not request.pictures and recipe not in WITHOUT_PICTURES:
        raise SpecInvalid(
            f"the recipe {recipe!r} lifts pictures, and the dataset {request.dataset!r} has none; it can take: "
            f"{', '.join(WITHOUT_PICTURES)}"
        )
    runs = _overridden(RECIPES[recipe](request), overrides or {})
    check_plan(runs)
    return tuple(runs)


def three_dss_vlg(request: Request) -> list[PlannedRun]:
    """The paper's method and its two 2D rows: text alone, and filtered by scene-level labels (Table 3, row d).

    `vlglab experiments submit 3dss-vlg --dataset s3dis --set extract.encoder.name=openseg --set
    embed_labels.encoder.name=clip`; beside the paper's rows: `vlglab tables 1 --dataset s3dis --encoder openseg`.
    The paper's mIoU: 45.3 on S3DIS (Tables 1 and 3), 48.9 on ScanNet's test and 49.7 on its val (Table 2).
    GPU hours: not measured; docs/reproduce.md counts frames and steps. With the preset `demo` on SynthRooms offices:
    5 to 7 minutes on two cores (docs/results.md has the scores).
    """
    predictions = {
        "predictions.2d_text": OutputRef("label_text", "labels"),
        "predictions.2d_filtered": PSEUDO_LABELS,
        "predictions.ours": OutputRef("predict", "labels"),
    }
    return [
        *_lifted(request),
        PlannedRun("pseudo_label", stages.PseudoLabel(splits=request.splits), LIFTED),
        PlannedRun("label_text", stages.PseudoLabel(filtering=False, splits=request.held_out), LIFTED),
        PlannedRun(
            "specialize",
            presets.specialize(request),
            {"embeddings": EMBEDDINGS, "labels": PSEUDO_LABELS, "text_embeddings": TEXT},
        ),
        PlannedRun("distill", presets.distill(request), {**LIFTED, "adapter": OutputRef("specialize", "adapter")}),
        _predicted(request, "distill"),
        *_scored(request, predictions),
    ]


def ablation_a(request: Request) -> list[PlannedRun]:
    """Table 3, row a: cross-entropy on pseudo labels that scene-level labels did not filter.

    `vlglab experiments submit ablation-a --dataset s3dis --set extract.encoder.name=openseg --set
    embed_labels.encoder.name=clip`; all rows of the table: `vlglab tables 3 --dataset s3dis --encoder openseg`.
    The paper's mIoU: 37.7 on S3DIS. GPU hours: not measured; docs/reproduce.md counts frames and steps.
    """
    return _towards_labels(request, filtering=False)


def ablation_b(request: Request) -> list[PlannedRun]:
    """Table 3, row b: soft guidance (ESGS) by the 2D embeddings as lifted, not adapted.

    `vlglab experiments submit ablation-b --dataset s3dis --set extract.encoder.name=openseg --set
    embed_labels.encoder.name=clip`; all rows of the table: `vlglab tables 3 --dataset s3dis --encoder openseg`.
    The paper's mIoU: 38.2 on S3DIS. GPU hours: not measured; docs/reproduce.md counts frames and steps.
    """
    return [
        *_lifted(request),
        PlannedRun("distill", presets.distill(request), LIFTED),
        _predicted(request, "distill"),
        *_scored(request, {"predictions.ours": OutputRef("predict", "labels")}),
    ]


def ablation_c(request: Request) -> list[PlannedRun]:
    """Table 3, row c: cross-entropy on filtered pseudo labels.

    `vlglab experiments submit ablation-c --dataset s3dis --set extract.encoder.name=openseg --set
    embed_labels.encoder.name=clip`; all rows of the table: `vlglab tables 3 --dataset s3dis --encoder openseg`.
    The paper's mIoU: 42.6 on S3DIS. GPU hours: not measured; docs/reproduce.md counts frames and steps.
    """
    return _towards_labels(request, filtering=True)


def cam(request: Request) -> list[PlannedRun]:
    """The conventional baseline of Fig. 1a: class activation maps, learnt from scene-level labels and no picture.

    A scene's scores are the mean over its voxels (global average pooling) and are taught which classes it has; the
    voxels' own scores are the prediction.

    `vlglab experiments submit cam --dataset s3dis --set extract.encoder.name=openseg --set
    embed_labels.encoder.name=clip`. The paper draws it and gives no score. `extract` only says which points are
    covered. GPU hours: not measured; docs/reproduce.md counts steps.
    """
    spec = presets.distill(request).model_copy(update={"target": "scene_labels"})
    return [
        *_lifted(request),
        PlannedRun("distill", spec, {"scenes": SCENES, "text_embeddings": TEXT}),
        _predicted(request, "distill"),
        *_scored(request, {"predictions.ours": OutputRef("predict", "labels")}),
    ]


def supervised(request: Request) -> list[PlannedRun]:
    """The same network trained on the ground truth: the upper bound (MinkowskiNet in Tables 1 and 2).

    `vlglab experiments submit supervised --dataset s3dis --set extract.encoder.name=openseg --set
    embed_labels.encoder.name=clip`. The mIoU that the paper quotes for MinkowskiNet: 65.8 on S3DIS, 73.6 on ScanNet's
    test and 72.2 on its val; ours keeps the head of D dimensions and multiplies by the text. GPU hours: not measured;
    docs/reproduce.md counts steps.
    """
    return [
        *_lifted(request),
        PlannedRun(
            "supervise",
            presets.supervise(request),
            {"scenes": SCENES, "ground_truth": TRUTH, "text_embeddings": TEXT},
        ),
        _predicted(request, "supervise"),
        *_scored(request, {"predictions.supervised": OutputRef("predict", "labels")}),
    ]


def published(request: Request) -> list[PlannedRun]:
    """A checkpoint of OpenScene's or 3DSS-VLG's trainers on the held-out scenes; nothing is trained, no picture read.

    The file lies under VLGLAB_WEIGHTS and is named by an override, and so is the text encoder that it was trained
    towards: `vlglab experiments submit published --dataset scannet --set import_checkpoint.weights=FILE --set
    embed_labels.encoder.name=clip`; OpenScene's networks also take `--set import_checkpoint.colours=ones`. The paper's
    mIoU for its own network: 45.3 on S3DIS, 49.7 on ScanNet's val (Tables 1 and 2). GPU hours: not measured.
    """
    points_alone = replace(request, pictures=False)
    predictions = {"predictions.published": OutputRef("predict", "labels")}
    return [
        *_lifted(points_alone),
        PlannedRun("import_checkpoint", stages.ImportCheckpoint(), {"text_embeddings": TEXT}),
        _predicted(points_alone, "import_checkpoint"),
        *_scored(points_alone, predictions),
    ]


RECIPES: Mapping[str, Callable[[Request], list[PlannedRun]]] = {
    "3dss-vlg": three_dss_vlg,
    "ablation-a": ablation_a,
    "ablation-b": ablation_b,
    "ablation-c": ablation_c,
    "cam": cam,
    "supervised": supervised,
    "published": published,
}
"""Recipe name -> the function that builds it."""

WITHOUT_PICTURES = ("cam", "supervised", "published")
"""Recipes that plain point clouds are enough for."""


def _lifted(request: Request) -> list[PlannedRun]:
    """What every recipe begins with; `extract` also says which points the scores on covered points are taken on."""
    extract = PlannedRun("extract", stages.Extract(splits=request.splits), {"scenes": SCENES}, dataset=request.dataset)
    return [
        PlannedRun("ingest", stages.Ingest(label_set=request.label_set), dataset=request.dataset),
        PlannedRun("embed_labels", stages.EmbedLabels(label_set=request.label_set)),
        *([extract] if request.pictures else []),
    ]


def _towards_labels(request: Request, *, filtering: bool) -> list[PlannedRun]:
    """A network that learns pseudo labels by cross-entropy."""
    spec = presets.distill(request).model_copy(update={"target": "labels"})
    return [
        *_lifted(request),
        PlannedRun("pseudo_label", stages.PseudoLabel(filtering=filtering, splits=("train",)), LIFTED),
        PlannedRun("distill", spec, {"scenes": SCENES, "labels": PSEUDO_LABELS, "text_embeddings": TEXT}),
        _predicted(request, "distill"),
        *_scored(request, {"predictions.ours": OutputRef("predict", "labels")}),
    ]


def _predicted(request: Request, trained: str) -> PlannedRun:
    """The held-out scenes, segmented by the network of the run named `trained`."""
    inputs = {"scenes": SCENES, "network": OutputRef(trained, "network"), "text_embeddings": TEXT}
    return PlannedRun("predict", presets.predict(request), inputs)


def _scored(request: Request, predictions: Mapping[str, OutputRef]) -> list[PlannedRun]:
    """What every recipe ends with: predictions of the held-out scenes against the ground truth, and drawn.

    `report` also writes a prediction as files for ScanNet's test server where its `submission` names one.
    """
    inputs = {"scenes": SCENES, "ground_truth": TRUTH, **predictions}
    coverage = {"coverage": EMBEDDINGS} if request.pictures else {}
    return [
        PlannedRun("evaluate", stages.Evaluate(splits=request.held_out), {**inputs, **coverage}),
        PlannedRun("report", stages.Report(splits=request.held_out), inputs),
    ]


def _overridden(runs: Sequence[PlannedRun], overrides: Mapping[str, Any]) -> list[PlannedRun]:
    """The runs with single fields changed, each spec validated anew."""
    by_name = {run.name: run for run in runs}
    for path, value in overrides.items():
        name, _, field_path = path.partition(".")
        if name not in by_name:
            raise UnknownName.among("run in an override", name, by_name)
        spec = changes.applied(by_name[name].spec.model_dump(mode="json"), {field_path: value})
        by_name[name] = replace(by_name[name], spec=spec)
    return list(by_name.values())

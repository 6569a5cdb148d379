"""Evaluations as tables: predictions against covered and all points, and IoU per class. Opens no connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from service.schemas import Evaluation

TITLES: Mapping[str, str] = {
    "2d_text": "2D projection, text alone",
    "2d_filtered": "2D projection, filtered by scene-level labels",
    "ours": "3D network, no image (ours)",
    "supervised": "3D network, trained on the ground truth",
    "published": "3D network, published checkpoint",
}
"""Name of a prediction in the recipes -> how it is called in tables."""

_SHORT: Mapping[str, str] = {"2d_text": "2D text", "2d_filtered": "2D filtered", "ours": "ours (3D)"}
_SUBSETS = ("covered", "all")
NO_GROUND_TRUTH = "There is no ground truth for these rooms, so there is no score."


def without_scores(evaluations: Sequence[Evaluation]) -> str | None:
    """Why there are no scores to show, in a sentence; None where there are some."""
    if any(row.miou is not None for row in evaluations):
        return None
    notes = list(dict.fromkeys(row.note for row in evaluations if row.note))
    return " ".join(notes) or NO_GROUND_TRUTH


def summary_table(evaluations: Sequence[Evaluation]) -> Table:
    """mIoU and mAcc in per cent, a row a prediction, on covered points and on all."""
    table = Table(
        title="mIoU and mAcc in %, on covered points and on all", title_justify="left", box=None, pad_edge=False
    )
    table.add_column("prediction")
    for measure in ("mIoU", "mAcc"):
        for subset in _SUBSETS:
            table.add_column(f"{measure}\n{subset}", justify="right", no_wrap=True)
    for name in _names(evaluations):
        rows = [_row(evaluations, name, subset) for subset in _SUBSETS]
        table.add_row(
            TITLES.get(name, name),
            *(per_cent(None if row is None else row.miou) for row in rows),
            *(per_cent(None if row is None else row.macc) for row in rows),
            style="bold" if name == "ours" else None,
        )
    return table


def class_table(evaluations: Sequence[Evaluation]) -> Table:
    """IoU in per cent, a row a class; two columns a prediction: covered points and all points."""
    names = _names(evaluations)
    table = Table(title="IoU per class in %", title_justify="left", box=None, pad_edge=False)
    table.add_column("class")
    for name in names:
        for subset in _SUBSETS:
            table.add_column(f"{_SHORT.get(name, name)}\n{subset}", justify="right", no_wrap=True)
    classes = list(dict.fromkeys(score.name for row in evaluations for score in row.classes))
    columns = [
        {score.name: score.iou for score in row.classes} if row is not None else {}
        for name in names
        for row in (_row(evaluations, name, subset) for subset in _SUBSETS)
    ]
    for name in classes:
        table.add_row(name, *(per_cent(column.get(name)) for column in columns))
    table.add_section()
    for measure in ("miou", "macc"):
        values = [_row(evaluations, name, subset) for name in names for subset in _SUBSETS]
        cells = [per_cent(None if row is None else getattr(row, measure)) for row in values]
        table.add_row({"miou": "mIoU", "macc": "mAcc"}[measure], *cells, style="bold")
    return table


def per_cent(share: float | None) -> str:
    """A share of 1 as per cent with one decimal; a dash where it is undefined.

    Examples:
        >>> per_cent(0.4267), per_cent(None)
        ('42.7', '-')
    """
    return "-" if share is None else f"{100 * share:.1f}"


def _names(evaluations: Sequence[Evaluation]) -> list[str]:
    """Names of the predictions: the known ones in the order of TITLES, then the others as they come."""
    found = list(dict.fromkeys(row.prediction for row in evaluations))
    return [name for name in TITLES if name in found] + [name for name in found if name not in TITLES]


def _row(evaluations: Sequence[Evaluation], prediction: str, subset: str) -> Evaluation | None:
    """The evaluation of a prediction on a subset of the points, or None."""
    return next((row for row in evaluations if row.prediction == prediction and row.subset == subset), None)

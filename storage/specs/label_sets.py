"""Label sets that meet in one run: its scenes, text, labels and ground truth must speak of the same classes.

Checked when runs are submitted, as far as their plan tells, and again when a run starts, from what was published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from storage.errors import SpecInvalid
from storage.specs.plans import InputRef, OutputRef, PlannedRun
from storage.specs.spec import ArtifactKind

OF_CLASSES: frozenset[ArtifactKind] = frozenset({"scenes", "ground_truth", "text_embeddings", "labels"})
"""Kinds of artifacts that mean nothing without their label set."""


def check_agreement(stage: str, sets: Mapping[str, str | None]) -> None:
    """Checks that the inputs of a run are of one label set.

    A network may be asked about other classes than it was trained on: its checkpoint has no label set, the text that it
    is multiplied with has that of the scenes.

    Args:
        stage: name of the stage.
        sets: input name -> its label set; None where it has none or where it is not known yet.

    Raises:
        SpecInvalid: two are of different ones; names both.
    """
    known = {name: of for name, of in sets.items() if of is not None}
    if len(set(known.values())) > 1:
        got = ", ".join(f"{name} of {of}" for name, of in sorted(known.items()))
        raise SpecInvalid(
            f"the inputs of the stage {stage!r} are of different label sets ({got}), expected one; take scenes and "
            "labels of one label set, and embed the class names of that one (`embed_labels.label_set`)"
        )


def check_plan_label_sets(runs: Sequence[PlannedRun], outside: Callable[[InputRef], str | None]) -> None:
    """Checks each run of a plan by what is known of it.

    Args:
        runs: the plan.
        outside: tells the label set of an artifact or of another run's output; None where it has none or is not known.

    Raises:
        SpecInvalid: inputs of a run are of different label sets; names the run and both sets.
    """
    names = {run.name for run in runs}
    made: dict[tuple[str, str], str | None] = {}
    for run in runs:
        sets = {
            name: made.get((ref.run, ref.output)) if isinstance(ref, OutputRef) and ref.run in names else outside(ref)
            for name, ref in run.inputs.items()
        }
        try:
            check_agreement(run.spec.stage, sets)
        except SpecInvalid as error:
            raise SpecInvalid(f"run {run.name!r}: {error.message}") from error
        taken = next((of for of in sets.values() if of is not None), None)
        of_run: str | None = getattr(run.spec, "label_set", taken)
        made |= {(run.name, output): of_run for output, kind in run.spec.outputs.items() if kind in OF_CLASSES}

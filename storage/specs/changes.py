"""Single fields of a spec changed, by dotted paths: what `--set` gives. Knows specs alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from storage.errors import SpecInvalid
from storage.specs import stages
from storage.specs.spec import StageSpec


def applied(document: Mapping[str, Any], changes: Mapping[str, Any]) -> StageSpec:
    """The spec that a document describes once its fields are changed, validated as a whole.

    Args:
        document: a spec as JSON.
        changes: dotted path of a field, such as `training.optimiser.epochs`, -> its value.

    Raises:
        SpecInvalid: a field that the stage does not have, or a value out of range.
        UnknownName: no such stage.

    Examples:
        >>> applied({"stage": "predict"}, {"voxelisations": 4}).voxelisations
        4
    """
    whole: dict[str, Any] = stages.parse(document).model_dump(mode="json")
    for path, value in changes.items():
        *parents, last = path.split(".")
        place: Any = whole
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place or (last == "stage" and not parents):
            stage = whole["stage"]
            raise SpecInvalid(f"got the change of '{stage}.{path}', but the stage {stage!r} has no such field")
        place[last] = value
    return stages.parse(whole)

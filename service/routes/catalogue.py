"""What can be asked for: recipes, and the stages with the schemas of their specs."""

from __future__ import annotations

from fastapi import APIRouter

from service import problems
from service.schemas import Recipe, RecipePage, Stage, StagePage, StagePort
from storage.specs import presets, recipes, stages
from storage.specs.spec import StageSpec

router = APIRouter(tags=["catalogue"], responses=problems.RESPONSES)


@router.get("/recipes", summary="List recipes")
def list_recipes() -> RecipePage:
    """Whole experiments that can be submitted by name, and their presets."""
    items = [
        Recipe(name=name, presets=list(presets.PRESETS), doc=_doc(function))
        for name, function in recipes.RECIPES.items()
    ]
    return RecipePage(items=items)


@router.get("/specs", summary="List stages and the schemas of their specs")
def list_specs() -> StagePage:
    """Every stage with its inputs and outputs and the JSON schema of its spec, in the order of a scene's path."""
    return StagePage(items=[_stage(name, model) for name, model in stages.STAGES.items()])


def _stage(name: str, model: type[StageSpec]) -> Stage:
    """A stage as it is answered."""
    return Stage(
        stage=name,
        doc=_doc(model),
        inputs={port: StagePort.model_validate(taken) for port, taken in model.inputs.items()},
        outputs=dict(model.outputs),
        needs_dataset=model.needs_dataset,
        uses_gpu=model.uses_gpu,
        spec_schema=model.model_json_schema(),
    )


def _doc(thing: object) -> str:
    """The docstring of a recipe or a stage, without its indentation."""
    lines = (thing.__doc__ or "").strip().splitlines()
    return "\n".join(line.strip() for line in lines)

from __future__ import annotations

from typing import Any

from storage.specs import recipes, stages
from storage.specs.stages import STAGES


def test_every_recipe_is_listed_and_can_be_submitted(api: Any, offices: str) -> None:
    items = api.get("/recipes")["items"]
    assert [item["name"] for item in items] == list(recipes.RECIPES)
    for item in items:
        assert item["doc"]
        for preset in item["presets"]:
            api.post("/experiments", {"recipe": item["name"], "preset": preset, "dataset": offices})


def test_every_stage_is_listed_with_its_schema(api: Any) -> None:
    items = {item["stage"]: item for item in api.get("/specs")["items"]}
    assert list(items) == list(STAGES)
    assert items["evaluate"]["inputs"]["predictions"] == {"kind": "labels", "required": True, "many": True}
    assert items["ingest"]["outputs"] == {"scenes": "scenes", "ground_truth": "ground_truth"}
    assert (items["ingest"]["needs_dataset"], items["distill"]["uses_gpu"]) == (True, True)
    for name, item in items.items():
        assert set(item["spec_schema"]["properties"]) == set(stages.STAGES[name].model_fields)
        assert item["spec_schema"]["additionalProperties"] is False


def test_the_version_names_the_store(api: Any, settings: Any) -> None:
    found = api.get("/version")
    assert found["api"] == "v1"
    assert found["store"] == settings.store_path.as_uri()

"""The stages of the specs, of the table that runs them and of the documents are the same."""

from __future__ import annotations

from pathlib import Path

from storage.artifacts.kinds import KINDS
from storage.specs import presets, recipes
from storage.specs.stages import BY_OWNER, STAGES
from workers.stages import table

ROOT = Path(__file__).resolve().parents[2]


def test_table_and_specs_name_the_same_stages_in_the_same_order() -> None:
    """Those that workers run, that is: what its owner runs has no module here."""
    assert list(table.MODULES) == [name for name in STAGES if name not in BY_OWNER]
    assert frozenset({"external"}) == BY_OWNER


def test_every_stage_has_its_module_and_a_line_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for name, spec in STAGES.items():
        if name not in BY_OWNER:
            assert (ROOT / (table.MODULES[name].replace(".", "/") + ".py")).exists()
        assert f"`{name}`" in text, f"docs/architecture.md does not mention the stage {name}"
        for output, kind in spec.outputs.items():
            assert kind in KINDS and output


def test_ports_and_outputs_are_of_known_kinds() -> None:
    for spec in STAGES.values():
        assert {port.kind for port in spec.inputs.values()} <= {*KINDS, None}


def test_only_evaluation_report_and_the_supervised_bound_may_name_ground_truth() -> None:
    takers = {name for name, spec in STAGES.items() if any(p.kind == "ground_truth" for p in spec.inputs.values())}
    assert takers == {"evaluate", "report", "supervise"}
    takes_any = {name for name, spec in STAGES.items() if any(p.kind is None for p in spec.inputs.values())}
    assert takes_any == {"verify"} and not STAGES["verify"].outputs, "what publishes nothing gives nothing away"


def test_every_recipe_builds_and_is_in_the_documents() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for name in recipes.RECIPES:
        assert f"`{name}`" in text
        for preset in presets.PRESETS:
            request = presets.Request("d", "s3dis13", ("train", "test"), preset)
            assert recipes.build(name, request)

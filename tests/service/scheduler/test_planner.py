from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from service.scheduler import planner
from storage import keys
from storage.records.planning import (
    FillInput,
    GiveUp,
    InputView,
    MakeCached,
    MakeReady,
    Move,
    Snapshot,
    SourceRun,
    WaitingRun,
)
from storage.specs import stages

PREDICT = stages.Predict()
INPUTS = {"scenes": "s" * 32, "network": "n" * 32, "text_embeddings": "t" * 32}
KEY = keys.artifact_key(PREDICT, "", INPUTS)
LABELS = keys.artifact_key(PREDICT, "labels", INPUTS)


def nothing(_keys: Collection[str]) -> frozenset[str]:
    return frozenset()


def published(*known: str) -> Any:
    return lambda asked: frozenset(known) & frozenset(asked)


def waiting(
    run_id: str = "r1",
    spec: stages.StageSpec = PREDICT,
    inputs: Mapping[str, InputView] | None = None,
    key: str | None = None,
) -> WaitingRun:
    views = {port: InputView(artifact) for port, artifact in INPUTS.items()} if inputs is None else inputs
    return WaitingRun(run_id, spec.model_dump(mode="json"), views, key)


@dataclass
class World:
    seen: Snapshot
    live: Mapping[str, str]
    """Key -> the run that stands for it."""


def snapshot(*runs: WaitingRun, sources: Any = None, live: Any = None) -> World:
    return World(Snapshot(runs, sources or {}), live or {})


def plan(world: World, exists: Callable[[Collection[str]], frozenset[str]]) -> Sequence[Move]:
    return planner.plan(world.seen, exists, published(*world.live)).moves


def held(world: World, exists: Callable[[Collection[str]], frozenset[str]]) -> Mapping[str, str]:
    return planner.plan(world.seen, exists, published(*world.live)).held


def test_nothing_to_plan() -> None:
    assert plan(snapshot(), nothing) == []


def test_a_run_without_inputs_is_ready_at_once() -> None:
    run = waiting(spec=stages.EmbedLabels(label_set="s3dis13"), inputs={})
    assert plan(snapshot(run), nothing) == [MakeReady("r1", None)]


def test_a_run_whose_inputs_exist_is_ready_under_its_key() -> None:
    assert plan(snapshot(waiting()), nothing) == [MakeReady("r1", KEY)]


def test_the_order_of_the_inputs_does_not_enter_the_key() -> None:
    turned = {port: InputView(INPUTS[port]) for port in reversed(INPUTS)}
    assert plan(snapshot(waiting(inputs=turned)), nothing) == [MakeReady("r1", KEY)]


def test_a_run_whose_outputs_are_all_published_is_cached() -> None:
    assert plan(snapshot(waiting()), published(LABELS)) == [MakeCached("r1", KEY, {"labels": LABELS})]


def test_with_one_output_missing_it_is_computed() -> None:
    supervise = stages.Supervise()
    whole = {port: InputView(port * 3) for port in supervise.inputs}
    assert len(supervise.outputs) == 1
    run = waiting(spec=supervise, inputs=whole)
    assert plan(snapshot(run), published(LABELS)) == [
        MakeReady("r1", keys.artifact_key(supervise, "", {port: port * 3 for port in supervise.inputs}))
    ]


def test_an_external_run_is_never_cached_by_the_planner() -> None:
    run = waiting(spec=stages.EmbedLabels(label_set="s3dis13"), inputs={}, key="k" * 32)
    assert plan(snapshot(run), lambda asked: frozenset(asked)) == [MakeReady("r1", "k" * 32)]


def test_a_second_run_of_a_live_key_waits() -> None:
    assert plan(snapshot(waiting(), live={KEY: "r0"}), nothing) == []
    assert held(snapshot(waiting(), live={KEY: "r0"}), nothing) == {"r1": KEY}
    assert held(snapshot(waiting(), live={KEY: "r0"}), published(LABELS)) == {}


def test_of_several_runs_of_one_key_the_first_goes() -> None:
    runs = [waiting(name) for name in ("r1", "r2", "r3")]
    assert plan(snapshot(*runs), nothing) == [MakeReady("r1", KEY)]
    assert held(snapshot(*runs), nothing) == {"r2": KEY, "r3": KEY}


def test_an_external_run_that_knows_its_key_waits_for_the_live_one() -> None:
    run = waiting(spec=stages.EmbedLabels(label_set="s3dis13"), inputs={}, key="k" * 32)
    assert plan(snapshot(run, live={"k" * 32: "r0"}), nothing) == []


def source(state: str, **outputs: str) -> SourceRun:
    return SourceRun(state, outputs)  # type: ignore[arg-type]


VIEWS = {**{port: InputView(key) for port, key in INPUTS.items()}, "network": InputView(None, "r0", "network")}


@pytest.mark.parametrize("state", ["queued", "ready", "running"])
def test_a_run_waits_for_its_inputs(state: str) -> None:
    assert plan(snapshot(waiting(inputs=VIEWS), sources={"r0": source(state)}), nothing) == []


@pytest.mark.parametrize("state", ["succeeded", "cached"])
def test_an_input_that_exists_is_filled_in_before_the_run_is_ready(state: str) -> None:
    found = plan(snapshot(waiting(inputs=VIEWS), sources={"r0": source(state, network="n" * 32)}), nothing)
    assert found == [FillInput("r1", "network", "n" * 32), MakeReady("r1", KEY)]


def test_an_input_is_filled_in_while_another_is_missing() -> None:
    views = {**VIEWS, "scenes": InputView(None, "r00", "scenes")}
    sources = {"r0": source("cached", network="n" * 32), "r00": source("running")}
    assert plan(snapshot(waiting(inputs=views), sources=sources), nothing) == [FillInput("r1", "network", "n" * 32)]


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_run_is_given_up_with_the_input_that_will_never_come(state: str) -> None:
    views = {"scenes": InputView(None, "r00", "scenes"), **VIEWS}
    sources = {"r0": source(state), "r00": source("cached", scenes="s" * 32)}
    (found,) = plan(snapshot(waiting(inputs=views), sources=sources), nothing)
    assert isinstance(found, GiveUp)
    assert found.code == "input_failed"
    assert "'network'" in found.reason
    assert "r0" in found.reason
    assert state in found.reason


def test_an_output_that_a_run_did_not_give_is_an_input_that_failed() -> None:
    (found,) = plan(snapshot(waiting(inputs=VIEWS), sources={"r0": source("succeeded")}), nothing)
    assert isinstance(found, GiveUp)
    assert "without giving 'network'" in found.reason


def test_a_run_whose_input_was_deleted_is_given_up_and_the_others_are_planned() -> None:
    lost = waiting(inputs={**VIEWS, "scenes": InputView(None, None, "scenes")})
    fine = WaitingRun("r2", {"stage": "embed_labels", "label_set": "s3dis13"}, {})
    given_up, ready = plan(snapshot(lost, fine, sources={"r0": source("running")}), nothing)
    assert isinstance(given_up, GiveUp) and isinstance(ready, MakeReady)
    assert (given_up.run_id, given_up.code, ready.run_id) == (lost.id, "input_failed", "r2")
    assert "'scenes'" in given_up.reason and "deleted" in given_up.reason


def test_a_spec_that_cannot_be_read_any_more_is_given_up() -> None:
    run = WaitingRun("r1", {"stage": "predict", "gone": 1}, {})
    (found,) = plan(snapshot(run), nothing)
    assert isinstance(found, GiveUp)
    assert found.code == "spec_invalid"


def test_one_question_is_asked_for_all_runs() -> None:
    asked: list[Collection[str]] = []

    def exists(wanted: Collection[str]) -> frozenset[str]:
        asked.append(wanted)
        return frozenset()

    other = waiting("r2", stages.Predict(splits=("train",)))
    plan(snapshot(waiting(), other), exists)
    assert len(asked) == 1
    assert len(asked[0]) == 2

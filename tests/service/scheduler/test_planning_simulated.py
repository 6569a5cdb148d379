"""Whole experiments played through in memory: any DAG, any order of completions, workers that succeed or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from service.scheduler.planner import plan
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
from storage.records.states import DONE, FINAL, LEGAL, LIVE, RunState
from storage.specs import stages
from storage.specs.spec import StageSpec

SPECS: tuple[StageSpec, ...] = (
    stages.EmbedLabels(label_set="s3dis13"),
    stages.EmbedLabels(label_set="scannet20"),
    stages.Predict(),
    stages.Predict(splits=("train",)),
    stages.Report(),
    stages.Ingest(label_set="s3dis13"),
)
"""External and not, with one output and with two; few, so that runs of one key come up often."""


@dataclass
class Simulated:
    """A run, as the tables would hold it."""

    id: str
    spec: StageSpec
    inputs: dict[str, InputView]
    state: RunState = "queued"
    key: str | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    computed: bool = False


class World:
    """Tables and workers in memory; checks every move against the rules."""

    def __init__(self, runs: list[Simulated]) -> None:
        self.runs = {run.id: run for run in runs}
        self.published: set[str] = set()

    def snapshot(self) -> Snapshot:
        waiting = [
            WaitingRun(run.id, run.spec.model_dump(mode="json"), dict(run.inputs), run.key)
            for run in self.runs.values()
            if run.state == "queued"
        ]
        sources = {run.id: SourceRun(run.state, run.outputs) for run in self.runs.values()}
        return Snapshot(waiting, sources)

    def plan(self) -> list[Move]:
        known = {run.key for run in self.runs.values() if run.state in LIVE and run.key is not None}
        moves = plan(
            self.snapshot(),
            lambda asked: frozenset(self.published) & frozenset(asked),
            lambda asked: frozenset(known) & frozenset(asked),
        ).moves
        for step in moves:
            self._apply(step)
        live = [run.key for run in self.runs.values() if run.state in LIVE and run.key is not None]
        assert len(live) == len(set(live)), "two live runs stand for one key"
        return list(moves)

    def plan_all(self) -> None:
        while self.plan():
            pass

    def move(self, run: Simulated, to: RunState) -> None:
        assert to in LEGAL[run.state], (run.id, run.state, to)
        run.state = to

    def work(self, run: Simulated, outcome: str) -> None:
        """A worker claims a ready run and ends it."""
        self.move(run, "running")
        inputs = {port: view.artifact_key for port, view in run.inputs.items()}
        assert None not in inputs.values(), "a run ran without its inputs"
        known = {port: key for port, key in inputs.items() if key is not None}
        if run.spec.external:
            known["outside"] = "w" * 32
        run.key = keys.artifact_key(run.spec, "", known)
        others = [r for r in self.runs.values() if r is not run and r.state in LIVE and r.key == run.key]
        if others or outcome in ("lost", "released"):
            self.move(run, "queued")
        elif outcome in ("failed", "cancelled"):
            self.move(run, outcome)  # type: ignore[arg-type]
        else:
            run.outputs = {name: keys.artifact_key(run.spec, name, known) for name in run.spec.outputs}
            cached = self.published.issuperset(run.outputs.values())
            run.computed = not cached
            self.published.update(run.outputs.values())
            self.move(run, "cached" if cached else "succeeded")

    def _apply(self, step: Move) -> None:
        run = self.runs[step.run_id]
        match step:
            case FillInput():
                view = run.inputs[step.port]
                assert view.artifact_key is None
                run.inputs[step.port] = replace(view, artifact_key=step.artifact_key)
            case MakeReady():
                run.key = step.key
                self.move(run, "ready")
            case MakeCached():
                run.key, run.outputs = step.key, step.outputs
                self.move(run, "cached")
            case GiveUp():
                self.move(run, "cancelled")


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Some runs, each reading outputs of earlier ones."""
    runs: list[Simulated] = []
    for number in range(draw(st.integers(1, 9))):
        spec = draw(st.sampled_from(SPECS))
        chosen = draw(st.lists(st.sampled_from(runs), max_size=3)) if runs else []
        inputs = {
            f"port{index}": InputView(None, source.id, draw(st.sampled_from(sorted(source.spec.outputs))))
            for index, source in enumerate(chosen)
        }
        runs.append(Simulated(f"r{number}", spec, inputs))
    return World(runs)


def step(world: World, data: st.DataObject, outcomes: list[str]) -> bool:
    """Plans, then lets one worker end one ready run; False where none is ready."""
    world.plan_all()
    ready = [run for run in world.runs.values() if run.state == "ready"]
    if not ready:
        return False
    world.work(data.draw(st.sampled_from(ready)), data.draw(st.sampled_from(outcomes)))
    return True


@settings(max_examples=150, deadline=None)
@given(worlds(), st.data())
def test_when_workers_succeed_every_run_ends_with_outputs_and_nothing_is_computed_twice(
    world: World, data: st.DataObject
) -> None:
    for _ in range(200):
        if not step(world, data, ["succeeded"]):
            break
    assert {run.state for run in world.runs.values()} <= DONE
    computed = [run.key for run in world.runs.values() if run.computed]
    assert len(computed) == len(set(computed))
    assert all(set(run.outputs) == set(run.spec.outputs) for run in world.runs.values())


@settings(max_examples=150, deadline=None)
@given(worlds(), st.data())
def test_whatever_workers_do_every_run_ends_and_only_failures_spread(world: World, data: st.DataObject) -> None:
    outcomes = ["succeeded", "succeeded", "failed", "cancelled", "lost", "released"]
    for number in range(400):
        if not step(world, data, outcomes if number < 100 else ["succeeded"]):
            break
    assert {run.state for run in world.runs.values()} <= FINAL
    for run in world.runs.values():
        sources = {world.runs[view.source].state for view in run.inputs.values() if view.source}
        if run.state in DONE:
            assert sources <= DONE
        if run.state == "failed":
            assert sources <= DONE
        if sources & {"failed", "cancelled"}:
            assert run.state == "cancelled"


@settings(max_examples=100, deadline=None)
@given(worlds(), st.data())
def test_a_second_submission_computes_nothing(world: World, data: st.DataObject) -> None:
    while step(world, data, ["succeeded"]):
        pass
    known = set(world.published)
    again = World([Simulated(r.id, r.spec, {p: replace(v, artifact_key=None) for p, v in r.inputs.items()})
                   for r in world.runs.values()])  # fmt: skip
    again.published = set(known)
    while step(again, data, ["succeeded"]):
        pass
    assert {run.state for run in again.runs.values()} == {"cached"}
    assert again.published == known

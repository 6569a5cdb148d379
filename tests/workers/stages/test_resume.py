"""A distillation whose process is lost goes on where it was: real network, optimisers, augmentation, calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from storage.artifacts.memory_store import MemoryStore
from storage.errors import RunCancelled
from storage.specs import stages
from storage.specs.parts import Optimiser, PolySchedule, Training
from storage.specs.presets import AUTHORS_AUGMENT
from tests.workers.stages import boxes as made
from workers import trial
from workers.context import Machine
from workers.nets import checkpoints


class StopAfter(trial.Recorder):
    """Cancels a training after so many steps, as a lost worker ends it: what it had kept stays."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.left = steps

    def progress(self, **progress: Any) -> None:
        self.left -= progress["unit"] == "step"
        self.stop = RunCancelled("lost") if self.left == 0 else None


@pytest.mark.parametrize("steps", [2, 3], ids=["at the end of an epoch", "in the middle of one"])
def test_a_distillation_that_was_stopped_ends_in_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setattr("workers.learning.fit.KEEP_EVERY_S", 0.0)
    muon = Optimiser(
        learning_rate=0.002, kernel_learning_rate=0.02, schedule=PolySchedule(warmup_steps=1), epochs=3, batch_size=2
    )
    training = Training(optimiser=muon, augment=AUTHORS_AUGMENT, class_balance=0.5, calibrate_norms=True, repeats=2)
    spec = stages.Distill(voxel_m=0.1, training=training)

    def weights(name: str, *recorders: trial.Recorder) -> tuple[dict[str, torch.Tensor], trial.Recorder]:
        world = made.build(MemoryStore())
        store, machine = world.store, Machine(scratch=tmp_path / name, cache=tmp_path)
        given = {name: world.artifacts[name] for name in ("scenes", "embeddings", "text_embeddings")}
        for recorder in recorders[:-1]:
            with pytest.raises(RunCancelled):
                trial.run_stage(spec, store, given, machine=machine, recorder=recorder)
        done = trial.run_stage(spec, store, given, machine=machine, recorder=recorders[-1])
        part = store.part(done.artifacts["network"].parts[0].key)
        assert part is not None
        return checkpoints.load(part.file(checkpoints.FILE), expected="network")[0], recorders[-1]

    whole, _ = weights("whole", trial.Recorder())
    resumed, heard = weights("resumed", StopAfter(steps), trial.Recorder())
    assert heard.notes[0].startswith(f"resumed after step {steps} of ")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)

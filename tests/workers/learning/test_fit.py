"""The training loop: what it minimises, records, and how it goes on after being stopped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import obstore
import pytest
import torch
from obstore.store import MemoryStore as Bucket
from safetensors.torch import load_file
from torch import Tensor, nn

from storage.artifacts.memory_store import MemoryStore
from storage.artifacts.objects import Objects
from storage.artifacts.run_files import RunFiles
from storage.errors import RunCancelled, StoreUnreachable, TrainingFailed
from storage.specs.parts import Optimiser, StepSchedule
from storage.specs.stages import Specialize
from workers.context import Context, Machine
from workers.learning.fit import Job, fit
from workers.trial import Recorder

OPTIMISER = Optimiser(learning_rate=0.05, schedule=StepSchedule(), epochs=6, batch_size=1)


class StopAfter(Recorder):
    """A recorder that cancels the run after so many checks."""

    def __init__(self, checks: int) -> None:
        super().__init__()
        self.left = checks

    def check(self) -> None:
        self.left -= 1
        if self.left <= 0:
            raise RunCancelled("enough")


def context(scratch: Path, recorder: Recorder) -> Context:
    return Context(Specialize(), MemoryStore(), "token", {}, recorder, Machine(scratch=scratch))


def job(target: float = 3.0) -> Job:
    torch.manual_seed(0)
    model = nn.Linear(2, 1)

    def batches(epoch: int, first: int) -> Iterator[object]:
        generator = torch.Generator().manual_seed(epoch)
        yield from [torch.randn(8, 2, generator=generator) for _ in range(5)][first:]

    def loss(batch: object) -> Tensor:
        x = cast(Tensor, batch)
        return ((model(x) - target * x.sum(dim=1, keepdim=True)) ** 2).mean()

    return Job(model, OPTIMISER, 5, batches, loss)


def weights(of: Job) -> list[float]:
    return torch.cat([p.flatten() for p in of.model.parameters()]).tolist()


def test_the_loss_falls_and_every_step_is_recorded(tmp_path: Path) -> None:
    heard = Recorder()
    fit(context(tmp_path, heard), job())
    losses = [(step, value) for name, step, value in heard.metrics if name == "loss"]
    assert [step for step, _ in losses] == list(range(1, 31))
    assert losses[-1][1] < 0.5 * losses[0][1]
    assert heard.last_progress["done"] == heard.last_progress["total"] == 30


@pytest.mark.parametrize(("keep_every_s", "kept"), [(1e9, 10), (0.0, 13)], ids=["an epoch", "a step"])
def test_a_stopped_training_resumes_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep_every_s: float, kept: int
) -> None:
    monkeypatch.setattr("workers.learning.fit.KEEP_EVERY_S", keep_every_s)
    whole = job()
    fit(context(tmp_path / "whole", Recorder()), whole)
    first, second = job(), job()
    with pytest.raises(RunCancelled):
        fit(context(tmp_path / "halves", StopAfter(13)), first)
    heard = Recorder()
    fit(context(tmp_path / "halves", heard), second)
    assert heard.notes == [f"resumed after step {kept} of 30"]
    assert [step for name, step, _ in heard.metrics if name == "loss"] == list(range(kept + 1, 31))
    assert weights(second) == weights(whole)
    assert weights(first) != weights(whole)


def test_what_is_kept_is_safetensors_and_a_torn_file_begins_anew(tmp_path: Path) -> None:
    fit(context(tmp_path, Recorder()), job())
    (kept,) = tmp_path.iterdir()
    tensors = {name: tensor.clone() for name, tensor in load_file(kept).items()}
    assert {"model.weight", "optimisers.adam.0.exp_avg", "optimisers.adam.1.step"} <= tensors.keys()
    kept.write_bytes(kept.read_bytes()[:100])
    heard, again = Recorder(), job()
    fit(context(tmp_path, heard), again)
    assert heard.notes == []
    assert weights(again) == tensors["model.weight"].flatten().tolist() + tensors["model.bias"].tolist()


def test_weights_that_the_last_step_makes_infinite_are_refused_by_name(tmp_path: Path) -> None:
    wild = OPTIMISER.model_copy(update={"learning_rate": 1e39, "epochs": 1, "accumulate": 5})
    with pytest.raises(TrainingFailed, match=r"after the last step 2 of 2 tensors are not finite \(weight, bias"):
        fit(context(tmp_path, Recorder()), replace(job(), optimiser=wild))


def test_a_loss_that_is_not_finite_names_the_step(tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match="at step 0 of 30"):
        fit(context(tmp_path, Recorder()), job(target=float("nan")))


def test_accumulated_batches_step_as_one_batch_of_them_all(tmp_path: Path) -> None:
    def of(size: int, accumulate: int) -> Job:
        torch.manual_seed(0)
        model = nn.Linear(2, 1)
        x = torch.randn(6, 8, 2, generator=torch.Generator().manual_seed(3))

        def batches(epoch: int, first: int) -> Iterator[object]:
            yield from (x if size == 8 else x.reshape(3, 16, 2))[first:]

        def loss(batch: object) -> Tensor:
            return (model(cast(Tensor, batch)) ** 2).mean()

        optimiser = OPTIMISER.model_copy(update={"accumulate": accumulate})
        return Job(model, optimiser, 6 if size == 8 else 3, batches, loss)

    small, large, plain = of(8, 2), of(16, 1), of(8, 1)
    for name, one in {"small": small, "large": large, "plain": plain}.items():
        fit(context(tmp_path / name, Recorder()), one)
    assert weights(small) == pytest.approx(weights(large), abs=1e-6)
    assert weights(small) != pytest.approx(weights(plain), abs=1e-3)


def test_an_epoch_without_a_whole_step_is_refused(tmp_path: Path) -> None:
    few = job()
    with pytest.raises(TrainingFailed, match="5 batches, a step takes 6"):
        fit(context(tmp_path, Recorder()), replace(few, optimiser=OPTIMISER.model_copy(update={"accumulate": 6})))


def test_a_loss_that_is_not_finite_names_the_scenes_of_its_batch(tmp_path: Path) -> None:
    bad = replace(job(target=float("nan")), scenes=lambda _batch: ("room_a", "room_b"))
    with pytest.raises(TrainingFailed, match="epoch 0, room_a, room_b"):
        fit(context(tmp_path, Recorder()), bad)


def test_a_step_that_a_gpu_has_no_memory_for_names_the_fields_that_help(tmp_path: Path) -> None:
    sound = job()

    def too_large(batch: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.\nmore lines")

    given = replace(sound, loss=too_large, scenes=lambda _batch: ("room_a",))
    with pytest.raises(TrainingFailed, match=r"step 0 of 30 \(epoch 0, room_a\).*9\.00 GiB.*batch_size. from 1.*crop"):
        fit(context(tmp_path, Recorder()), given)


def on_host(root: Path, bucket: Bucket, recorder: Recorder) -> Context:
    """A run on a host that shares a bucket with others, and no disk."""
    files = RunFiles(root, Objects(bucket))
    machine = Machine(scratch=files.resume("r1", 0), files=files)
    return Context(Specialize(), MemoryStore(), "token", {}, recorder, machine)


def test_a_training_goes_on_at_a_host_that_shares_no_disk(tmp_path: Path) -> None:
    bucket, whole = Bucket(), job()
    fit(context(tmp_path / "whole", Recorder()), whole)
    with pytest.raises(RunCancelled):
        fit(on_host(tmp_path / "one", bucket, StopAfter(13)), job())
    second, heard = job(), Recorder()
    fit(on_host(tmp_path / "other", bucket, heard), second)
    assert [step for name, step, _ in heard.metrics if name == "loss"] == list(range(11, 31))
    assert weights(second) == pytest.approx(weights(whole), abs=1e-6)


def test_what_lies_on_the_host_is_kept_where_it_is_further_on(tmp_path: Path) -> None:
    bucket, older = Bucket(), Bucket()
    with pytest.raises(RunCancelled):
        fit(on_host(tmp_path / "one", older, StopAfter(6)), job())
    (name,) = (meta["path"] for page in obstore.list(older) for meta in page)
    with pytest.raises(RunCancelled):
        fit(on_host(tmp_path / "one", bucket, StopAfter(6)), job())
    obstore.put(bucket, name, obstore.get(older, name).bytes())  # an attempt that was fenced off sent it late
    heard = Recorder()
    fit(on_host(tmp_path / "one", bucket, heard), job())
    assert min(step for name, step, _ in heard.metrics if name == "loss") == 11


def test_a_checkpoint_that_cannot_be_sent_does_not_end_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object) -> None:
        raise StoreUnreachable("the bucket sleeps")

    monkeypatch.setattr(RunFiles, "send", away)
    heard = Recorder()
    fit(on_host(tmp_path, Bucket(), heard), job())
    assert heard.last_progress["done"] == 30
    assert "the bucket sleeps" in caplog.text

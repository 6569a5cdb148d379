"""What a trained network is fed of colours, and its head without bias: in training, in its file, and in prediction."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from storage.specs import presets, stages
from storage.specs.parts import Augment, Optimiser, PolySchedule, Training
from tests.workers.stages import boxes as made
from workers import trial
from workers.nets import checkpoints
from workers.nets.minkunet import MinkUNet
from workers.nets.published import export_checkpoint, import_checkpoint

BRIEF = Training(
    optimiser=Optimiser(learning_rate=0.005, schedule=PolySchedule(), epochs=1, batch_size=1),
    augment=Augment(elastic=False, colour_shift=0, colour_jitter=0),
    calibrate_norms=True,
)
SHOWN = {"plus_half": lambda c: c + 0.5, "signed": lambda c: 2 * c - 1, "ones": torch.ones_like}


def trained(world: made.World, stage: str, **fields: object) -> tuple[dict[str, Tensor], dict[str, object], Path]:
    """Tensors, description and file of a network that a stage trained; `predict` has used it since."""
    spec = stages.parse({"stage": stage, "voxel_m": 0.1, "training": BRIEF.model_dump(), **fields})
    ports = ("scenes", "ground_truth" if stage == "supervise" else "embeddings", "text_embeddings")
    inputs = {name: world.artifacts[name] for name in ports}
    network = trial.run_stage(spec, world.store, inputs).artifacts["network"]
    used = {"scenes": inputs["scenes"], "text_embeddings": inputs["text_embeddings"], "network": network}
    trial.run_stage(stages.Predict(), world.store, used)
    part = world.store.part(network.parts[0].key)
    assert part is not None
    path = Path(part.file(checkpoints.FILE))
    return *checkpoints.load(path, expected="network"), path


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What every network was fed, pass by pass."""
    seen: list[Tensor] = []
    forward = MinkUNet.forward

    def spied(net: MinkUNet, coordinates: Tensor, features: Tensor) -> Tensor:
        seen.append(features.detach().clone())
        return forward(net, coordinates, features)

    monkeypatch.setattr(MinkUNet, "forward", spied)
    return seen


@pytest.mark.parametrize("stage", ["distill", "supervise"])
def test_a_network_sees_colours_as_its_spec_says_in_training_calibration_and_prediction(
    world: made.World, fed: list[Tensor], stage: str
) -> None:
    passes = {}
    for colours in SHOWN:
        fed.clear()
        trained(world, stage, colours=colours)
        passes[colours] = list(fed)
    means = [features - 0.5 for features in passes["plus_half"]]
    assert len(means) == 2 + 2 + 1, "two training scenes, the same two for the norms, one held out"
    assert all(mean.min() >= -1e-6 and mean.max() <= 1 + 1e-6 and mean.std() > 0.05 for mean in means)
    for colours, shown in SHOWN.items():
        for mean, features in zip(means, passes[colours], strict=True):
            torch.testing.assert_close(features, shown(mean), atol=1e-6, rtol=0)


@pytest.mark.parametrize("stage", ["distill", "supervise"])
def test_a_network_trained_as_in_the_authors_code_goes_out_as_their_trainer_writes_it(
    world: made.World, tmp_path: Path, stage: str
) -> None:
    plain, about_plain, _ = trained(world, stage)
    tensors, about, path = trained(world, stage, colours="signed", head_bias=False)
    assert (about["inputs"], about["head_bias"]) == ("signed", False)
    assert not {"inputs", "head_bias"} & set(about_plain), "files of others are as they were"
    assert {name: value.shape for name, value in tensors.items()} == {n: v.shape for n, v in plain.items()}
    assert plain["final.bias"].any() and not tensors["final.bias"].any()
    assert export_checkpoint(path, tmp_path / "theirs.pth", "module.net3d.") == "", "it differs in nothing"
    theirs = torch.load(tmp_path / "theirs.pth", weights_only=True)["state_dict"]
    assert set(theirs) == {f"module.net3d.{name}" for name in tensors if name != "final.bias"}
    back = import_checkpoint(tmp_path / "theirs.pth", tmp_path / "back")
    again, about_again = checkpoints.load(tmp_path / "back", expected="network")
    assert not back.head_bias and about_again["inputs"] == "signed"
    assert all(torch.equal(value, again[name]) for name, value in tensors.items())


def test_the_preset_authors_code_sees_and_answers_as_that_code_and_the_others_as_ever() -> None:
    for preset in presets.PRESETS:
        request = presets.Request("d", "scannet20", ("train",), preset)
        for spec in (presets.distill(request), presets.supervise(request)):
            expected = ("signed", False) if preset == "authors_code" else ("plus_half", True)
            assert (spec.colours, spec.head_bias) == expected

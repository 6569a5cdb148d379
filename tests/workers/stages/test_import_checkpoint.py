"""Published checkpoints as artifacts: what is published, what it is keyed by, and what ends the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from storage.artifacts.store import ArtifactManifest
from storage.errors import InvalidInput, NotFound, SpecInvalid
from storage.specs import stages
from tests.workers.stages import boxes as made
from workers import trial
from workers.context import Machine
from workers.nets import checkpoints
from workers.nets.minkunet import MinkUNet

Change = Callable[[dict[str, Tensor]], None]


def saved(path: Path, dimension: int = made.DIMENSION, seed: int = 0, **more: Tensor) -> dict[str, Tensor]:
    """Writes a network as 3DSS-VLG's trainer does, more tensors beside it (`__` for a dot); returns its tensors."""
    torch.manual_seed(seed)
    state = MinkUNet(3, dimension, "MinkUNet14A").state_dict()
    named = {f"net3d.{name}": value for name, value in state.items() if name != "final.bias"}
    named |= {name.replace("__", "."): value for name, value in more.items()}
    torch.save({"epoch": 3, "state_dict": named}, path)
    return state


def imported(world: made.World, folder: Path, *, text: bool = True, **fields: object) -> trial.Trial:
    inputs: dict[str, ArtifactManifest] = {"text_embeddings": world.artifacts["text_embeddings"]} if text else {}
    machine = Machine(scratch=folder, cache=folder, weights=folder)
    spec = stages.parse({"stage": "import_checkpoint", "weights": "net.pth", **fields})
    return trial.run_stage(spec, world.store, inputs, machine=machine)


def test_predict_takes_what_was_imported_like_what_was_trained(world: made.World, tmp_path: Path) -> None:
    state = saved(tmp_path / "net.pth")
    network = imported(world, tmp_path, voxel_m=0.2, colours="ones").artifacts["network"]
    assert (network.kind, network.attributes["dimension"], network.attributes["arch"]) == (
        "checkpoint",
        16,
        "MinkUNet14A",
    )
    part = world.store.part(network.parts[0].key)
    assert part is not None
    tensors, about = checkpoints.load(part.file(checkpoints.FILE), expected="network")
    assert all(torch.equal(tensors[name], value) for name, value in state.items() if name != "final.bias")
    assert (about["voxel_m"], about["inputs"], about["network"]["engine"]) == (0.2, "ones", "torch")
    inputs = {name: world.artifacts[name] for name in ("scenes", "text_embeddings")}
    labels = trial.run_stage(stages.Predict(), world.store, inputs | {"network": network}).artifacts["labels"]
    assert labels.scenes == ("room_c",)


def test_the_key_follows_the_content_of_the_file(world: made.World, tmp_path: Path) -> None:
    keys = {}
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        (tmp_path / name).mkdir()
        saved(tmp_path / name / "net.pth", seed=seed)
        keys[name] = imported(world, tmp_path / name).artifacts["network"].key
    assert keys["one"] == keys["same"] != keys["other"]
    assert imported(world, tmp_path / "one", voxel_m=0.05).artifacts["network"].key != keys["one"]


def test_an_adapter_in_the_same_file_is_left_out_and_named(world: made.World, tmp_path: Path) -> None:
    saved(tmp_path / "net.pth", adapter__fc__0__weight=torch.zeros(4, 16), adapter__odd=torch.zeros(1))
    done = imported(world, tmp_path)
    assert done.artifacts["network"].attributes["left_out"] == ["adapter.fc.0.weight", "adapter.odd"]
    (note,) = done.recorder.notes
    assert "net.pth" in note and "adapter.fc.0.weight, adapter.odd" in note
    saved(tmp_path / "net.pth")
    done = imported(world, tmp_path)
    assert done.artifacts["network"].attributes["left_out"] == [] and not done.recorder.notes


def drop(state: dict[str, Tensor]) -> None:
    del state["net3d.block3.0.conv1.kernel"]


def add(state: dict[str, Tensor]) -> None:
    state["net3d.block9.0.conv1.kernel"] = torch.zeros(1)


def spoil(state: dict[str, Tensor]) -> None:
    state["net3d.bn1.bn.bias"][0] = float("nan")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop, r"net\.pth.*block3\.0\.conv1\.kernel is missing"),
        (add, r"net\.pth.*block9\.0\.conv1\.kernel is surplus"),
        (spoil, r"net\.pth.*not finite in bn1\.bn\.bias"),
    ],
)
def test_wrong_tensors_are_named(world: made.World, tmp_path: Path, change: Change, words: str) -> None:
    saved(tmp_path / "net.pth")
    state = torch.load(tmp_path / "net.pth", weights_only=True)["state_dict"]
    change(state)
    torch.save({"state_dict": state}, tmp_path / "net.pth")
    with pytest.raises(InvalidInput, match=words):
        imported(world, tmp_path)


def test_another_dimension_than_the_text_s_ends_the_run_and_needs_the_text_to_be_seen(
    world: made.World, tmp_path: Path
) -> None:
    saved(tmp_path / "net.pth", dimension=20)
    with pytest.raises(SpecInvalid, match=r"net\.pth has 20 values, the text embeddings have 16"):
        imported(world, tmp_path)
    assert imported(world, tmp_path, text=False).artifacts["network"].attributes["dimension"] == 20


def test_what_is_no_network_s_file(world: made.World, tmp_path: Path) -> None:
    (tmp_path / "other.pth").write_bytes(b"")
    with pytest.raises(NotFound, match=r"no file net\.pth in the folder of weights .*holds: other\.pth"):
        imported(world, tmp_path)
    with pytest.raises(NotFound, match="which holds: no file"):
        imported(world, tmp_path / "nowhere")
    (tmp_path / "net.pth").mkdir()
    with pytest.raises(InvalidInput, match=r"got net\.pth, a folder"):
        imported(world, tmp_path)
    weights = {"fc.0.weight": torch.zeros(4, 16), "fc.1.weight": torch.zeros(16, 4), "fc.1.bias": torch.zeros(16)}
    torch.save({"model_state_dict": weights}, tmp_path / "adapter.pth")
    with pytest.raises(InvalidInput, match=r"adapter\.pth: got a checkpoint of the adapter alone"):
        imported(world, tmp_path, weights="adapter.pth")

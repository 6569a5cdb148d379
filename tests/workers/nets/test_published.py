"""Checkpoints of the published trainers, made here from MinkowskiEngine's names as design.md gives them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from storage.errors import InvalidInput, StoreCorrupt
from storage.specs.parts import Adapter as AdapterSpec
from storage.specs.parts import Network
from tests.oracles import minkowski_names
from workers.__main__ import main
from workers.nets import checkpoints
from workers.nets.adapter import make_adapter
from workers.nets.inputs import as_inputs
from workers.nets.minkunet import MinkUNet
from workers.nets.published import Prefix, export_checkpoint, import_checkpoint, recognise

D = 16
PREFIXES: tuple[Prefix, ...] = ("", "module.", "net3d.", "module.net3d.")


def state_of(
    arch: str = "MinkUNet14A", in_channels: int = 3, dimension: int = D, *, bias: bool = True
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(7)
    state = {
        name: torch.tensor(41) if shape == () else torch.rand(shape, generator=generator)
        for name, shape in minkowski_names.tensors(arch, in_channels, dimension).items()
    }
    if not bias:
        del state["final.bias"]
    return state


def as_the_trainer_saves(path: Path, state: dict[str, Tensor], prefix: str = "module.net3d.", **options: Any) -> Path:
    """With the optimiser's state and the best score, a scalar of NumPy, beside the weights."""
    named = {prefix + name: value for name, value in state.items()}
    optimiser = {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    content = {"epoch": 100, "state_dict": named, "optimizer": optimiser, "best_iou": np.mean([0.25, 0.5])}
    torch.save(content, path, **options)
    return path


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("arch", ["MinkUNet14A", "MinkUNet18A", "MinkUNet34A"])
def test_in_and_out_again_bit_for_bit(tmp_path: Path, arch: str, prefix: Prefix) -> None:
    state = state_of(arch)
    source = as_the_trainer_saves(tmp_path / "model_best.pth.tar", state, prefix)
    ours, back = tmp_path / "ours.safetensors", tmp_path / "back.pth"
    found = import_checkpoint(source, ours)
    assert (found.what, found.arch, found.in_channels, found.dimension) == ("network", arch, 3, D)
    assert (found.prefix, found.head_bias) == (prefix, True)
    assert found.num_parameters == sum(math.prod(s) for s in minkowski_names.parameters(arch, 3, D).values())
    export_checkpoint(ours, back, prefix)
    content = torch.load(back, weights_only=True)
    assert list(content) == ["state_dict"]
    assert list(content["state_dict"]) == [prefix + name for name in state]
    for name, value in state.items():
        returned = content["state_dict"][prefix + name]
        assert returned.dtype == value.dtype
        assert returned.shape == value.shape
        assert returned.numpy().tobytes() == value.numpy().tobytes(), name


def test_what_came_in_is_a_checkpoint_as_training_leaves_them(tmp_path: Path) -> None:
    state = state_of("MinkUNet18A")
    import_checkpoint(as_the_trainer_saves(tmp_path / "a.pth", state), tmp_path / "ours", voxel_m=0.05, inputs="ones")
    tensors, about = checkpoints.load(tmp_path / "ours", expected="network")
    assert Network.model_validate(about["network"]).arch == "MinkUNet18A"
    assert (about["dimension"], about["voxel_m"], about["inputs"]) == (D, 0.05, "ones")
    net = MinkUNet(3, about["dimension"], "MinkUNet18A")
    net.load_state_dict(tensors)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


def test_a_network_of_ours_goes_out_and_comes_back_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = MinkUNet(3, D, "MinkUNet14A").eval()
    about = {"what": "network", "network": Network(arch="MinkUNet14A").model_dump(), "dimension": D, "voxel_m": 0.02}
    checkpoints.save(tmp_path / "ours", net.state_dict(), **about)
    said = export_checkpoint(tmp_path / "ours", tmp_path / "out.pth", "net3d.")
    assert "final.bias" in said and "c + 0.5" in said, (
        "a strict load of the trainers' own network meets one tensor more"
    )
    assert import_checkpoint(tmp_path / "out.pth", tmp_path / "again", inputs="plus_half").head_bias
    tensors, _ = checkpoints.load(tmp_path / "again", expected="network")
    other = MinkUNet(3, D, "MinkUNet14A").eval()
    other.load_state_dict(tensors)
    coordinates = torch.tensor([[0, x, y, 0] for x in range(5) for y in range(4)])
    colours = torch.rand(20, 3)
    assert torch.equal(net(coordinates, colours), other(coordinates, colours))


def test_a_head_without_bias_as_both_trainers_save_it(tmp_path: Path) -> None:
    state = state_of(bias=False)
    found = import_checkpoint(as_the_trainer_saves(tmp_path / "a.pth", state), tmp_path / "ours")
    assert not found.head_bias
    tensors, _ = checkpoints.load(tmp_path / "ours", expected="network")
    assert tensors["final.bias"].tolist() == [[0.0] * D]
    assert export_checkpoint(tmp_path / "ours", tmp_path / "back.pth", "") == "", "as their trainers save it"
    assert list(torch.load(tmp_path / "back.pth", weights_only=True)["state_dict"]) == list(state)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", None])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_where_the_state_lies_and_how_old_the_file_is(tmp_path: Path, key: str | None, zipped: bool) -> None:
    state = state_of()
    path = tmp_path / "a.pth"
    torch.save({key: state} if key else state, path, _use_new_zipfile_serialization=zipped)
    assert import_checkpoint(path, tmp_path / "ours").arch == "MinkUNet14A"


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_scores_of_any_numpy_are_not_in_the_way(tmp_path: Path, module: bytes) -> None:
    path = tmp_path / "a.pth"
    as_the_trainer_saves(path, state_of(), _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    assert content.count(b"numpy._core.multiarray\n") == 1
    path.write_bytes(content.replace(b"numpy._core.multiarray\n", module + b"\n"))
    assert import_checkpoint(path, tmp_path / "ours").arch == "MinkUNet14A"


@pytest.mark.parametrize(("arch", "in_channels", "dimension"), [("MinkUNet18A", 3, 768), ("MinkUNet34A", 6, 20)])
def test_recognise_reads_what_it_is_from_the_tensors(arch: str, in_channels: int, dimension: int) -> None:
    shapes = minkowski_names.tensors(arch, in_channels, dimension)
    assert recognise({n: torch.empty(s, device="meta") for n, s in shapes.items()}) == (arch, in_channels, dimension)


class Malicious:
    """Pickled, it would write a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("place", ["beside", "inside"])
def test_code_in_a_checkpoint_is_never_run(tmp_path: Path, place: str, zipped: bool) -> None:
    path, written = tmp_path / "a.pth", tmp_path / "written"
    state: dict[str, Any] = dict(state_of())
    (state if place == "inside" else (content := {"state_dict": state}))["extra"] = Malicious(written)
    torch.save(content if place == "beside" else state, path, _use_new_zipfile_serialization=zipped)
    torch.load(path, weights_only=False)
    assert written.exists(), "the file is harmless, so the test would show nothing"
    written.unlink()
    with pytest.raises(InvalidInput, match=r"a\.pth: got Python objects \(.*exec\)") as error:
        import_checkpoint(path, tmp_path / "ours")
    assert not written.exists()
    assert not (tmp_path / "ours").exists()
    assert "weights_only" not in str(error.value)


def refusal(tmp_path: Path, state: dict[str, Any], prefix: str = "net3d.") -> str:
    with pytest.raises(InvalidInput) as error:
        import_checkpoint(as_the_trainer_saves(tmp_path / "a.pth", state, prefix), tmp_path / "ours")
    assert not (tmp_path / "ours").exists()
    return str(error.value)


def test_every_wrong_tensor_is_named(tmp_path: Path) -> None:
    state = state_of("MinkUNet18A")
    del state["block3.1.norm2.bn.running_var"]
    state["block9.0.conv1.kernel"] = torch.zeros(1)
    state["bn2.bn.bias"] = torch.zeros(65)
    message = refusal(tmp_path, state)
    assert "a.pth" in message
    assert "nearest is MinkUNet18A with 3 channels in and 16 out, from which 3 differ" in message
    assert "block3.1.norm2.bn.running_var is missing" in message
    assert "block9.0.conv1.kernel is surplus" in message
    assert "bn2.bn.bias is (65,) and not (32,)" in message


def test_a_dozen_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    state = {name: value for name, value in state_of("MinkUNet18A").items() if not name.startswith("block4.")}
    message = refusal(tmp_path, state)
    assert "from which 30 differ" in message
    assert message.count("is missing") == 12
    assert message.endswith("and 18 more")


def test_networks_of_other_widths_and_other_networks_are_refused(tmp_path: Path) -> None:
    wider = state_of("MinkUNet18A")
    wider["convtr7p2s2.kernel"] = torch.zeros(8, 96, 128)
    assert "convtr7p2s2.kernel is (8, 96, 128) and not (8, 96, 96)" in refusal(tmp_path, wider)
    assert "expected those of a MinkUNet" in refusal(tmp_path, {"layer1.weight": torch.zeros(2, 2)})
    assert "got a network of 6 channels, expected 3" in refusal(tmp_path, state_of(in_channels=6))


def test_what_lacks_the_prefix_of_the_others_is_surplus(tmp_path: Path) -> None:
    named = {f"net3d.{name}": value for name, value in state_of().items()}
    assert "decoder.0.weight is surplus" in refusal(tmp_path, {**named, "decoder.0.weight": torch.zeros(4, 16)}, "")
    twice = {**named, "bn0.bn.bias": torch.zeros(32)}
    assert "with and without the prefix" in refusal(tmp_path, twice, "")


def test_values_that_are_not_finite_are_named(tmp_path: Path) -> None:
    state = state_of()
    state["bn1.bn.running_var"][3] = float("nan")
    assert "not finite in bn1.bn.running_var" in refusal(tmp_path, state)


def test_files_that_are_no_state_dict(tmp_path: Path) -> None:
    whole = as_the_trainer_saves(tmp_path / "whole.pth", state_of()).read_bytes()
    old = as_the_trainer_saves(tmp_path / "old.pth", state_of(), _use_new_zipfile_serialization=False).read_bytes()
    contents = {"empty": b"", "noise": bytes(range(256)), "text": b"<html>not found</html>", "zip": b"PK\x03\x04"}
    cut = {f"cut{i}": file[: len(file) * i // 7] for file in (whole, old) for i in range(1, 7)}
    cut |= {f"start{n}": old[:n] for n in (1, 10, 11, 30, 100, 1000)}
    for name, content in (contents | cut).items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(InvalidInput, match=name):
            import_checkpoint(path, tmp_path / "ours")
    for value in ([torch.ones(2)], {}, {"state_dict": {}}):
        torch.save(value, tmp_path / "value.pth")
        with pytest.raises(InvalidInput, match="state dict"):
            import_checkpoint(tmp_path / "value.pth", tmp_path / "ours")
    torch.save({**state_of(), "epoch": 3}, tmp_path / "value.pth")
    with pytest.raises(InvalidInput, match="got other in epoch"):
        import_checkpoint(tmp_path / "value.pth", tmp_path / "ours")
    with pytest.raises(InvalidInput, match="there is no file"):
        import_checkpoint(tmp_path / "nowhere.pth", tmp_path / "ours")
    with pytest.raises(InvalidInput, match="there is no folder"):
        import_checkpoint(tmp_path / "whole.pth", tmp_path / "nowhere" / "ours")
    assert not (tmp_path / "ours").exists()


def published_adapter(hidden: int = 4) -> dict[str, Tensor]:
    shapes = {"fc.0.weight": (hidden, D), "fc.1.weight": (D, hidden), "fc.1.bias": (D,)}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_published_adapter_in_and_out(tmp_path: Path, prefix: str) -> None:
    state = published_adapter()
    named = {prefix + name: value for name, value in state.items()}
    torch.save({"epoch": 3, "miou": np.float64(0.4), "model_state_dict": named}, tmp_path / "best_model.pth")
    found = import_checkpoint(tmp_path / "best_model.pth", tmp_path / "ours")
    assert (found.what, found.arch, found.dimension, found.num_parameters) == ("adapter", None, D, 2 * 4 * D + D)
    tensors, about = checkpoints.load(tmp_path / "ours", expected="adapter")
    adapter = make_adapter(about["dimension"], AdapterSpec.model_validate(about["adapter"]))
    adapter.load_state_dict(tensors)
    p = torch.randn(5, D)
    mlp = p @ state["fc.0.weight"].T @ state["fc.1.weight"].T + state["fc.1.bias"]
    torch.testing.assert_close(adapter(p), mlp * (1 - 0.05) + p * 0.05)
    export_checkpoint(tmp_path / "ours", tmp_path / "back.pth", prefix, what="adapter")
    returned = torch.load(tmp_path / "back.pth", weights_only=True)["model_state_dict"]
    assert list(returned) == list(named)
    assert all(torch.equal(value, named[name]) for name, value in returned.items())


def test_wrong_adapters_are_refused(tmp_path: Path) -> None:
    state = published_adapter()
    state["fc.1.weight"] = torch.zeros(D, 5)
    state["fc.0.bias"] = torch.zeros(4)
    message = refusal(tmp_path, state, "")
    assert "fc.1.weight is (16, 5) and not (16, 4)" in message
    assert "fc.0.bias is surplus" in message
    transformer = AdapterSpec(kind="transformer", hidden=8)
    checkpoints.save(
        tmp_path / "t", make_adapter(D, transformer).state_dict(), what="adapter", adapter=transformer.model_dump()
    )
    with pytest.raises(InvalidInput, match="not an MLP"):
        export_checkpoint(tmp_path / "t", tmp_path / "out.pth", "", what="adapter")


def both(adapter: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A network, and the state of a model that holds it and an adapter, as 3DSS-VLG's trainer saves it."""
    network = state_of(bias=False)
    named = {f"net3d.{name}": value for name, value in network.items()}
    return network, {**named, **{f"adapter.{name}": value for name, value in adapter.items()}}


@pytest.mark.parametrize("prefix", ["", "module."])
def test_of_a_file_with_network_and_adapter_one_is_taken_and_the_other_named(tmp_path: Path, prefix: str) -> None:
    adapter = published_adapter()
    network, state = both(adapter)
    source = as_the_trainer_saves(tmp_path / "both.pth", state, prefix)
    found = import_checkpoint(source, tmp_path / "ours")
    assert (found.what, found.arch, found.prefix, found.head_bias) == (
        "network",
        "MinkUNet14A",
        f"{prefix}net3d.",
        False,
    )
    assert found.left_out == tuple(f"{prefix}adapter.{name}" for name in adapter)
    assert found.num_parameters == sum(
        math.prod(s) for n, s in minkowski_names.parameters("MinkUNet14A", 3, D).items() if n != "final.bias"
    )
    tensors, _ = checkpoints.load(tmp_path / "ours", expected="network")
    assert set(tensors) == {*network, "final.bias"}
    assert all(torch.equal(tensors[name], value) for name, value in network.items())
    other = import_checkpoint(source, tmp_path / "adapter", what="adapter")
    assert (other.what, other.prefix, other.dimension, other.hidden) == ("adapter", f"{prefix}adapter.", D, 4)
    assert len(other.left_out) == len(network) and "net3d" in other.remark
    taken, _ = checkpoints.load(tmp_path / "adapter", expected="adapter")
    assert torch.equal(taken["mlp.1.bias"], adapter["fc.1.bias"])


def test_an_adapter_of_another_form_is_in_nobody_s_way_until_it_is_asked_for(tmp_path: Path) -> None:
    _, state = both({"layers.0.weight": torch.zeros(4, D)})
    source = as_the_trainer_saves(tmp_path / "both.pth", state, "")
    found = import_checkpoint(source, tmp_path / "ours")
    assert found.left_out == ("adapter.layers.0.weight",)
    assert "left out 1 tensors of the adapter in the same file: adapter.layers.0.weight" in found.remark
    with pytest.raises(InvalidInput, match=r"both\.pth.*layers\.0\.weight is surplus"):
        import_checkpoint(source, tmp_path / "adapter", what="adapter")
    assert import_checkpoint(as_the_trainer_saves(tmp_path / "a.pth", state_of()), tmp_path / "b").remark == ""


def test_a_part_that_the_file_does_not_hold_is_an_error(tmp_path: Path) -> None:
    network = as_the_trainer_saves(tmp_path / "network.pth", state_of())
    with pytest.raises(InvalidInput, match=r"network\.pth: got a checkpoint of the network alone"):
        import_checkpoint(network, tmp_path / "ours", what="adapter")
    torch.save(published_adapter(), tmp_path / "adapter.pth")
    with pytest.raises(InvalidInput, match=r"adapter\.pth: got a checkpoint of the adapter alone"):
        import_checkpoint(tmp_path / "adapter.pth", tmp_path / "ours", what="network")


def test_the_command_says_what_it_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = as_the_trainer_saves(tmp_path / "both.pth", both(published_adapter())[1], "")
    assert main(["checkpoint", "import", str(source), str(tmp_path / "ours")]) == 0
    said = capsys.readouterr().out
    assert "MinkUNet14A, D = 16" in said and "left out 3 tensors of the adapter" in said and "adapter.fc.1.bias" in said
    assert main(["checkpoint", "import", str(source), str(tmp_path / "ours"), "--what", "adapter"]) == 0
    assert "adapter, D = 16" in capsys.readouterr().out


def test_exports_that_cannot_be(tmp_path: Path) -> None:
    import_checkpoint(as_the_trainer_saves(tmp_path / "a.pth", state_of()), tmp_path / "ours")
    with pytest.raises(InvalidInput, match="got the prefix 'model.', expected one of '', 'module.'"):
        export_checkpoint(tmp_path / "ours", tmp_path / "out.pth", "model.")
    with pytest.raises(StoreCorrupt, match="expected one of 'adapter'"):
        export_checkpoint(tmp_path / "ours", tmp_path / "out.pth", "", what="adapter")
    with pytest.raises(StoreCorrupt, match="cannot be read"):
        export_checkpoint(tmp_path / "a.pth", tmp_path / "out.pth", "")
    assert not (tmp_path / "out.pth").exists()


def test_what_networks_are_fed() -> None:
    colours = torch.tensor([[0.0, 0.5, 1.0]])
    assert as_inputs(colours, "plus_half").tolist() == [[0.5, 1.0, 1.5]]
    assert as_inputs(colours, "signed").tolist() == [[-1.0, 0.0, 1.0]]
    assert as_inputs(colours, "ones").tolist() == [[1.0, 1.0, 1.0]]

"""Checkpoints of the published trainers, in and out: OpenScene's and 3DSS-VLG's `.pth` files, and our safetensors.

Knows the names that MinkUNet's parameters and the adapter's have there; no stage, no store, no scene.

What differs: both trainers save MinkowskiEngine's names under `state_dict`, with the prefix of the module that holds
the network (`net3d.`) and that of data parallel training (`module.`). Their head has no bias, where ours and
MinkowskiEngine's example have one: it comes in as zeros and does not go out again. The colours that they feed the
network are not ours either: see `InputFeatures`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from storage.errors import InvalidInput
from storage.specs.parts import Adapter as AdapterSpec
from storage.specs.parts import Network
from workers.nets import checkpoints
from workers.nets.minkunet import Arch, MinkUNet
from workers.nets.torch_file import read_state_dict, some

Prefix = Literal["", "module.", "net3d.", "module.net3d."]
InputFeatures = Literal["plus_half", "signed", "ones"]
"""What a voxel's three input values are, of its colour c in 0..1: `plus_half` c + 0.5, as networks trained here see
it; `signed` 2c - 1, as 3DSS-VLG's; `ones` three ones and no colour, as OpenScene's."""

_HEAD_BIAS = "final.bias"
_ADAPTER_NAMES = {"fc.0.weight": "mlp.0.weight", "fc.1.weight": "mlp.1.weight", "fc.1.bias": "mlp.1.bias"}


class Recognised(NamedTuple):
    """What network a state dict is of."""

    arch: Arch
    in_channels: int
    dimension: int


@dataclass(frozen=True, slots=True)
class Imported:
    """What came in."""

    what: Literal["network", "adapter"]
    arch: Arch | None
    """None for an adapter."""
    in_channels: int
    dimension: int
    num_parameters: int
    prefix: str
    """What stood before every name."""
    head_bias: bool
    """Whether the head had a bias; where not, ours is zero."""


def recognise(state: Mapping[str, Tensor]) -> Recognised:
    """The network whose tensors these are, to the last name and shape; the head's bias may be missing.

    Args:
        state: name -> tensor, names as MinkowskiEngine's MinkUNet has them, without prefix.

    Raises:
        InvalidInput: not one of the networks known here; names what differs from the nearest of them.
    """
    stem, head = state.get("conv0p1s1.kernel"), state.get("final.kernel")
    if stem is None or head is None or stem.ndim != 3 or head.ndim != 2:
        raise InvalidInput(
            f"got tensors named {some(list(state))}, expected those of a MinkUNet: conv0p1s1.kernel (125, channels, "
            "32) to final.kernel (width, D), as MinkowskiEngine names them"
        )
    in_channels, dimension = int(stem.shape[1]), int(head.shape[1])
    arches: tuple[Arch, ...] = get_args(Arch)
    differences = {arch: _differences(state, _expected(arch, in_channels, dimension)) for arch in arches}
    arch = min(arches, key=lambda name: len(differences[name]))
    if differences[arch]:
        raise InvalidInput(
            f"the tensors are none of {', '.join(arches)}; the nearest is {arch} with {in_channels} channels in and "
            f"{dimension} out, from which {len(differences[arch])} differ: {some(differences[arch])}"
        )
    return Recognised(arch, in_channels, dimension)


def import_checkpoint(
    source: Path, target: Path, *, voxel_m: float = 0.02, inputs: InputFeatures = "signed"
) -> Imported:
    """Writes a published checkpoint, of a MinkUNet or of the ESS adapter, as one of ours.

    Args:
        source: a `.pth` or `.pth.tar` of torch: a state dict, plain or under `state_dict` or `model_state_dict`.
        target: the safetensors file to write; replaced where it exists.
        voxel_m: edge of the voxels that the network was trained on, metres; the file does not say.
        inputs: what the network was fed; the file does not say either. Kept as `inputs` in the description.

    Raises:
        InvalidInput: no such file, not a checkpoint of torch, Python objects in it, tensors missing, surplus, of
            another shape or not finite (they are named), a network that does not take three channels.
    """
    state, prefix = _without_prefix(read_state_dict(source), source)
    wrong = [name for name, value in state.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if wrong:
        raise InvalidInput(f"{source.name}: values that are not finite in {some(wrong)}; take another checkpoint")
    _check_folder(target)
    num_parameters = sum(value.numel() for name, value in state.items() if not _is_buffer(name))
    if "fc.0.weight" in state:
        hidden, dimension = _recognise_adapter(state, source)
        checkpoints.save(
            target, {_ADAPTER_NAMES[name]: value.clone() for name, value in state.items()}, what="adapter",
            adapter=AdapterSpec(hidden=hidden).model_dump(), dimension=dimension,
        )  # fmt: skip
        return Imported("adapter", None, dimension, dimension, num_parameters, prefix, head_bias=True)
    try:
        found = recognise(state)
    except InvalidInput as error:
        raise InvalidInput(f"{source.name}: {error.message}") from error
    if found.in_channels != 3:
        raise InvalidInput(f"{source.name}: got a network of {found.in_channels} channels, expected 3, a colour's")
    head_bias = _HEAD_BIAS in state
    if not head_bias:
        state[_HEAD_BIAS] = state["final.kernel"].new_zeros(1, found.dimension)
    checkpoints.save(
        target, {name: value.clone() for name, value in state.items()}, what="network",
        network=Network(arch=found.arch).model_dump(), dimension=found.dimension, voxel_m=voxel_m, inputs=inputs,
        head_bias=head_bias,
    )  # fmt: skip
    return Imported("network", *found, num_parameters, prefix, head_bias)


def export_checkpoint(
    source: Path, target: Path, prefix: str, *, what: Literal["network", "adapter"] = "network"
) -> None:
    """Writes one of our checkpoints as the published trainers do: a state dict of torch, in MinkowskiEngine's order.

    A network lies under `state_dict`; a head's bias that the import added is left out. An adapter lies under
    `model_state_dict`.

    Args:
        source: our safetensors file.
        target: the `.pth` to write; replaced where it exists.
        prefix: what to put before every name: nothing, `module.`, `net3d.` (as the trainers' networks on one GPU) or
            `module.net3d.` (on several).
        what: of what the checkpoint is.

    Raises:
        InvalidInput: another prefix; an adapter of a kind that was never published.
        StoreCorrupt: the source is no checkpoint of ours, or one of something else.
    """
    if prefix not in get_args(Prefix):
        raise InvalidInput(f"got the prefix {prefix!r}, expected one of {', '.join(map(repr, get_args(Prefix)))}")
    _check_folder(target)
    tensors, about = checkpoints.load(source, expected=what)
    if what == "adapter":
        if set(tensors) != set(_ADAPTER_NAMES.values()):
            raise InvalidInput("got an adapter that is not an MLP, expected one: no other kind was ever published")
        out = {prefix + published: tensors[ours] for published, ours in _ADAPTER_NAMES.items()}
        torch.save({"model_state_dict": out}, target)
        return
    if not about.get("head_bias", True) and not bool(tensors[_HEAD_BIAS].any()):
        del tensors[_HEAD_BIAS]
    order = _expected(*recognise(tensors))
    torch.save({"state_dict": {prefix + name: tensors[name] for name in order if name in tensors}}, target)


def as_inputs(colours: Tensor, inputs: InputFeatures) -> Tensor:
    """(V,3) what a network takes, of voxels' colours (V,3) in 0..1; see `InputFeatures`."""
    if inputs == "ones":
        return torch.ones_like(colours)
    return colours + 0.5 if inputs == "plus_half" else 2 * colours - 1


def _without_prefix(state: dict[str, Tensor], source: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors by the names that follow the prefix, and the prefix.

    What lacks `net3d.` where others have it keeps its name, and so is surplus.
    """
    prefix = "module." if all(name.startswith("module.") for name in state) else ""
    state = {name.removeprefix(prefix): value for name, value in state.items()}
    if not any(name.startswith("net3d.") for name in state):
        return state, prefix
    bare = {name.removeprefix("net3d."): value for name, value in state.items()}
    if len(bare) != len(state):
        raise InvalidInput(f"{source.name}: tensors of one name with and without the prefix 'net3d.'")
    return bare, prefix + "net3d."


@lru_cache(maxsize=16)
def _expected(arch: Arch, in_channels: int, dimension: int) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor of a network, in order; costs no memory for weights."""
    with torch.device("meta"):
        state = MinkUNet(in_channels, dimension, arch).state_dict()
    return {name: tuple(value.shape) for name, value in state.items()}


def _differences(state: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> list[str]:
    """What is missing, surplus or of another shape, each in words."""
    missing = [f"{name} is missing" for name in expected if name not in state and name != _HEAD_BIAS]
    surplus = [f"{name} is surplus" for name in state if name not in expected]
    shaped = [
        f"{name} is {tuple(value.shape)} and not {expected[name]}"
        for name, value in state.items()
        if name in expected and tuple(value.shape) != expected[name]
    ]
    return shaped + missing + surplus


def _recognise_adapter(state: Mapping[str, Tensor], source: Path) -> tuple[int, int]:
    """Hidden width and D of the published adapter."""
    first = state["fc.0.weight"]
    hidden, dimension = (int(first.shape[0]), int(first.shape[1])) if first.ndim == 2 else (0, 0)
    expected = {"fc.0.weight": (hidden, dimension), "fc.1.weight": (dimension, hidden), "fc.1.bias": (dimension,)}
    differences = _differences(state, expected)
    if differences:
        raise InvalidInput(f"{source.name}: the adapter's tensors differ from what is expected: {some(differences)}")
    return hidden, dimension


def _is_buffer(name: str) -> bool:
    return name.endswith((".running_mean", ".running_var", ".num_batches_tracked"))


def _check_folder(target: Path) -> None:
    if not target.parent.is_dir():
        raise InvalidInput(f"there is no folder {target.parent} to write {target.name} to; make it first")

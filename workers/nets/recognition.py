"""What network or adapter a published state dict is of, by the names and shapes of its tensors.

Knows the names that MinkUNet's parameters and the adapter's have in OpenScene's and 3DSS-VLG's files, and the prefixes
of the modules that hold them; no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from storage.errors import InvalidInput
from workers.nets.minkunet import Arch, MinkUNet
from workers.nets.torch_file import some

What = Literal["network", "adapter"]
"""What a checkpoint is of."""
HEAD_BIAS = "final.bias"
"""The one tensor that published networks lack."""
ADAPTER_NAMES = {"fc.0.weight": "mlp.0.weight", "fc.1.weight": "mlp.1.weight", "fc.1.bias": "mlp.1.bias"}
"""The adapter's names there -> ours."""

_NETWORK_PREFIX, _ADAPTER_PREFIX = "net3d.", "adapter."


class Recognised(NamedTuple):
    """What network a state dict is of."""

    arch: Arch
    in_channels: int
    dimension: int


class Part(NamedTuple):
    """The tensors of one network or adapter of a file."""

    prefix: str
    """What stands before every name in the file."""
    tensors: dict[str, Tensor]
    """By name without prefix."""

    def names(self) -> tuple[str, ...]:
        """The names as the file has them."""
        return tuple(self.prefix + name for name in self.tensors)


def parts_of(state: Mapping[str, Tensor]) -> dict[What, Part]:
    """The network's tensors and the adapter's, either of which may be empty.

    What lacks `net3d.` where others have it, and is not the adapter's, keeps its name, and so is surplus.

    Raises:
        InvalidInput: two tensors of one name, with and without `net3d.`.
    """
    whole = "module." if all(name.startswith("module.") for name in state) else ""
    state = {name.removeprefix(whole): value for name, value in state.items()}
    if not any(name.startswith(_NETWORK_PREFIX) for name in state):
        of_adapter = "fc.0.weight" in state
        network, adapter = ({}, state) if of_adapter else (state, {})
        return {"network": Part(whole, network), "adapter": Part(whole, adapter)}
    adapter = {name: value for name, value in state.items() if name.startswith(_ADAPTER_PREFIX)}
    network = {name.removeprefix(_NETWORK_PREFIX): value for name, value in state.items() if name not in adapter}
    if len(network) + len(adapter) != len(state):
        raise InvalidInput(f"tensors of one name with and without the prefix {_NETWORK_PREFIX!r}")
    bare = {name.removeprefix(_ADAPTER_PREFIX): value for name, value in adapter.items()}
    return {"network": Part(whole + _NETWORK_PREFIX, network), "adapter": Part(whole + _ADAPTER_PREFIX, bare)}


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
    differences = {arch: _differences(state, expected_tensors(arch, in_channels, dimension)) for arch in arches}
    arch = min(arches, key=lambda name: len(differences[name]))
    if differences[arch]:
        raise InvalidInput(
            f"the tensors are none of {', '.join(arches)}; the nearest is {arch} with {in_channels} channels in and "
            f"{dimension} out, from which {len(differences[arch])} differ: {some(differences[arch])}"
        )
    return Recognised(arch, in_channels, dimension)


@lru_cache(maxsize=16)
def expected_tensors(arch: Arch, in_channels: int, dimension: int) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor of a network, in order; costs no memory for weights."""
    with torch.device("meta"):
        state = MinkUNet(in_channels, dimension, arch).state_dict()
    return {name: tuple(value.shape) for name, value in state.items()}


def _differences(state: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> list[str]:
    """What is missing, surplus or of another shape, each in words."""
    missing = [f"{name} is missing" for name in expected if name not in state and name != HEAD_BIAS]
    surplus = [f"{name} is surplus" for name in state if name not in expected]
    shaped = [
        f"{name} is {tuple(value.shape)} and not {expected[name]}"
        for name, value in state.items()
        if name in expected and tuple(value.shape) != expected[name]
    ]
    return shaped + missing + surplus


def recognise_adapter(state: Mapping[str, Tensor]) -> tuple[int, int]:
    """Hidden width and D of the published adapter whose tensors these are.

    Raises:
        InvalidInput: not the adapter that was published; names what differs.
    """
    first = state.get("fc.0.weight")
    hidden, dimension = (int(first.shape[0]), int(first.shape[1])) if first is not None and first.ndim == 2 else (0, 0)
    expected = {"fc.0.weight": (hidden, dimension), "fc.1.weight": (dimension, hidden), "fc.1.bias": (dimension,)}
    differences = _differences(state, expected)
    if differences:
        raise InvalidInput(f"the adapter's tensors differ from what is expected: {some(differences)}")
    return hidden, dimension

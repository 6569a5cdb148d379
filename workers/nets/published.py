"""Checkpoints of the published trainers, in and out: OpenScene's and 3DSS-VLG's `.pth` files, and our safetensors.

Knows what the trainers save around a network's tensors (`recognition.py` knows these); no stage, store or scene.

What differs: both trainers save MinkowskiEngine's names under `state_dict`, with the prefix of the module that holds
the network (`net3d.`) and that of data parallel training (`module.`). 3DSS-VLG's may hold the adapter beside it
(`adapter.`): one of the two is taken at a time, and what is left out is named. Their head has no bias, where ours and
MinkowskiEngine's example have one: it comes in as zeros and does not go out again. The colours that they feed the
network are not ours either: see `InputFeatures`. A spec can ask for theirs (`head_bias`, `colours`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from storage.errors import InvalidInput
from storage.specs.parts import Adapter as AdapterSpec
from storage.specs.parts import InputFeatures, Network
from workers.nets import checkpoints
from workers.nets.minkunet import Arch
from workers.nets.recognition import (
    ADAPTER_NAMES,
    HEAD_BIAS,
    Part,
    What,
    expected_tensors,
    parts_of,
    recognise,
    recognise_adapter,
)
from workers.nets.torch_file import read_state_dict, some

Prefix = Literal["", "module.", "net3d.", "module.net3d."]


@dataclass(frozen=True, slots=True)
class Imported:
    """What came in."""

    what: What
    arch: Arch | None
    """None for an adapter."""
    in_channels: int
    dimension: int
    num_parameters: int
    prefix: str
    """What stood before every name."""
    head_bias: bool
    """Whether the head had a bias; where not, ours is zero."""
    hidden: int | None = None
    """An adapter's hidden width."""
    left_out: tuple[str, ...] = ()
    """Names of the file's tensors that belong to its other part, and were not taken."""

    @property
    def remark(self) -> str:
        """What was left out, in a sentence for people; empty where everything was taken."""
        if not self.left_out:
            return ""
        other = "adapter" if self.what == "network" else "network"
        return (
            f"left out {len(self.left_out)} tensors of the {other} in the same file: {some(list(self.left_out))}; "
            f"`python -m workers checkpoint import --what {other}` takes them, where it knows their form"
        )


def read_checkpoint(source: Path, what: What | None = None) -> tuple[Imported, dict[str, Tensor]]:
    """What a published checkpoint is of, and its tensors by our names.

    Args:
        source: a `.pth` or `.pth.tar` of torch: a state dict, plain or under `state_dict` or `model_state_dict`.
        what: which part of a file that holds both is taken; None takes the network where there is one.

    Raises:
        InvalidInput: no such file, not a checkpoint of torch, Python objects in it, tensors missing, surplus, of
            another shape or not finite (they are named), a network that does not take three channels, not a tensor of
            what is wanted.
    """
    try:
        parts = parts_of(read_state_dict(source))
        taken: What = what or ("network" if parts["network"].tensors else "adapter")
        left: What = "adapter" if taken == "network" else "network"
        if not parts[taken].tensors:
            raise InvalidInput(f"got a checkpoint of the {left} alone, expected one of the {taken}")
        return _taken(taken, parts[taken], parts[left].names())
    except InvalidInput as error:
        raise error if source.name in error.message else InvalidInput(f"{source.name}: {error.message}") from error


def _taken(what: What, part: Part, left_out: tuple[str, ...]) -> tuple[Imported, dict[str, Tensor]]:
    """What the tensors are of, and they by our names; see `read_checkpoint`."""
    state = part.tensors
    wrong = [name for name, value in state.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if wrong:
        raise InvalidInput(f"values that are not finite in {some(wrong)}; take another checkpoint")
    num_parameters = sum(value.numel() for name, value in state.items() if not _is_buffer(name))
    if what == "adapter":
        hidden, dimension = recognise_adapter(state)
        found = Imported("adapter", None, dimension, dimension, num_parameters, part.prefix, True, hidden, left_out)
        return found, {ADAPTER_NAMES[name]: value.clone() for name, value in state.items()}
    network = recognise(state)
    if network.in_channels != 3:
        raise InvalidInput(f"got a network of {network.in_channels} channels, expected 3, a colour's")
    tensors = {name: value.clone() for name, value in state.items()}
    if HEAD_BIAS not in state:
        tensors[HEAD_BIAS] = state["final.kernel"].new_zeros(1, network.dimension)
    return Imported("network", *network, num_parameters, part.prefix, HEAD_BIAS in state, None, left_out), tensors


def save_imported(
    target: Path,
    found: Imported,
    tensors: Mapping[str, Tensor],
    *,
    voxel_m: float = 0.02,
    inputs: InputFeatures = "signed",
    engine: Literal["torch", "minkowski"] = "torch",
) -> None:
    """Writes what `read_checkpoint` gave as a checkpoint of ours.

    Args:
        target: the safetensors file to write; replaced where it exists.
        found: what it is of.
        tensors: its tensors.
        voxel_m: edge of the voxels that the network was trained on, metres; published files do not say.
        inputs: what the network was fed; they do not say either. Kept as `inputs` in the description.
        engine: what the network shall run on.
    """
    if found.what == "adapter":
        about: dict[str, Any] = {"adapter": AdapterSpec(hidden=found.hidden).model_dump()}
    else:
        assert found.arch is not None
        network = Network(arch=found.arch, engine=engine).model_dump()
        about = {"network": network, "voxel_m": voxel_m, "inputs": inputs, "head_bias": found.head_bias}
    checkpoints.save(target, tensors, what=found.what, dimension=found.dimension, **about)


def import_checkpoint(
    source: Path,
    target: Path,
    *,
    voxel_m: float = 0.02,
    inputs: InputFeatures = "signed",
    what: What | None = None,
) -> Imported:
    """Writes a published checkpoint, of a MinkUNet or of the ESS adapter, as one of ours.

    Args:
        source: as in `read_checkpoint`.
        target: the safetensors file to write; replaced where it exists.
        voxel_m: as in `save_imported`.
        inputs: as in `save_imported`.
        what: as in `read_checkpoint`.

    Raises:
        InvalidInput: as in `read_checkpoint`; no folder to write to.
    """
    found, tensors = read_checkpoint(source, what)
    _check_folder(target)
    save_imported(target, found, tensors, voxel_m=voxel_m, inputs=inputs)
    return found


def export_checkpoint(source: Path, target: Path, prefix: str, *, what: What = "network") -> str:
    """Writes one of our checkpoints as the published trainers do: a state dict of torch, in MinkowskiEngine's order.

    Returns what whoever loads it there must know: how it differs from what their trainers write; empty for nothing.

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
        if set(tensors) != set(ADAPTER_NAMES.values()):
            raise InvalidInput("got an adapter that is not an MLP, expected one: no other kind was ever published")
        out = {prefix + published: tensors[ours] for published, ours in ADAPTER_NAMES.items()}
        torch.save({"model_state_dict": out}, target)
        return ""
    if not about.get("head_bias", True) and not bool(tensors[HEAD_BIAS].any()):
        del tensors[HEAD_BIAS]
    order = expected_tensors(*recognise(tensors))
    torch.save({"state_dict": {prefix + name: tensors[name] for name in order if name in tensors}}, target)
    return " ".join(_departures(tensors, about.get("inputs", "plus_half")))


def _departures(tensors: Mapping[str, Tensor], inputs: InputFeatures) -> Iterator[str]:
    """How an exported network differs from those that the published trainers write."""
    if HEAD_BIAS in tensors:
        yield (
            f"It has {HEAD_BIAS}, a bias of the head that their MinkUNet has not: build theirs with bias=True there or "
            "load it with strict=False and add the bias to what comes out."
        )
    if inputs != "signed":
        fed = {"plus_half": "c + 0.5", "ones": "1"}[inputs]
        yield f"It was fed {fed} for colours c of 0..1, where 3DSS-VLG's trainer feeds 2c - 1."


def _is_buffer(name: str) -> bool:
    return name.endswith((".running_mean", ".running_var", ".num_batches_tracked"))


def _check_folder(target: Path) -> None:
    if not target.parent.is_dir():
        raise InvalidInput(f"there is no folder {target.parent} to write {target.name} to; make it first")

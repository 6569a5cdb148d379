"""What a training keeps to go on after its process dies, on this host or another: a safetensors file, replaced in one
move.

Nothing random is kept: every draw of a training depends on its seed, its epoch and its place in the epoch.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from storage.artifacts.run_files import RunFiles
from storage.errors import StoreUnreachable
from workers.learning.optimisers import Optimisers

log = logging.getLogger("vlglab.run")

_MODEL, _OPTIMISERS = "model.", "optimisers."


def save(path: Path, steps: int, model: nn.Module, optimisers: Optimisers) -> None:
    """Keeps what is needed to go on.

    Args:
        path: the file.
        steps: how many were made.
        model: whose parameters and running statistics are kept.
        optimisers: whose state is kept.
    """
    tensors = {_MODEL + name: tensor for name, tensor in model.state_dict().items()}
    tensors |= {_OPTIMISERS + name: tensor for name, tensor in optimisers.state().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(f".{os.getpid()}.new")
    save_file(
        {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, new, {"steps": str(steps)}
    )
    new.replace(path)


def send(path: Path, files: RunFiles) -> None:
    """Lets other hosts go on from what was kept; where that fails the training goes on, and the next may succeed."""
    try:
        files.send(path)
    except StoreUnreachable as error:
        log.warning("what was kept to resume from could not be sent, and lies on this host alone: %s", error)


def take_over(path: Path, files: RunFiles) -> None:
    """Takes what another host kept, where it had made more steps than what lies here.

    Raises:
        StoreUnreachable: it cannot be asked for.
    """
    sent = path.with_suffix(f".{os.getpid()}.sent")
    try:
        if files.bring(path, sent) and steps_of(sent) > steps_of(path):
            sent.replace(path)
    finally:
        sent.unlink(missing_ok=True)


def steps_of(path: Path) -> int:
    """How many steps were made before this was kept; 0 where nothing was, or it cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            return int((file.metadata() or {})["steps"])
    except (SafetensorError, OSError, KeyError, ValueError):
        return 0


def load(path: Path, model: nn.Module, optimisers: Optimisers) -> int:
    """Loads what an earlier attempt kept; returns how many steps it had made, 0 where it kept nothing.

    A file that cannot be read is as good as none: the training then begins anew.
    """
    steps = steps_of(path)
    if not steps:
        return 0
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError):
        return 0
    model.load_state_dict({n.removeprefix(_MODEL): t for n, t in tensors.items() if n.startswith(_MODEL)})
    optimisers.load({n.removeprefix(_OPTIMISERS): t for n, t in tensors.items() if n.startswith(_OPTIMISERS)})
    return steps

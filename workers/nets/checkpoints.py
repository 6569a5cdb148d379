"""Network checkpoints: a safetensors file whose metadata says what it is. No pickled code, ever."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load_file, save_file
from torch import Tensor

from storage.errors import StoreCorrupt

FILE = "checkpoint.safetensors"
"""Name of the file in a checkpoint artifact."""


def save(path: Path, tensors: Mapping[str, Tensor], **about: Any) -> None:
    """Writes tensors with a JSON description."""
    save_file({k: v.detach().contiguous().cpu() for k, v in tensors.items()}, path, {"about": json.dumps(about)})


def load(path: Path, *, expected: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the description of a checkpoint.

    Args:
        path: the file.
        expected: what its description's `what` must be, such as `adapter` or `network`.

    Raises:
        StoreCorrupt: not a checkpoint, or one of something else.
    """
    try:
        tensors = load_file(path)
        with safetensors.safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise StoreCorrupt(f"the checkpoint {path.name} cannot be read: {error}") from error
    if about.get("what") != expected:
        raise StoreCorrupt(f"got a checkpoint of {about.get('what')!r}, expected one of {expected!r}")
    return tensors, about

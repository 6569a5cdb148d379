"""Files of torch.save as data: tensors, numbers, strings and containers of them. No code of a file is ever run.

Knows torch's pickles; no network and no name of a parameter.
"""

from __future__ import annotations

import pickle
import re
import struct
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from storage.errors import InvalidInput

_NAMED_AT_MOST = 12
_KEYS = ("state_dict", "model_state_dict")
_BROKEN = (RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, struct.error)


class _Unread:
    """Stands where a file holds a scalar of NumPy: trainers keep their best score beside the weights."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


# Under the names by which such scalars are pickled, old and new, so that a file calls nothing of NumPy either.
_UNREAD: list[Any] = [
    type(name, (_Unread,), {"__module__": module})
    for module, name in (("numpy", "dtype"), ("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar"))
]


def read_state_dict(source: Path, *, mapped: bool = False) -> dict[str, Tensor]:
    """Name -> tensor, on the CPU, of a state dict: the whole file, or what it has under one of the usual keys.

    Args:
        source: a `.pth`, `.pt` or `.pth.tar`; the keys are `state_dict` and `model_state_dict`.
        mapped: whether tensors are mapped from the file, which must be of torch 1.6 or later, and not read.

    Raises:
        InvalidInput: no such file, not a whole file of torch, Python objects in it, no state dict.
    """
    try:
        with torch.serialization.safe_globals(_UNREAD):
            content: Any = torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except FileNotFoundError as error:
        raise InvalidInput(f"there is no file {source}; check the path") from error
    except pickle.UnpicklingError as error:
        objects = ", ".join(sorted(set(re.findall(r"GLOBAL ([\w.]+)", str(error)))))
        raise InvalidInput(
            f"{source.name}: got {'Python objects (' + objects + ')' if objects else 'no whole file of torch.save'}, "
            "expected tensors, numbers and strings alone. No code of a file is run here; where you trust its source, "
            "load it there and save the model's state_dict() by itself"
        ) from error
    except _BROKEN as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InvalidInput(f"{source.name} cannot be read as a file of torch.save: {reason}; is it whole?") from error
    for key in _KEYS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not content:
        raise InvalidInput(f"{source.name}: got {type(content).__name__}, expected a state dict: names and tensors")
    others = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise InvalidInput(
            f"{source.name}: expected nothing but tensors in the state dict, got other in {some(others)}"
        )
    return {str(name): cast(Tensor, value) for name, value in content.items()}


def some(names: list[str]) -> str:
    """Up to a dozen of the names, and how many more there are."""
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")

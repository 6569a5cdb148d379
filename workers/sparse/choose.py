"""Picks the engine that a spec names. The only place that knows which engines there are."""

from __future__ import annotations

from typing import Literal

from workers.sparse.engine import Engine
from workers.sparse.torch_engine import Precision, TorchEngine


def choose_engine(name: Literal["torch"] = "torch", precision: Precision = "float32") -> Engine:
    """The engine of that name, as in `storage.specs.parts.Network.engine`.

    Args:
        name: which engine.
        precision: what it multiplies in, as in `storage.specs.parts.Training.precision`; sums stay in float32.

    Raises:
        ValueError: an unknown name or precision.
    """
    if name == "torch":
        return TorchEngine(precision)
    raise ValueError(f"got engine {name!r}, expected 'torch'")

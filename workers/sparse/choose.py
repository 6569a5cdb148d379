"""Picks the engine that a spec names. The only place that knows which engines there are."""

from __future__ import annotations

from typing import Literal

from workers.sparse.engine import Engine
from workers.sparse.torch_engine import TorchEngine


def choose_engine(name: Literal["torch", "minkowski"] = "torch") -> Engine:
    """The engine of that name, as in `storage.specs.parts.Network.engine`.

    Raises:
        ValueError: an unknown name.
        ExtraMissing: 'minkowski' where MinkowskiEngine is not installed.
    """
    if name == "torch":
        return TorchEngine()
    if name == "minkowski":
        from workers.sparse.minkowski_engine import MinkowskiLibraryEngine

        return MinkowskiLibraryEngine()
    raise ValueError(f"got engine {name!r}, expected 'torch' or 'minkowski'")

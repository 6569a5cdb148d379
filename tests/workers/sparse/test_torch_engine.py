from __future__ import annotations

import pytest

from tests.conformance.sparse_engine import SparseEngineConformance
from workers.sparse.choose import choose_engine
from workers.sparse.torch_engine import TorchEngine


class TestTorchEngine(SparseEngineConformance):
    def engine(self) -> TorchEngine:
        return TorchEngine()


def test_the_spec_names_this_engine() -> None:
    assert isinstance(choose_engine("torch"), TorchEngine)
    with pytest.raises(ValueError, match="expected 'torch'"):
        choose_engine("spconv")  # type: ignore[arg-type]

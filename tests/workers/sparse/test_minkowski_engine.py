"""The real library against the dense oracle: the contract of every engine, and what is its own."""

from __future__ import annotations

import collections
import importlib.util
import os
import sys

import pytest
import torch
from torch import Tensor

from storage.errors import ExtraMissing
from tests.conformance.sparse_engine import SparseEngineConformance, draw, lexicographic, random_cloud
from workers.sparse.choose import choose_engine
from workers.sparse.engine import Grid, SparseTensor
from workers.sparse.minkowski_engine import MinkowskiGrid, MinkowskiLibraryEngine, load_library

needs_library = pytest.mark.skipif(
    importlib.util.find_spec("MinkowskiEngine") is None, reason="MinkowskiEngine is not installed (`make minkowski`)"
)


@pytest.mark.slow
@needs_library
class TestMinkowskiEngine(SparseEngineConformance):
    def engine(self) -> MinkowskiLibraryEngine:
        return MinkowskiLibraryEngine()

    def same(self, first: Tensor, second: Tensor) -> bool:
        """To rounding: the library's maps are filled by threads, so that it sums in another order every time."""
        first, second = first.detach(), second.detach()
        return torch.allclose(first, second, rtol=0, atol=1e-5 * float(second.abs().max()))

    def places(self, grid: Grid, coordinates: Tensor) -> Tensor:
        assert isinstance(grid, MinkowskiGrid)
        own = grid.coordinates()
        rows = lexicographic(own)
        assert torch.equal(own[rows], coordinates)
        return rows


@pytest.mark.slow
@needs_library
def test_the_spec_names_this_engine() -> None:
    assert isinstance(choose_engine("minkowski"), MinkowskiLibraryEngine)


@pytest.mark.slow
@needs_library
def test_loading_leaves_nothing_behind() -> None:
    before = os.environ.get("OMP_NUM_THREADS"), torch.get_num_threads()
    load_library()
    choose_engine("minkowski").tensor(random_cloud(50, 4, seed=1), torch.zeros(len(random_cloud(50, 4, seed=1)), 3))
    assert (os.environ.get("OMP_NUM_THREADS"), torch.get_num_threads()) == before
    assert not hasattr(collections, "Sequence")


@pytest.mark.slow
@needs_library
def test_autocast_and_half_precision_are_computed_in_float32() -> None:
    cloud = random_cloud(200, 5, seed=3)
    features, kernel = draw(1, len(cloud), 16, dtype=torch.float32), draw(2, 27, 16, 16, dtype=torch.float32)
    engine = MinkowskiLibraryEngine()
    exact = engine.convolution(engine.tensor(cloud, features), kernel, 3).features
    with torch.autocast("cpu", torch.bfloat16):
        got = engine.convolution(engine.tensor(cloud, features), kernel, 3).features
        rounded = engine.convolution(engine.tensor(cloud, features.bfloat16()), kernel, 3).features
    # its threads race over the order of sums: equal to float32's rounding, a thousand times finer than bfloat16's
    torch.testing.assert_close(got, exact, rtol=1e-5, atol=1e-5)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0.1)


@pytest.mark.slow
@needs_library
def test_a_grid_of_another_engine_is_refused() -> None:
    x = choose_engine("torch").tensor(torch.zeros(1, 4, dtype=torch.int64), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="SortedGrid"):
        MinkowskiLibraryEngine().rows(SparseTensor(x.features, x.grid))


def test_without_the_library_the_error_names_the_verb_that_builds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "MinkowskiEngine", None)
    load_library.cache_clear()
    try:
        with pytest.raises(ExtraMissing, match=r"minkowski.*make minkowski.*torch"):
            choose_engine("minkowski")
    finally:
        load_library.cache_clear()
    assert not hasattr(collections, "Sequence")

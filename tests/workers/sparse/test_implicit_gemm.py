"""The GPU's kernels, interpreted on the CPU: their arithmetic and their bounds, on every shape that a network has."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from torch import Tensor

from tests.conformance.sparse_engine import agree, draw, random_cloud
from workers.sparse.grid import grid_of
from workers.sparse.implicit_gemm import fits, implicit_gemm_convolution
from workers.sparse.kernel_map import KernelMap

NAME = "workers.sparse.triton_kernels"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here, and test_on_gpu.py runs them on it"),
]


@pytest.fixture(autouse=True)
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Triton decides when it and a kernel are imported whether kernels are compiled or interpreted."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    pytest.importorskip("triton", reason="Triton is not installed; `make test-all` installs it")
    sys.modules.pop(NAME, None)
    yield importlib.import_module(NAME)
    sys.modules.pop(NAME, None)


def dense(features: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
    """The sum over offsets, a product each."""
    out = features.new_zeros(kernel_map.num_targets, kernel.shape[2])
    for rows, weights in zip(kernel_map.table.long(), kernel, strict=True):
        there = rows >= 0
        out = out.index_add(0, there.nonzero().flatten(), features[rows[there]] @ weights)
    return out


@pytest.mark.parametrize(
    ("which", "num", "c_in", "c_out"),
    [("centred", 1, 16, 16), ("centred", 70, 33, 17), ("down", 70, 40, 70), ("up", 70, 33, 66), ("up", 1, 17, 8)],
)
def test_convolution_and_gradients_are_the_sums_over_offsets(which: str, num: int, c_in: int, c_out: int) -> None:
    grid = grid_of(random_cloud(num, 4, seed=num))
    kernel_map = {"centred": grid.neighbour_map(3), "down": grid.down_map(), "up": grid.down_map().transposed()}[which]
    features = draw(1, kernel_map.num_sources, c_in, dtype=torch.float32)
    kernel = draw(2, len(kernel_map.table), c_in, c_out, dtype=torch.float32)
    agree(
        lambda x, k: implicit_gemm_convolution(x, k, kernel_map, torch.float32),
        lambda x, k: dense(x, k, kernel_map),
        features, kernel, tolerance=1e-5,
    )  # fmt: skip


def test_parts_of_the_kernels_gradient_cover_every_pair_once(
    interpreted: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel_map = grid_of(random_cloud(90, 3, seed=3)).neighbour_map(3)
    features, gradient = torch.randn(kernel_map.num_sources, 16), torch.randn(kernel_map.num_targets, 16)
    one = interpreted.kernel_gradient(kernel_map.pairs, features, gradient, "tf32x3")
    monkeypatch.setattr(interpreted, "_PARTS", 1)
    other = interpreted.kernel_gradient(kernel_map.pairs, features, gradient, "tf32x3")
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_a_cpu_never_takes_them() -> None:
    assert not fits(torch.zeros(1, 32), torch.float32)

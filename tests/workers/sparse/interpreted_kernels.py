"""The GPU's kernels, interpreted on the CPU: their arithmetic and their bounds, on every shape that a network has.

Triton decides when it is imported whether kernels are compiled or interpreted: `test_implicit_gemm.py` runs this file
in a process of its own, with TRITON_INTERPRET=1.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.conformance.sparse_engine import agree, draw, random_cloud
from workers.sparse import triton_kernels
from workers.sparse.grid import grid_of
from workers.sparse.implicit_gemm import implicit_gemm_convolution
from workers.sparse.kernel_map import KernelMap


@pytest.fixture(autouse=True)
def _few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of the kernel's gradient for a small machine: some, but each costs the interpreter milliseconds."""
    monkeypatch.setattr(triton_kernels, "_PROGRAMS", 40)


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


def test_parts_of_the_kernels_gradient_cover_every_pair_once(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel_map = grid_of(random_cloud(90, 3, seed=3)).neighbour_map(3)
    features, gradient = torch.randn(kernel_map.num_sources, 16), torch.randn(kernel_map.num_targets, 16)
    one = triton_kernels.kernel_gradient(kernel_map.pairs, features, gradient, "tf32x3")
    monkeypatch.setattr(triton_kernels, "_PARTS", 1)
    other = triton_kernels.kernel_gradient(kernel_map.pairs, features, gradient, "tf32x3")
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)

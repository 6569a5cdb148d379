"""The default engine: sorted keys, searched kernel maps and gather-GEMM-scatter.

On a CPU its inner loops are compiled, on a GPU they are kernels of Triton's (decisions 0012, 0015). Knows no network.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from workers.sparse.engine import Grid, SparseTensor, check_kernel
from workers.sparse.gather_gemm import gather_gemm_scatter
from workers.sparse.grid import SortedGrid, grid_of
from workers.sparse.unrolled import product


class TorchEngine:
    """An `Engine` over `SortedGrid`; it holds no state, so one serves all networks and threads.

    Under `torch.autocast` the larger products are multiplied in autocast's type; sums stay in the features' type.
    """

    def tensor(self, coordinates: Tensor, features: Tensor) -> SparseTensor:
        """See `Engine.tensor`; rows are kept in the order of the voxels' keys."""
        grid = grid_of(coordinates)
        if features.dim() != 2 or features.shape[0] != grid.num_voxels or not features.is_floating_point():
            raise ValueError(
                f"got features of shape {tuple(features.shape)} and {features.dtype}, "
                f"expected floats of shape ({grid.num_voxels}, channels), a row a coordinate"
            )
        if grid.order is None:
            return SparseTensor(features, grid)
        return SparseTensor(permute_rows(features, grid.order), grid)

    def rows(self, x: SparseTensor) -> Tensor:
        """See `Engine.rows`."""
        grid = _own(x.grid)
        if grid.tensor_stride != 1:
            raise ValueError(
                f"got a tensor of stride {grid.tensor_stride}, expected 1; "
                "transpose-convolve it back to the voxels given"
            )
        return x.features if grid.order is None else permute_rows(x.features, torch.argsort(grid.order))

    def convolution(self, x: SparseTensor, kernel: Tensor, kernel_size: int, stride: int = 1) -> SparseTensor:
        """See `Engine.convolution`."""
        check_kernel(kernel, kernel_size, x.features.shape[1])
        grid = _own(x.grid)
        if kernel_size == stride == 1:
            return x.with_features(product(x.features, kernel))
        if stride == 1 and kernel_size % 2 == 1:
            kernel_map, out_grid = grid.neighbour_map(kernel_size), grid
        elif stride == kernel_size == 2:
            kernel_map, out_grid = grid.down_map(), grid.coarser()
        else:
            raise ValueError(
                f"got kernel size {kernel_size} with stride {stride}, expected an odd size with 1, or 2 with 2"
            )
        return SparseTensor(gather_gemm_scatter(x.features, kernel, kernel_map), out_grid)

    def transposed_convolution(
        self, x: SparseTensor, kernel: Tensor, kernel_size: int, stride: int, to: Grid
    ) -> SparseTensor:
        """See `Engine.transposed_convolution`."""
        check_kernel(kernel, kernel_size, x.features.shape[1])
        if kernel_size != 2 or stride != 2:
            raise ValueError(f"got kernel size {kernel_size} with stride {stride}, expected 2 with 2")
        grid = _own(to)
        if grid.coarser() is not x.grid:
            raise ValueError(
                f"got a grid of stride {to.tensor_stride} to go to, which is not the one that this tensor's grid of "
                f"stride {x.grid.tensor_stride} was made from; pass the grid of the skip connection"
            )
        kernel_map = grid.down_map().transposed()
        return SparseTensor(gather_gemm_scatter(x.features, kernel, kernel_map), to)


def permute_rows(features: Tensor, order: Tensor) -> Tensor:
    """``features[order]`` for a permutation, whose gradient is a gather too (indexing's would be a slow scatter)."""
    apply: Any = _PermuteRows.apply
    return cast(Tensor, apply(features, order))


class _PermuteRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, features: Tensor, order: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        return features.index_select(0, order)

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        (order,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradient.index_select(0, torch.argsort(order)), None


def _own(grid: Grid) -> SortedGrid:
    if not isinstance(grid, SortedGrid):
        raise ValueError(f"got a grid of type {type(grid).__name__}, expected one that this engine made")
    return grid

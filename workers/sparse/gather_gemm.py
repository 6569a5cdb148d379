"""Gather, multiply, scatter: a convolution over the pairs of a kernel map, forward and backward.

Chunks of pairs are gathered into one buffer, multiplied into another and added to the output: the buffers stay in the
cache, and their size does not grow with the scene. The gradients gather again rather than keep what was gathered.
Knows kernel maps and tensors; no coordinates, no modules.

Legend of shapes: V voxels, P pairs of a chunk, K offsets, M channels in, N channels out.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from workers.sparse.kernel_map import CHUNK, KernelMap, Tile
from workers.sparse.parallel import run_all

_FEW_PAIRS, _FEW_CHANNELS = 768, 32
"""Below so many pairs an offset, or channels in, a call in bfloat16 costs more than it saves."""
_ROUND = 512
"""Rows of a product in another type are rounded up to a multiple: its library compiles a kernel a shape."""


def gather_gemm_scatter(features_vm: Tensor, kernel_kmn: Tensor, kernel_map: KernelMap) -> Tensor:
    """Convolved features (V_out,N), differentiable in the features and in the kernel.

    Every output row adds up its offsets in the same order, so results repeat for a given number of threads. Under
    `torch.autocast`, products large enough to gain from it are multiplied in autocast's type; sums never are.

    Args:
        features_vm: (V_in,M).
        kernel_kmn: (K,M,N).
        kernel_map: which rows meet under which offset.
    """
    device = features_vm.device.type
    small = kernel_map.num_pairs < _FEW_PAIRS * kernel_kmn.shape[0] or kernel_kmn.shape[1] < _FEW_CHANNELS
    cast_down = torch.is_autocast_enabled(device) and not small
    compute = torch.get_autocast_dtype(device) if cast_down else features_vm.dtype
    apply: Any = _GatherGemmScatter.apply
    with torch.autocast(device, enabled=False):
        return cast(Tensor, apply(features_vm.contiguous(), kernel_kmn, kernel_map, compute))


class _GatherGemmScatter(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, features_vm: Tensor, kernel_kmn: Tensor, kernel_map: KernelMap, compute: torch.dtype
    ) -> Tensor:
        ctx.save_for_backward(features_vm, kernel_kmn)
        context = cast(Any, ctx)
        context.kernel_map, context.compute = kernel_map, compute
        return _convolve(features_vm, kernel_kmn, kernel_map, compute)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient_vn: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        context = cast(Any, ctx)
        features_vm, kernel_kmn = context.saved_tensors
        kernel_map, compute = context.kernel_map, context.compute
        gradient_vn = gradient_vn.contiguous()
        features_gradient = kernel_gradient = None
        with torch.autocast(features_vm.device.type, enabled=False):
            if context.needs_input_grad[0]:
                features_gradient = _convolve(gradient_vn, kernel_kmn.transpose(1, 2), kernel_map.transposed(), compute)
            if context.needs_input_grad[1]:
                kernel_gradient = _kernel_gradient(features_vm, gradient_vn, kernel_kmn, kernel_map, compute)
        return features_gradient, kernel_gradient, None, None


def _convolve(features_vm: Tensor, kernel_kmn: Tensor, kernel_map: KernelMap, compute: torch.dtype) -> Tensor:
    """One task a tile of output rows."""
    num_in, num_out = kernel_kmn.shape[1:]
    out_vn = features_vm.new_empty(kernel_map.num_targets, num_out)
    features_vm = features_vm.to(compute)
    matrices_mn = kernel_kmn.to(compute).unbind()

    def convolve_tile(tile: Tile) -> None:
        gathered, products = features_vm.new_empty(CHUNK, num_in), features_vm.new_empty(CHUNK, num_out)
        converted = None if compute == out_vn.dtype else out_vn.new_empty(CHUNK, num_out)
        tile_vn = out_vn[tile.start : tile.stop]
        if kernel_map.centre is None:
            tile_vn.zero_()
        elif converted is None:
            torch.mm(features_vm[tile.start : tile.stop], matrices_mn[kernel_map.centre], out=tile_vn)
        else:
            tile_vn.copy_(features_vm[tile.start : tile.stop] @ matrices_mn[kernel_map.centre])
        for k, sources, targets in tile.chunks:
            num = sources.numel()
            torch.index_select(features_vm, 0, sources, out=gathered[:num])
            if converted is None:
                tile_vn.index_add_(0, targets, torch.mm(gathered[:num], matrices_mn[k], out=products[:num]))
            else:
                rows = _rounded(num)
                torch.mm(gathered[:rows], matrices_mn[k], out=products[:rows])
                tile_vn.index_add_(0, targets, converted[:num].copy_(products[:num]))

    run_all([partial(convolve_tile, tile) for tile in kernel_map.tiles], out_vn.device)
    return out_vn


def _kernel_gradient(
    features_vm: Tensor, gradient_vn: Tensor, kernel_kmn: Tensor, kernel_map: KernelMap, compute: torch.dtype
) -> Tensor:
    """One task an offset."""
    gradient_kmn = kernel_kmn.new_zeros(kernel_kmn.shape)
    features_vm, gradient_vn = features_vm.to(compute), gradient_vn.to(compute)

    def differentiate_offset(k: int) -> None:
        gradient_mn = gradient_kmn[k]
        if k == kernel_map.centre:
            gradient_mn.copy_(features_vm.t() @ gradient_vn)
            return
        for sources, targets in kernel_map.chunks(k):
            if compute == gradient_mn.dtype:
                gradient_mn.addmm_(features_vm.index_select(0, sources).t(), gradient_vn.index_select(0, targets))
            else:
                in_pm, out_pn = _padded_rows(features_vm, sources), _padded_rows(gradient_vn, targets)
                gradient_mn.add_(in_pm.t() @ out_pn)

    run_all([partial(differentiate_offset, k) for k in range(kernel_kmn.shape[0])], gradient_kmn.device)
    return gradient_kmn


def _rounded(num: int) -> int:
    return min(CHUNK, -(-num // _ROUND) * _ROUND)


def _padded_rows(features_vm: Tensor, rows: Tensor) -> Tensor:
    """``features_vm[rows]`` and zeros below, up to the rounded number of rows."""
    num = rows.numel()
    padded_pm = features_vm.new_empty(_rounded(num), features_vm.shape[1])
    torch.index_select(features_vm, 0, rows, out=padded_pm[:num])
    padded_pm[num:].zero_()
    return padded_pm

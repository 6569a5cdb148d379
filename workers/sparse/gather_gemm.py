"""Gather, multiply, add up: a convolution over the pairs of a kernel map, forward and backward.

The compiled loops of `fused` take it on a CPU and the kernels of `implicit_gemm` on a GPU where they can; else it is
done here, in torch.

A tile's pairs are gathered at once, multiplied offset by offset, and added up row by row. Each is one large operation
that torch spreads over its threads, so that what is left is the products' own time. The backward pass gathers again
rather than keep what was gathered. Knows kernel maps and tensors; no coordinates, no modules.

Legend of shapes: V voxels, P pairs of a tile, K offsets, M channels in, N channels out.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

from workers.sparse import fused, implicit_gemm
from workers.sparse.kernel_map import KernelMap, Tile
from workers.sparse.unrolled import narrow_convolution, unrolled_convolution

_FEW_CHANNELS = 32
"""Below so many channels in, a product in bfloat16 costs more than it saves."""
_NARROW = 8
"""With no more channels in, a tile's whole neighbourhoods are multiplied at once."""
_FEW_ROWS = 1024
"""In half precision, maps with no more rows on their smaller side are multiplied at once, not offset by offset: short
products cost a kernel of their own each."""
_LITTLE_WORK = 1 << 23
"""In float32, maps that the compiled loops do not take are multiplied at once where that takes no more multiplications,
empty places included: half of them and more are empty, which only the smallest maps repay in calls saved."""


def gather_gemm_scatter(features_vm: Tensor, kernel_kmn: Tensor, kernel_map: KernelMap) -> Tensor:
    """Convolved features (V_out,N), differentiable in the features and in the kernel.

    Every output row adds up its offsets in the same order, so results repeat for a given number of threads. Under
    `torch.autocast`, products large enough to gain from it are multiplied in autocast's type, and their sums, which
    are taken in float32, are rounded to it once.

    Args:
        features_vm: (V_in,M).
        kernel_kmn: (K,M,N).
        kernel_map: which rows meet under which offset.
    """
    device = features_vm.device.type
    cast_down = torch.is_autocast_enabled(device) and kernel_kmn.shape[1] >= _FEW_CHANNELS
    compute = torch.get_autocast_dtype(device) if cast_down else features_vm.dtype
    with torch.autocast(device, enabled=False):
        narrow = kernel_kmn.shape[1] <= _NARROW
        if not narrow and fused.fits(features_vm, compute):
            return fused.fused_convolution(features_vm, kernel_kmn, kernel_map)
        if not narrow and implicit_gemm.fits(features_vm, compute):
            return implicit_gemm.implicit_gemm_convolution(features_vm, kernel_kmn, kernel_map, compute)
        if _at_once(kernel_map, kernel_kmn, compute):
            return unrolled_convolution(features_vm, kernel_kmn, kernel_map, compute)
        if narrow:
            return narrow_convolution(features_vm, kernel_kmn, kernel_map, compute)
        apply: Any = _GatherGemmScatter.apply
        return cast(Tensor, apply(features_vm.contiguous(), kernel_kmn, kernel_map, compute))


def _at_once(kernel_map: KernelMap, kernel_kmn: Tensor, compute: torch.dtype) -> bool:
    """Whether a map is so small that its whole neighbourhoods are multiplied at once."""
    rows = min(kernel_map.num_sources, kernel_map.num_targets)
    return rows <= _FEW_ROWS if compute.itemsize < 4 else rows * kernel_kmn.numel() <= _LITTLE_WORK


class _GatherGemmScatter(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, features_vm: Tensor, kernel_kmn: Tensor, kernel_map: KernelMap, compute: torch.dtype
    ) -> Tensor:
        ctx.save_for_backward(features_vm, kernel_kmn)
        context = cast(Any, ctx)
        context.kernel_map, context.compute = kernel_map, compute
        features, kernels = features_vm.to(compute), kernel_kmn.to(compute).unbind()
        out_vn = features_vm.new_empty(kernel_map.num_targets, kernel_kmn.shape[2])
        tiles = _tiles(kernel_map, compute)
        room_pn = _room(tiles, features, kernel_kmn.shape[2])
        for tile in tiles:
            for segment, products_pn in zip(tile.segments, _cut(room_pn, tile), strict=True):
                torch.mm(segment.sources_of(features), kernels[segment.offset], out=products_pn)
            _add_up(room_pn, tile, out_vn)
        return out_vn

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient_vn: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        context = cast(Any, ctx)
        features_vm, kernel_kmn = context.saved_tensors
        with torch.autocast(features_vm.device.type, enabled=False):
            gradients = _gradients(
                gradient_vn, features_vm, kernel_kmn, context.kernel_map.transposed(), context.compute, ctx
            )
        return *gradients, None, None


def _gradients(
    gradient_vn: Tensor,
    features_vm: Tensor,
    kernel_kmn: Tensor,
    back: KernelMap,
    compute: torch.dtype,
    ctx: FunctionCtx,
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of the features and of the kernel, over the tiles of the way back: its targets are the inputs."""
    wants_features, wants_kernel = cast(Any, ctx).needs_input_grad[:2]
    features, gradient = features_vm.to(compute), gradient_vn.to(compute)
    turned = kernel_kmn.to(compute).transpose(1, 2).unbind()
    features_gradient = torch.empty_like(features_vm) if wants_features else None
    kernel_gradient = torch.zeros_like(kernel_kmn)
    slices = kernel_gradient.unbind()
    tiles = _tiles(back, compute)
    room_pm = _room(tiles, gradient, kernel_kmn.shape[1])
    for tile in tiles:
        for segment, products_pm in zip(tile.segments, _cut(room_pm, tile), strict=True):
            gradient_pn = segment.sources_of(gradient)
            if features_gradient is not None:
                torch.mm(gradient_pn, turned[segment.offset], out=products_pm)
            if wants_kernel:
                if segment.num_true < segment.length:
                    gradient_pn[segment.num_true :] = 0
                features_mp = segment.targets_of(features).t()
                if compute == kernel_gradient.dtype:
                    slices[segment.offset].addmm_(features_mp, gradient_pn)
                else:
                    slices[segment.offset].add_(features_mp @ gradient_pn)
        if features_gradient is not None:
            _add_up(room_pm, tile, features_gradient)
    return features_gradient, kernel_gradient if wants_kernel else None


def _tiles(kernel_map: KernelMap, compute: torch.dtype) -> tuple[Tile, ...]:
    """Padded where torch makes a new kernel for every shape of a product, as it does below float32 on a CPU."""
    return kernel_map.tiles if compute.itemsize >= 4 else kernel_map.padded_tiles


def _room(tiles: tuple[Tile, ...], like: Tensor, channels: int) -> Tensor:
    """Room for the products of all pairs of a tile, used for one tile after the other."""
    return like.new_empty(max(sum(tile.lengths) for tile in tiles), channels)


def _cut(room_pc: Tensor, tile: Tile) -> tuple[Tensor, ...]:
    """The places of a tile's segments in that room."""
    return torch.split(room_pc[: sum(tile.lengths)], tile.lengths) if tile.lengths else ()


def _add_up(products_pn: Tensor, tile: Tile, out_vn: Tensor) -> None:
    """Writes the sums of the products that end in each of a tile's rows; 0 where none does."""
    if tile.by_target.numel() == 0:
        out_vn[tile.start : tile.stop] = 0
    else:
        sums_vn = functional.embedding_bag(tile.by_target, products_pn, tile.bags, mode="sum")
        out_vn[tile.start : tile.stop] = sums_vn

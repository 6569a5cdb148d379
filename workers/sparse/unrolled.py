"""Convolution as one matrix product, for maps of few rows: gather a row's whole neighbourhood, multiply once.

Offset by offset, a small map costs three small products an offset and step, each too short to pay for its call; here
every empty place of a neighbourhood is multiplied too, as a row of zeros, and there are three products in all. Knows
kernel maps and tensors; no coordinates, no modules.

Legend of shapes: V rows in, W rows out, K offsets, M channels in, N channels out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

from workers.sparse.kernel_map import KernelMap, padded, tile_rows


def unrolled_convolution(
    features_vm: Tensor, kernel_kmn: Tensor, kernel_map: KernelMap, compute: torch.dtype
) -> Tensor:
    """Convolved features (W,N), differentiable in the features and in the kernel.

    Args:
        features_vm: (V,M).
        kernel_kmn: (K,M,N).
        kernel_map: which rows meet under which offset.
        compute: the type that is multiplied in; sums over offsets are taken in float32 inside the products.
    """
    gathers_first = kernel_map.num_targets <= kernel_map.num_sources
    apply: Any = (_GatherFirst if gathers_first else _MultiplyFirst).apply
    return cast(Tensor, apply(features_vm, kernel_kmn, kernel_map, compute))


class _GatherFirst(torch.autograd.Function):
    """(W, K·M) neighbourhoods times (K·M, N)."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, features_vm: Tensor, kernel_kmn: Tensor, kernel_map: KernelMap, compute: torch.dtype
    ) -> Tensor:
        kernel = kernel_kmn.to(compute).flatten(0, 1)
        unrolled = _unroll(features_vm.to(compute), kernel_map)
        ctx.save_for_backward(unrolled, kernel)
        context = cast(Any, ctx)
        context.kernel_map, context.shape = kernel_map, kernel_kmn.shape
        return (unrolled @ kernel)[: kernel_map.num_targets].to(features_vm.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient_wn: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        context = cast(Any, ctx)
        unrolled, kernel = context.saved_tensors
        gradient = _padded_rows(gradient_wn.to(kernel.dtype))
        features_gradient = kernel_gradient = None
        if context.needs_input_grad[0]:
            back = context.kernel_map.transposed()
            features_gradient = _roll_up(gradient @ kernel.t(), back).to(gradient_wn.dtype)
        if context.needs_input_grad[1]:
            kernel_gradient = (unrolled.t() @ gradient).to(gradient_wn.dtype).view(context.shape)
        return features_gradient, kernel_gradient, None, None


class _MultiplyFirst(torch.autograd.Function):
    """(V, M) times (M, K·N), and the products added up where they meet: for maps with more rows out than in."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, features_vm: Tensor, kernel_kmn: Tensor, kernel_map: KernelMap, compute: torch.dtype
    ) -> Tensor:
        kernel = kernel_kmn.to(compute).transpose(0, 1).flatten(1)
        features = _padded_rows(features_vm.to(compute))
        ctx.save_for_backward(features, kernel)
        context = cast(Any, ctx)
        context.kernel_map, context.shape = kernel_map, kernel_kmn.shape
        return _roll_up(features @ kernel, kernel_map).to(features_vm.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient_wn: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        context = cast(Any, ctx)
        features, kernel = context.saved_tensors
        volume, channels_in, channels_out = context.shape
        unrolled = _unroll(gradient_wn.to(kernel.dtype), context.kernel_map.transposed())
        features_gradient = kernel_gradient = None
        if context.needs_input_grad[0]:
            features_gradient = (unrolled @ kernel.t())[: context.kernel_map.num_sources].to(gradient_wn.dtype)
        if context.needs_input_grad[1]:
            gradient_mkn = (features.t() @ unrolled).view(channels_in, volume, channels_out)
            kernel_gradient = gradient_mkn.transpose(0, 1).to(gradient_wn.dtype)
        return features_gradient, kernel_gradient, None, None


def narrow_convolution(features_vm: Tensor, kernel_kmn: Tensor, kernel_map: KernelMap, compute: torch.dtype) -> Tensor:
    """The same, a tile of output rows at a time: for many rows of few channels, as a network's first layer has.

    So little is gathered a voxel that its whole neighbourhood, empty places included, costs less than the calls that
    an offset at a time would take. Nothing that was gathered is kept.
    """
    apply: Any = _GatherByTile.apply
    return cast(Tensor, apply(features_vm, kernel_kmn, kernel_map, compute))


class _GatherByTile(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, features_vm: Tensor, kernel_kmn: Tensor, kernel_map: KernelMap, compute: torch.dtype
    ) -> Tensor:
        features, kernel = features_vm.to(compute), kernel_kmn.to(compute)
        ctx.save_for_backward(features, kernel)
        cast(Any, ctx).kernel_map = kernel_map
        out_wn = features_vm.new_empty(kernel_map.num_targets, kernel_kmn.shape[2])
        for start, unrolled in _unrolled_tiles(features, kernel_map):
            out_wn[start : start + len(unrolled)] = unrolled @ kernel.flatten(0, 1)
        return out_wn

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient_wn: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        context = cast(Any, ctx)
        features, kernel = context.saved_tensors
        gradient = gradient_wn.to(kernel.dtype)
        features_gradient = kernel_gradient = None
        if context.needs_input_grad[0]:
            back = context.kernel_map.transposed()
            features_gradient = _roll_up(gradient @ kernel.flatten(0, 1).t(), back).to(gradient_wn.dtype)
        if context.needs_input_grad[1]:
            kernel_gradient = torch.zeros_like(kernel, dtype=gradient_wn.dtype)
            summed = kernel_gradient.flatten(0, 1)
            for start, unrolled in _unrolled_tiles(features, context.kernel_map):
                summed += unrolled.t() @ gradient[start : start + len(unrolled)]
        return features_gradient, kernel_gradient, None, None


def _unrolled_tiles(features: Tensor, kernel_map: KernelMap) -> Iterator[tuple[int, Tensor]]:
    """Each tile's first output row and its (rows, K·C) neighbourhoods, which the next tile overwrites."""
    and_zeros = torch.cat([features, features.new_zeros(1, features.shape[1])])
    volume, num = kernel_map.table.shape
    size = min(num, tile_rows(features))
    room = features.new_empty(size * volume, features.shape[1])
    for start in range(0, num, size):
        rows = kernel_map.or_none(kernel_map.table[:, start : start + size].t()).flatten()
        gathered = torch.index_select(and_zeros, 0, rows, out=room[: len(rows)])
        yield start, gathered.view(len(rows) // volume, -1)


def product(features_vm: Tensor, kernel_mn: Tensor) -> Tensor:
    """(V,N) ``features @ kernel``, of which the coarse levels meet few shapes."""
    num = features_vm.shape[0]
    return (_padded_rows(features_vm) @ kernel_mn)[:num].to(features_vm.dtype)


def _unroll(features: Tensor, kernel_map: KernelMap) -> Tensor:
    """(W, K·C): each target's sources under every offset, zeros where there is none."""
    rows = kernel_map.neighbourhoods
    and_zeros = torch.cat([features, features.new_zeros(1, features.shape[1])])
    return and_zeros.index_select(0, rows.flatten()).view(rows.shape[0], -1)


def _padded_rows(features: Tensor) -> Tensor:
    """Rows of zeros appended, up to a length that comes again."""
    num = features.shape[0]
    missing = padded(num) - num
    return features if missing == 0 else torch.cat([features, features.new_zeros(missing, features.shape[1])])


def _roll_up(products: Tensor, kernel_map: KernelMap) -> Tensor:
    """(W, C): the sums over offsets of (V, K·C) products, each at the target that its source meets."""
    places, bags = kernel_map.meetings
    channels = products.shape[1] // kernel_map.table.shape[0]
    return functional.embedding_bag(places, products.view(-1, channels), bags, mode="sum")

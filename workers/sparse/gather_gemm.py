"""Gather, multiply, scatter: a convolution over the pairs of a kernel map, forward and backward.

Chunks of pairs are gathered into one buffer, multiplied into another and added to the output: the buffers stay in the
cache, and their size does not grow with the scene. The gradients gather again rather than keep what was gathered.
Knows kernel maps and tensors; no coordinates, no modules.

Legend of shapes: V voxels, P pairs of a chunk, K offsets, M channels in, N channels out.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from workers.sparse.grid import CHUNK, KernelMap


def gather_gemm_scatter(
    features_vm: Tensor, kernel_kmn: Tensor, kernel_map: KernelMap, compute: torch.dtype | None = None
) -> Tensor:
    """Convolved features (V_out,N), differentiable in the features and in the kernel.

    Every output row adds up its offsets in the same order, so results repeat for a given number of threads.

    Args:
        features_vm: (V_in,M).
        kernel_kmn: (K,M,N).
        kernel_map: which rows meet under which offset.
        compute: the type that matrices are multiplied in; None takes the features'. Sums stay in the features' type.
    """
    apply: Any = _GatherGemmScatter.apply
    return cast(Tensor, apply(features_vm, kernel_kmn, kernel_map, compute or features_vm.dtype))


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
        wants_features, wants_kernel = context.needs_input_grad[:2]
        if not wants_kernel:
            return (
                _convolve(gradient_vn, kernel_kmn.transpose(1, 2), kernel_map.transposed(), compute),
                None,
                None,
                None,
            )
        features_vn, kernel_gradient = _gradients(
            features_vm, gradient_vn.contiguous(), kernel_kmn, kernel_map, compute, wants_features
        )
        return features_vn, kernel_gradient, None, None


def _convolve(features_vm: Tensor, kernel_kmn: Tensor, kernel_map: KernelMap, compute: torch.dtype) -> Tensor:
    result_type = features_vm.dtype
    features_vm = features_vm.to(compute)
    matrices_mn = kernel_kmn.to(compute).unbind()
    num_in, num_out = kernel_kmn.shape[1:]
    out_vn = _centre(features_vm, matrices_mn, kernel_map, result_type, num_out)
    gathered, adder = features_vm.new_empty(CHUNK, num_in), _Adder(out_vn, compute)
    for k, sources, targets in kernel_map.chunks:
        in_pm = gathered[: sources.numel()]
        torch.index_select(features_vm, 0, sources, out=in_pm)
        adder.add_product(in_pm, matrices_mn[k], targets)
    return out_vn


def _gradients(
    features_vm: Tensor,
    gradient_vn: Tensor,
    kernel_kmn: Tensor,
    kernel_map: KernelMap,
    compute: torch.dtype,
    wants_features: bool,
) -> tuple[Tensor | None, Tensor]:
    """Both gradients in one pass, so that the output's gradient is gathered once."""
    features_vm, gradient_vn, result_type = features_vm.to(compute), gradient_vn.to(compute), gradient_vn.dtype
    num_in, num_out = kernel_kmn.shape[1:]
    matrices_nm = kernel_kmn.to(compute).transpose(1, 2).unbind()
    kernel_gradient = torch.zeros_like(kernel_kmn)
    sums_mn = kernel_gradient.unbind()
    gradient_vm = adder = None
    if wants_features:
        gradient_vm = _centre(gradient_vn, matrices_nm, kernel_map.transposed(), result_type, num_in)
        adder = _Adder(gradient_vm, compute)
    if kernel_map.centre is not None:
        sums_mn[kernel_map.centre].copy_(features_vm.t() @ gradient_vn)
    gathered_in, gathered_out = features_vm.new_empty(CHUNK, num_in), features_vm.new_empty(CHUNK, num_out)
    for k, sources, targets in kernel_map.chunks:
        in_pm, out_pn = gathered_in[: sources.numel()], gathered_out[: sources.numel()]
        torch.index_select(features_vm, 0, sources, out=in_pm)
        torch.index_select(gradient_vn, 0, targets, out=out_pn)
        if compute == kernel_gradient.dtype:
            sums_mn[k].addmm_(in_pm.t(), out_pn)
        else:
            sums_mn[k].add_(in_pm.t() @ out_pn)
        if adder is not None:
            adder.add_product(out_pn, matrices_nm[k], sources)
    return gradient_vm, kernel_gradient


def _centre(
    features_vm: Tensor, matrices_mn: tuple[Tensor, ...], kernel_map: KernelMap, result_type: torch.dtype, num_out: int
) -> Tensor:
    """The output (V_out,N) after the offset that maps every voxel to itself, which needs no gathering; or zeros."""
    if kernel_map.centre is None:
        return features_vm.new_zeros(kernel_map.num_targets, num_out, dtype=result_type)
    return (features_vm @ matrices_mn[kernel_map.centre]).to(result_type)


class _Adder:
    """Adds products of rows to rows of an output, in the output's type."""

    def __init__(self, out_vn: Tensor, compute: torch.dtype) -> None:
        self._out_vn = out_vn
        self._products = out_vn.new_empty(CHUNK, out_vn.shape[1], dtype=compute)
        self._converted = None if compute == out_vn.dtype else out_vn.new_empty(CHUNK, out_vn.shape[1])

    def add_product(self, in_pm: Tensor, matrix_mn: Tensor, targets: Tensor) -> None:
        product_pn = self._products[: targets.numel()]
        torch.mm(in_pm, matrix_mn, out=product_pn)
        if self._converted is not None:
            product_pn = self._converted[: targets.numel()].copy_(product_pn)
        self._out_vn.index_add_(0, targets, product_pn)

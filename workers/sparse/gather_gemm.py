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
    apply: Any = _GatherGemmScatter.apply  # type: ignore[no-untyped-call]
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
        gradient_vn = gradient_vn.contiguous()
        features_gradient = kernel_gradient = None
        if context.needs_input_grad[0]:
            features_gradient = _convolve(gradient_vn, kernel_kmn.transpose(1, 2), kernel_map.transposed(), compute)
        if context.needs_input_grad[1]:
            kernel_gradient = _kernel_gradient(features_vm, gradient_vn, kernel_kmn, kernel_map, compute)
        return features_gradient, kernel_gradient, None, None


def _convolve(features_vm: Tensor, kernel_kmn: Tensor, kernel_map: KernelMap, compute: torch.dtype) -> Tensor:
    result_type = features_vm.dtype
    features_vm = features_vm.to(compute)
    matrices = kernel_kmn.to(compute).unbind()
    num_in, num_out = kernel_kmn.shape[1:]
    if kernel_map.centre is None:
        out_vn = features_vm.new_zeros(kernel_map.num_targets, num_out, dtype=result_type)
    else:
        out_vn = (features_vm @ matrices[kernel_map.centre]).to(result_type)
    gathered = features_vm.new_empty(CHUNK, num_in)
    products = features_vm.new_empty(CHUNK, num_out)
    for k, sources, targets in kernel_map.chunks:
        num = sources.numel()
        gathered_pm, product_pn = gathered[:num], products[:num]
        torch.index_select(features_vm, 0, sources, out=gathered_pm)
        torch.mm(gathered_pm, matrices[k], out=product_pn)
        out_vn.index_add_(0, targets, product_pn.to(result_type))
    return out_vn


def _kernel_gradient(
    features_vm: Tensor, gradient_vn: Tensor, kernel_kmn: Tensor, kernel_map: KernelMap, compute: torch.dtype
) -> Tensor:
    features_vm, gradient_vn = features_vm.to(compute), gradient_vn.to(compute)
    result_kmn = torch.zeros_like(kernel_kmn)
    matrices = result_kmn.unbind()
    if kernel_map.centre is not None:
        matrices[kernel_map.centre].copy_(features_vm.t() @ gradient_vn)
    gathered_in = features_vm.new_empty(CHUNK, kernel_kmn.shape[1])
    gathered_out = features_vm.new_empty(CHUNK, kernel_kmn.shape[2])
    for k, sources, targets in kernel_map.chunks:
        num = sources.numel()
        in_pm, out_pn = gathered_in[:num], gathered_out[:num]
        torch.index_select(features_vm, 0, sources, out=in_pm)
        torch.index_select(gradient_vn, 0, targets, out=out_pn)
        if compute == result_kmn.dtype:
            matrices[k].addmm_(in_pm.t(), out_pn)
        else:
            matrices[k].add_(in_pm.t() @ out_pn)
    return result_kmn

"""Convolution on a GPU by the kernels of `workers.sparse.triton_kernels`, forward and backward.

Knows kernel maps and tensors; no coordinates, no modules.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from workers.sparse.kernel_map import KernelMap


def fits(features_vm: Tensor, compute: torch.dtype) -> bool:
    """Whether the kernels take this convolution: on a GPU with matrix units for the type, where Triton is installed."""
    device = features_vm.device
    return device.type == "cuda" and features_vm.dtype == torch.float32 and compute.itemsize <= 4 and _able(device)


@cache
def _able(device: torch.device) -> bool:
    ampere = torch.version.cuda is not None and torch.cuda.get_device_capability(device)[0] >= 8
    return ampere and find_spec("triton") is not None


def implicit_gemm_convolution(
    features_vm: Tensor, kernel_kmn: Tensor, kernel_map: KernelMap, compute: torch.dtype
) -> Tensor:
    """Convolved features (W,N) in float32, differentiable in the features and in the kernel.

    Args:
        features_vm: (V,M) float32.
        kernel_kmn: (K,M,N) float32.
        kernel_map: which rows meet under which offset.
        compute: the type that is multiplied in. float32 is multiplied as three products of TF32, which keeps its
            digits, or as one where `torch.set_float32_matmul_precision` allows that.
    """
    apply: Any = _ImplicitGemm.apply
    return cast(Tensor, apply(features_vm, kernel_kmn, kernel_map, compute))


class _ImplicitGemm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, features_vm: Tensor, kernel_kmn: Tensor, kernel_map: KernelMap, compute: torch.dtype
    ) -> Tensor:
        from workers.sparse.triton_kernels import convolve

        features, kernel = features_vm.to(compute).contiguous(), kernel_kmn.to(compute)
        ctx.save_for_backward(features, kernel)
        cast(Any, ctx).kernel_map = kernel_map
        return convolve(kernel_map.by_pattern, features, kernel, _precision())

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient_wn: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        from workers.sparse.triton_kernels import convolve, kernel_gradient

        context = cast(Any, ctx)
        features, kernel = context.saved_tensors
        gradient = gradient_wn.to(kernel.dtype).contiguous()
        features_gradient = kernel_gradient_kmn = None
        if context.needs_input_grad[0]:
            back = context.kernel_map.transposed()
            features_gradient = convolve(back.by_pattern, gradient, kernel.transpose(1, 2), _precision())
        if context.needs_input_grad[1]:
            kernel_gradient_kmn = kernel_gradient(context.kernel_map.pairs, features, gradient, _precision())
        return features_gradient, kernel_gradient_kmn, None, None


def _precision() -> str:
    return "tf32x3" if torch.get_float32_matmul_precision() == "highest" else "tf32"

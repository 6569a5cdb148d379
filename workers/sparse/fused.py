"""Convolution by the compiled loops of `workers.sparse.compiled`, shared out to torch's number of threads.

Forward and the features' gradient share out tiles of output rows, the kernel's gradient its offsets: no two threads
write to one place, so nothing is added up twice. Knows kernel maps and tensors; no coordinates, no modules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from workers.sparse import blas
from workers.sparse.kernel_map import KernelMap

_ROWS = 512
"""Output rows a tile: gathered, multiplied and added up, they fill about half of a core's second cache."""
_PAIRS = 256
"""Pairs that the kernel's gradient multiplies at once."""


def fits(features_vm: Tensor, compute: torch.dtype) -> bool:
    """Whether the compiled loops take this convolution: float32 on a CPU whose torch they can multiply with."""
    return features_vm.device.type == "cpu" and features_vm.dtype == compute == torch.float32 and blas.bind()


def fused_convolution(features_vm: Tensor, kernel_kmn: Tensor, kernel_map: KernelMap) -> Tensor:
    """Convolved features (W,N), differentiable in the features and in the kernel; float32 on a CPU.

    Args:
        features_vm: (V,M).
        kernel_kmn: (K,M,N).
        kernel_map: which rows meet under which offset.
    """
    apply: Any = _Fused.apply
    return cast(Tensor, apply(features_vm.contiguous(), kernel_kmn.contiguous(), kernel_map))


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, features_vm: Tensor, kernel_kmn: Tensor, kernel_map: KernelMap) -> Tensor:
        ctx.save_for_backward(features_vm, kernel_kmn)
        cast(Any, ctx).kernel_map = kernel_map
        return _convolve(kernel_map, features_vm, kernel_kmn, kernel_kmn.shape[2])

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient_wn: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        context = cast(Any, ctx)
        features_vm, kernel_kmn = context.saved_tensors
        gradient_wn = gradient_wn.contiguous()
        features_gradient = kernel_gradient = None
        if context.needs_input_grad[0]:
            back = context.kernel_map.transposed()
            features_gradient = _convolve(back, gradient_wn, kernel_kmn, kernel_kmn.shape[1], turned=True)
        if context.needs_input_grad[1]:
            kernel_gradient = _kernel_gradient(context.kernel_map, features_vm, gradient_wn)
        return features_gradient, kernel_gradient, None


def _convolve(
    kernel_map: KernelMap, features_vm: Tensor, kernel_kmn: Tensor, channels: int, *, turned: bool = False
) -> Tensor:
    from workers.sparse.compiled import convolve

    out_wn = features_vm.new_empty(kernel_map.num_targets, channels)
    threads = torch.get_num_threads()
    size = max(1, min(_ROWS, -(-kernel_map.num_targets // threads)))
    given = (kernel_map.table.numpy(), features_vm.numpy(), kernel_kmn.detach().numpy(), turned, out_wn.numpy(), size)
    _share_out(convolve, [(*given, first, threads) for first in range(threads)])
    return out_wn


def _kernel_gradient(kernel_map: KernelMap, features_vm: Tensor, gradient_wn: Tensor) -> Tensor:
    from workers.sparse.compiled import kernel_gradient

    volume = len(kernel_map.counts)
    gradient_kmn = features_vm.new_empty(volume, features_vm.shape[1], gradient_wn.shape[1])
    given = (kernel_map.table.numpy(), features_vm.numpy(), gradient_wn.numpy(), gradient_kmn.numpy(), _PAIRS)
    shares = _even_shares(kernel_map.counts, torch.get_num_threads())
    _share_out(kernel_gradient, [(*given, np.array(share, np.int64)) for share in shares])
    return gradient_kmn


def _even_shares(work: Sequence[int], shares: int) -> list[list[int]]:
    """Places in `work`, shared out so that each share has about as much: the largest first, to whoever has least."""
    held: list[list[int]] = [[] for _ in range(min(shares, len(work)))]
    loads = [0] * len(held)
    for place in sorted(range(len(work)), key=lambda place: -work[place]):
        least = loads.index(min(loads))
        held[least].append(place)
        loads[least] += work[place] + 1
    return held


def _share_out(function: Callable[..., None], shares: Sequence[tuple[Any, ...]]) -> None:
    """Calls the function with each share, the first on this thread, the others beside it."""
    others = [_threads(len(shares) - 1).submit(function, *share) for share in shares[1:]]
    function(*shares[0])
    for other in others:
        other.result()


@cache
def _threads(num: int) -> ThreadPoolExecutor:
    """Threads that wait for work as long as the process lives; they hold no lock of the interpreter while they work."""
    return ThreadPoolExecutor(max(1, num), thread_name_prefix="convolution")

"""The two kernels of a convolution on a GPU, in Triton: products of gathered rows, summed where they end.

Both are implicit matrix products (no gathered row is ever written out) and add up in float32. Needs the `triton` that
torch's CUDA build brings along; without a GPU it runs under ``TRITON_INTERPRET=1``, as the tests do. Knows tensors.

Legend of shapes: V rows in, W rows out, K offsets, M channels in, N channels out, P pairs.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_ROWS, _DEEP = 128, 32
"""Output rows and channels in that a program multiplies at once."""
_PAIRS = 128
"""Pairs that the kernel's gradient adds up at once."""
_PROGRAMS = 1024
"""About as many programs as keep the largest GPUs busy: the kernel's gradient is cut into parts to have so many."""
_PARTS = 64


@triton.jit  # type: ignore[untyped-decorator]
def _convolve(  # type: ignore[no-untyped-def]
    table, order, features, kernel, out,
    num_rows, volume, channels_in, channels_out, stride_k, stride_m, stride_n,
    PRECISION: tl.constexpr, ROWS: tl.constexpr, DEEP: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    here, wide = place < num_rows, column < channels_out
    sums = tl.zeros((ROWS, WIDE), tl.float32)
    for k in range(volume):
        source = tl.load(table + k * num_rows + place, mask=here, other=-1).to(tl.int64)
        if tl.max(source, axis=0) >= 0:
            meets = source >= 0
            for first in range(0, channels_in, DEEP):
                channel = first + tl.arange(0, DEEP)
                deep = channel < channels_in
                rows = tl.load(
                    features + source[:, None] * channels_in + channel[None, :],
                    mask=meets[:, None] & deep[None, :], other=0.0,
                )  # fmt: skip
                weights = tl.load(
                    kernel + k * stride_k + channel[:, None] * stride_m + column[None, :] * stride_n,
                    mask=deep[:, None] & wide[None, :], other=0.0,
                )  # fmt: skip
                sums = tl.dot(rows, weights, sums, input_precision=PRECISION)
    row = tl.load(order + place, mask=here, other=0).to(tl.int64)
    tl.store(out + row[:, None] * channels_out + column[None, :], sums, mask=here[:, None] & wide[None, :])


@triton.jit  # type: ignore[untyped-decorator]
def _kernel_gradient(  # type: ignore[no-untyped-def]
    sources, targets, firsts, features, gradient, out,
    volume, channels_in, channels_out,
    PRECISION: tl.constexpr, PARTS: tl.constexpr, PAIRS: tl.constexpr, HIGH: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    k, part = tl.program_id(0) // PARTS, tl.program_id(0) % PARTS
    channel = tl.program_id(1) * HIGH + tl.arange(0, HIGH)
    column = tl.program_id(2) * WIDE + tl.arange(0, WIDE)
    high, wide = channel < channels_in, column < channels_out
    start, stop = tl.load(firsts + k), tl.load(firsts + k + 1)
    share = tl.cdiv(tl.cdiv(stop - start, PARTS), PAIRS) * PAIRS
    start = start + part * share
    stop = tl.minimum(start + share, stop)
    sums = tl.zeros((HIGH, WIDE), tl.float32)
    for first in range(start, stop, PAIRS):
        pair = first + tl.arange(0, PAIRS)
        there = pair < stop
        source = tl.load(sources + pair, mask=there, other=0).to(tl.int64)
        target = tl.load(targets + pair, mask=there, other=0).to(tl.int64)
        rows = tl.load(
            features + source[None, :] * channels_in + channel[:, None], mask=there[None, :] & high[:, None], other=0.0
        )
        arriving = tl.load(
            gradient + target[:, None] * channels_out + column[None, :], mask=there[:, None] & wide[None, :], other=0.0
        )
        sums = tl.dot(rows, arriving, sums, input_precision=PRECISION)
    place = (part * volume + k) * channels_in
    tl.store(
        out + (place + channel[:, None]) * channels_out + column[None, :], sums, mask=high[:, None] & wide[None, :]
    )


def convolve(by_pattern: tuple[Tensor, Tensor], features_vm: Tensor, kernel_kmn: Tensor, precision: str) -> Tensor:
    """Convolved features (W,N), in float32.

    Args:
        by_pattern: (K,W) int32 contiguous, the row that each output row meets under each offset, -1 for none; and (W,)
            int32, where the row that a column stands for is written.
        features_vm: (V,M) contiguous.
        kernel_kmn: (K,M,N) of the features' type, in any layout.
        precision: Triton's `input_precision` of products in float32.
    """
    table_kw, order_w = by_pattern
    volume, num_rows = table_kw.shape
    channels_in, channels_out = kernel_kmn.shape[1:]
    out_wn = features_vm.new_empty(num_rows, channels_out, dtype=torch.float32)
    wide = _width(channels_out)
    launched: Any = _convolve[(triton.cdiv(num_rows, _ROWS), triton.cdiv(channels_out, wide))]
    launched(
        table_kw, order_w, features_vm, kernel_kmn, out_wn,
        num_rows, volume, channels_in, channels_out, *kernel_kmn.stride(),
        PRECISION=precision, ROWS=_ROWS, DEEP=_DEEP, WIDE=wide,
    )  # fmt: skip
    return out_wn


def kernel_gradient(
    pairs: tuple[Tensor, Tensor, Tensor], features_vm: Tensor, gradient_wn: Tensor, precision: str
) -> Tensor:
    """The kernel's gradient (K,M,N), in float32; its parts are added up in one order, so results repeat.

    Args:
        pairs: (P,) int32 rows of the features, offset after offset; (P,) int32 rows of the gradient; and (K+1,) int32,
            where each offset's pairs begin, and P.
        features_vm: (V,M) contiguous.
        gradient_wn: (W,N) contiguous, of the features' type.
        precision: as for `convolve`.
    """
    sources_p, targets_p, firsts = pairs
    volume, channels_in, channels_out = firsts.numel() - 1, features_vm.shape[1], gradient_wn.shape[1]
    high, wide = _width(channels_in), _width(channels_out)
    blocks = triton.cdiv(channels_in, high), triton.cdiv(channels_out, wide)
    parts = min(_PARTS, triton.next_power_of_2(triton.cdiv(_PROGRAMS, volume * blocks[0] * blocks[1])))
    out = features_vm.new_empty(parts, volume, channels_in, channels_out, dtype=torch.float32)
    launched: Any = _kernel_gradient[(volume * parts, *blocks)]
    launched(
        sources_p, targets_p, firsts, features_vm, gradient_wn, out, volume, channels_in, channels_out,
        PRECISION=precision, PARTS=parts, PAIRS=_PAIRS, HIGH=high, WIDE=wide,
    )  # fmt: skip
    return out.sum(0)


def _width(channels: int) -> int:
    """Channels that a program makes at once."""
    return min(64, max(16, int(triton.next_power_of_2(channels))))

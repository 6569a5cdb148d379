"""The innermost loops of a convolution in float32 on a CPU, compiled on first use and kept beside this file.

A tile of output rows is gathered, multiplied and added up offset by offset while all of it is in a core's own cache,
where torch's operations would carry every product to memory and back. Every row adds up its offsets in ascending
order. Knows arrays and row numbers; no tensors, no modules. `workers.sparse.fused` calls it.

Legend of shapes: V input rows, W output rows, K offsets, M channels in, N channels out, R rows at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types

from workers.sparse import blas

if not blas.bind():
    raise ImportError("this build of torch has no product that compiled code could call")

_address = types.uintp
_sgemm: Any = types.ExternalFunction(blas.PRODUCT, types.void(*[_address] * 13))
_set_local_threads: Any = types.ExternalFunction(blas.LOCAL_THREADS, types.intc(types.intc))
_NO, _YES = ord("N"), ord("T")


def _compile(signature: str) -> Callable[[Callable[..., None]], Any]:
    """Compiles ahead of the first call, without the interpreter's lock; kept on disk where there is a place to."""

    def compiled(function: Callable[..., None]) -> Any:
        options: dict[str, Any] = {"nogil": True, "boundscheck": False, "error_model": "numpy"}
        try:
            return njit(signature, cache=True, **options)(function)
        except RuntimeError:  # neither this folder nor the user's cache can be written
            return njit(signature, **options)(function)

    return compiled


@_compile("void(i4[:,::1], f4[:,::1], f4[:,:,::1], b1, f4[:,::1], i8, i8, i8)")
def convolve(
    table_kw: Any, features_vm: Any, kernel_kmn: Any, turned: bool, out_wn: Any, size: int, first: int, step: int
) -> None:
    """Writes the output rows of every `step`-th tile of `size` rows, from tile `first` on.

    Args:
        table_kw: the input row that each output row meets under each offset; -1 for none.
        features_vm: (V,M).
        kernel_kmn: (K,M,N), or with `turned` (K,N,M).
        turned: whether each offset's matrix is multiplied transposed, as a gradient is.
        out_wn: (W,N), overwritten.
        size: R.
        first: this caller's first tile.
        step: how many callers share the tiles.
    """
    volume, num = table_kw.shape
    channels_in, channels_out = features_vm.shape[1], out_wn.shape[1]
    gathered_rm = np.empty((size, channels_in), np.float32)
    products_rn = np.empty((size, channels_out), np.float32)
    rows = np.empty(size, np.int32)
    # MKL's columns first: our (R,N) is its (N,R)
    sizes = np.array([channels_out, 0, channels_in], np.int32)
    scales = np.array([1, 0], np.float32)
    letters = np.array([_NO, _YES], np.uint8)
    n, r, m = sizes.ctypes.data, sizes.ctypes.data + 4, sizes.ctypes.data + 8
    one, zero, as_is = scales.ctypes.data, scales.ctypes.data + 4, letters.ctypes.data
    how, leading = (letters.ctypes.data + 1, m) if turned else (as_is, n)
    before = _set_local_threads(1)
    for start in range(first * size, num, step * size):
        stop = min(num, start + size)
        out_wn[start:stop] = 0
        for k in range(volume):
            count = 0
            for row in range(start, stop):
                source = table_kw[k, row]
                if source >= 0:
                    rows[count] = row
                    for c in range(channels_in):
                        gathered_rm[count, c] = features_vm[source, c]
                    count += 1
            if count == 0:
                continue
            sizes[1] = count
            matrix = kernel_kmn.ctypes.data + 4 * k * channels_in * channels_out
            _sgemm(
                how, as_is, n, r, m, one, matrix, leading,
                gathered_rm.ctypes.data, m, zero, products_rn.ctypes.data, n,
            )  # fmt: skip
            for place in range(count):
                row = rows[place]
                for c in range(channels_out):
                    out_wn[row, c] += products_rn[place, c]
    _set_local_threads(before)


@_compile("void(i4[:,::1], f4[:,::1], f4[:,::1], f4[:,:,::1], i8, i8[::1])")
def kernel_gradient(
    table_kw: Any, features_vm: Any, gradient_wn: Any, kernel_gradient_kmn: Any, size: int, offsets: Any
) -> None:
    """Writes the kernel's gradient under the given offsets: sums over pairs of input row times output row's gradient.

    Args:
        table_kw: as `convolve`'s.
        features_vm: (V,M).
        gradient_wn: (W,N) of the output.
        kernel_gradient_kmn: (K,M,N), overwritten under these offsets.
        size: R, pairs multiplied at once.
        offsets: this caller's.
    """
    num = table_kw.shape[1]
    channels_in, channels_out = features_vm.shape[1], gradient_wn.shape[1]
    features_rm = np.empty((size, channels_in), np.float32)
    gradient_rn = np.empty((size, channels_out), np.float32)
    sizes = np.array([channels_out, channels_in, 0], np.int32)
    scales = np.array([1, 0], np.float32)
    letters = np.array([_NO, _YES], np.uint8)
    n, m, r = sizes.ctypes.data, sizes.ctypes.data + 4, sizes.ctypes.data + 8
    one, zero, as_is, turned = scales.ctypes.data, scales.ctypes.data + 4, letters.ctypes.data, letters.ctypes.data + 1
    before = _set_local_threads(1)
    for k in offsets:
        kernel_gradient_kmn[k] = 0
        matrix = kernel_gradient_kmn.ctypes.data + 4 * k * channels_in * channels_out
        count, so_far = 0, zero
        for row in range(num):
            source = table_kw[k, row]
            if source >= 0:
                for c in range(channels_in):
                    features_rm[count, c] = features_vm[source, c]
                for c in range(channels_out):
                    gradient_rn[count, c] = gradient_wn[row, c]
                count += 1
            if count == size or (row == num - 1 and count > 0):
                sizes[2] = count
                _sgemm(
                    as_is, turned, n, m, r, one, gradient_rn.ctypes.data, n,
                    features_rm.ctypes.data, m, so_far, matrix, n,
                )  # fmt: skip
                count, so_far = 0, one
    _set_local_threads(before)

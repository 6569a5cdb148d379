"""The matrix product that torch itself multiplies with, for compiled code to call: MKL's, out of torch's own library.

Nothing is installed for it, and a call costs a microsecond less than torch's. Knows addresses; no kernel maps.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch

PRODUCT, LOCAL_THREADS = "vlglab_sgemm", "vlglab_mkl_set_num_threads_local"
"""The names under which compiled code finds them."""


@cache
def bind() -> bool:
    """Makes the product known to compiled code; False where this build of torch, or numba's absence, has none to give.

    Builds of torch for other processors than x86-64, and some for macOS, multiply by another library.
    """
    try:
        import llvmlite.binding as llvm

        library = ctypes.CDLL(str(_library()))
        addresses = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in _SYMBOLS]
    except (ImportError, OSError, AttributeError):
        return False
    for name, address in zip((PRODUCT, LOCAL_THREADS), addresses, strict=True):
        llvm.add_symbol(name, address)
    return True


_SYMBOLS = ("SGEMM", "MKL_Set_Num_Threads_Local")


def _library() -> Path:
    """Where torch keeps its CPU kernels."""
    folder = Path(torch.__file__).parent / "lib"
    return next(iter(sorted(folder.glob("*torch_cpu*.so"))), folder / "libtorch_cpu.so")

"""Which number format a machine multiplies matrices in."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["float32", "bfloat16", "auto"]


def compute_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The type for `torch.autocast`: `auto` takes bfloat16 where the device multiplies it natively, else float32."""
    if precision == "auto":
        return torch.bfloat16 if has_native_bfloat16(device) else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 products are faster than float32's on this device, by its instruction set."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    # torch has no public name for these two; where a later one drops them, float32 is right, only slower
    checks = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    return device.type == "cpu" and any(check() for check in checks if check is not None)

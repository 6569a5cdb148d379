"""Which format is multiplied in: what was asked for, and for `auto` what the processor's flags say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from workers.learning.precision import compute_dtype, has_native_bfloat16

CPU = torch.device("cpu")


def test_a_named_precision_is_taken_as_it_is() -> None:
    assert compute_dtype("float32", CPU) == torch.float32
    assert compute_dtype("bfloat16", CPU) == torch.bfloat16


def test_auto_follows_the_processor_s_flags() -> None:
    info = Path("/proc/cpuinfo")
    if not info.exists() or "flags" not in info.read_text():
        pytest.skip("this machine does not list its processor's flags in /proc/cpuinfo")
    flags = set(info.read_text().split("flags", 1)[1].split("\n", 1)[0].split())
    assert has_native_bfloat16(CPU) == bool(flags & {"avx512_bf16", "amx_tile"})
    assert (compute_dtype("auto", CPU) == torch.bfloat16) == has_native_bfloat16(CPU)

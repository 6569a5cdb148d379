from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from workers.sparse.implicit_gemm import fits

KERNELS = Path(__file__).with_name("interpreted_kernels.py")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed; `make test-all` installs it")
def test_the_kernels_agree_with_sums_over_offsets_in_triton_s_interpreter() -> None:
    """In a process of its own: whether kernels are interpreted is decided when Triton is first imported."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--noconftest", str(KERNELS)]
    environment = os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("PYTEST_XDIST_WORKER", None)
    done = subprocess.run(command, env=environment, cwd=KERNELS.parents[3], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout


def test_a_cpu_never_takes_them() -> None:
    assert not fits(torch.zeros(1, 32), torch.float32)

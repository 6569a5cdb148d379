"""The layers hold: import-linter's contracts, and what the service may not load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_import_linter_s_contracts_are_kept() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "module", ["service.app", "service.cli", "storage.specs.recipes", "workers.host", "workers.run"]
)
def test_nothing_heavy_is_loaded_before_a_stage_needs_it(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('torch', 'tensorflow', 'ray', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr

"""Features of any size within 1 GB of anonymous memory a process: written, drawn, verified, taken out, in."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fixtures.dying import ROOT
from tests.fixtures.large_features import DEEDS, DIMENSION, DRAWN, FILES, POINTS, SCENES

LIMIT = 10**9
SCENE = POINTS * DIMENSION * 2
"""Bytes of a scene's embeddings."""


def peak(do: str, folder: Path) -> int:
    """The most anonymous memory in bytes that a process was seen with that does something, looked at from outside."""
    process = subprocess.Popen([sys.executable, "-m", "tests.fixtures.large_features", do, str(folder)], cwd=ROOT)
    most = 0
    try:
        while process.poll() is None:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            most = max([most, *(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))])
            time.sleep(0.003)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, do
    return most


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RssAnon is Linux's")
def test_features_beyond_a_gigabyte_take_less_of_memory(tmp_path: Path) -> None:
    peaks = {do: peak(do, tmp_path) for do in DEEDS}
    print({do: f"{most / 1e6:.0f} MB" for do, most in peaks.items()})
    files = [path.stat().st_size for path in (tmp_path / "drawn").iterdir()]
    assert (len(files), min(files) > DRAWN * DIMENSION * 2) == (FILES, True)
    assert len(SCENES) * SCENE > LIMIT, "all scenes at once would be beyond it"
    assert sum(files) + SCENE > 0.95 * LIMIT, "and so would be the files of one, beside what they make"
    assert peaks["write"] > SCENE, "a writer holds a scene, and that is seen"
    assert [do for do, most in peaks.items() if most >= LIMIT] == []

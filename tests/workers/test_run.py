"""What a run's process records of the machine and the libraries that it ran with."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from workers import run

ROOT = Path(__file__).resolve().parents[2]


def test_the_versions_of_the_libraries_behind_encoders_and_engines_are_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, version in (("tensorflow", "2.99.1"), ("minkowskiengine", "0.5.9"), ("tokenizers", "7.0")):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    recorded = run.environment()["packages"]
    assert (recorded["tensorflow"], recorded["MinkowskiEngine"], recorded["tokenizers"]) == ("2.99.1", "0.5.9", "7.0")
    assert recorded["torch"] == metadata.version("torch")


def test_what_is_not_installed_is_recorded_as_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    recorded = run.environment()["packages"]
    assert set(recorded) >= {"torch", "tensorflow", "tensorflow-cpu", "transformers", "tokenizers", "MinkowskiEngine"}
    assert set(recorded.values()) == {"absent"}


def test_recording_versions_imports_none_of_the_libraries() -> None:
    code = (
        "import sys; from workers import run; run.environment(); "
        "print({'tensorflow', 'transformers', 'tokenizers', 'MinkowskiEngine'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

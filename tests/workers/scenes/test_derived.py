"""What is derived of a file is computed once, and again when the file changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workers.scenes.derived import DerivedDigests


def test_it_is_remembered_between_runs_until_the_file_changes(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    path = tmp_path / "raw" / "a.sens"
    path.write_bytes(b"first")
    os.utime(path, (1_000_000, 1_000_000))
    computed: list[str] = []

    def ask(what: str) -> str:
        def compute() -> str:
            computed.append(what)
            return f"{what}{len(computed)}"

        digests = DerivedDigests(tmp_path / "raw", tmp_path / "cache")
        value = digests.derived("a.sens", what, compute)
        digests.save()
        return value

    assert [ask("x"), ask("x"), ask("y"), ask("x")] == ["x1", "x1", "y2", "x1"]
    path.write_bytes(b"other")
    os.utime(path, (2_000_000, 2_000_000))
    assert [ask("x"), ask("x")] == ["x3", "x3"]
    plain = DerivedDigests(tmp_path / "raw", tmp_path / "cache")
    assert plain.of("a.sens") not in {"x3", "y2"}
    path.write_bytes(b"fresh")
    assert [ask("x"), ask("x")] == ["x4", "x5"], "a file that may change within its clock tick is not remembered"


def test_failures_are_not_remembered(tmp_path: Path) -> None:
    digests = DerivedDigests(tmp_path, tmp_path / "cache")
    with pytest.raises(OSError):
        digests.derived("gone", "x", lambda: "value")
    (tmp_path / "a").write_bytes(b"a")
    with pytest.raises(ZeroDivisionError):
        digests.derived("a", "x", lambda: str(1 // 0))
    assert digests.derived("a", "x", lambda: "value") == "value"

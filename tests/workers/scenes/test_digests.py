"""Digests of files, and what else is derived of them, are remembered, and never wrongly."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from storage.keys import digest_bytes
from workers.scenes.digests import DigestCache


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "a.bin"
    path.write_bytes(b"one")
    os.utime(path, ns=(10**18, 10**18))
    return tmp_path / "data"


def caches(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").iterdir()) if (tmp_path / "cache").exists() else []


def test_a_digest_is_that_of_the_content(root: Path, tmp_path: Path) -> None:
    cache = DigestCache(root, tmp_path / "cache")
    assert cache.of("a.bin") == digest_bytes(b"one")
    assert cache.size("a.bin") == 3


def test_a_large_file_is_digested_whole(root: Path, tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(5 * 2**19 + 1)
    (root / "large.bin").write_bytes(content)
    assert DigestCache(root, tmp_path / "cache").of("large.bin") == digest_bytes(content)


def test_what_is_remembered_is_not_read_again(root: Path, tmp_path: Path) -> None:
    cache = DigestCache(root, tmp_path / "cache")
    cache.of("a.bin")
    cache.save()
    # same size, same time: only a reader of the content could tell
    (root / "a.bin").write_bytes(b"two")
    os.utime(root / "a.bin", ns=(10**18, 10**18))
    assert DigestCache(root, tmp_path / "cache").of("a.bin") == digest_bytes(b"one")


@pytest.mark.parametrize(("content", "when"), [(b"two", 10**18 + 1), (b"longer", 10**18)])
def test_a_changed_time_or_size_is_read_again(root: Path, tmp_path: Path, content: bytes, when: int) -> None:
    cache = DigestCache(root, tmp_path / "cache")
    cache.of("a.bin")
    cache.save()
    (root / "a.bin").write_bytes(content)
    os.utime(root / "a.bin", ns=(when, when))
    assert DigestCache(root, tmp_path / "cache").of("a.bin") == digest_bytes(content)


def test_a_file_that_was_just_written_is_not_remembered(root: Path, tmp_path: Path) -> None:
    (root / "b.bin").write_bytes(b"new")
    cache = DigestCache(root, tmp_path / "cache")
    assert cache.of("b.bin") == digest_bytes(b"new")
    cache.save()
    assert not caches(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 1}', '{"version": 1, "files": {"a.bin": [1]}}', '{"version": 2}']
)
def test_a_broken_or_foreign_memory_is_ignored(root: Path, tmp_path: Path, text: str) -> None:
    cache = DigestCache(root, tmp_path / "cache")
    cache.of("a.bin")
    cache.save()
    (path,) = caches(tmp_path)
    path.write_text(text)
    again = DigestCache(root, tmp_path / "cache")
    assert again.of("a.bin") == digest_bytes(b"one")
    again.save()
    assert "a.bin" in json.loads(path.read_text())["files"]


def test_a_memory_that_cannot_be_written_is_no_fault(root: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    cache = DigestCache(root, tmp_path / "cache")
    assert cache.of("a.bin") == digest_bytes(b"one")
    cache.save()


def test_what_is_derived_is_remembered_between_runs_until_the_file_changes(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    path = tmp_path / "raw" / "a.sens"
    path.write_bytes(b"first")
    os.utime(path, (1_000_000, 1_000_000))
    computed: list[str] = []

    def ask(what: str) -> str:
        def compute() -> str:
            computed.append(what)
            return f"{what}{len(computed)}"

        digests = DigestCache(tmp_path / "raw", tmp_path / "cache")
        value = digests.derived("a.sens", what, compute)
        digests.save()
        return value

    assert [ask("x"), ask("x"), ask("y"), ask("x")] == ["x1", "x1", "y2", "x1"]
    path.write_bytes(b"other")
    os.utime(path, (2_000_000, 2_000_000))
    assert [ask("x"), ask("x")] == ["x3", "x3"]
    plain = DigestCache(tmp_path / "raw", tmp_path / "cache")
    assert plain.of("a.sens") not in {"x3", "y2"}
    path.write_bytes(b"fresh")
    assert [ask("x"), ask("x")] == ["x4", "x5"], "a file that may change within its clock tick is not remembered"


def test_failures_are_not_remembered(tmp_path: Path) -> None:
    digests = DigestCache(tmp_path, tmp_path / "cache")
    with pytest.raises(OSError):
        digests.derived("gone", "x", lambda: "value")
    (tmp_path / "a").write_bytes(b"a")
    with pytest.raises(ZeroDivisionError):
        digests.derived("a", "x", lambda: str(1 // 0))
    assert digests.derived("a", "x", lambda: "value") == "value"

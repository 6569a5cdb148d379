"""The commit that is recorded with a run, and whether it was changed, against a repository made for the test."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from workers.run import CHECKOUT, code_version


def git(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), "-c", "user.name=A Test", "-c", "user.email=test@lab.test", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit."""
    root = tmp_path / "checkout"
    root.mkdir()
    git(root, "init", "--quiet")
    (root / "code.py").write_text("x = 1\n")
    git(root, "add", "code.py")
    git(root, "commit", "--quiet", "-m", "one")
    return root


def test_a_clean_checkout_gives_its_commit(checkout: Path) -> None:
    expected = {"version": metadata.version("vlglab"), "commit": git(checkout, "rev-parse", "HEAD"), "dirty": False}
    assert code_version(checkout) == expected
    assert len(expected["commit"]) == 40
    (checkout / "code.py").write_text("x = 2\n")
    git(checkout, "commit", "--quiet", "-am", "two")
    found = code_version(checkout)
    assert found["commit"] == git(checkout, "rev-parse", "HEAD") != expected["commit"]
    assert found["dirty"] is False


def test_a_changed_file_makes_it_dirty_whether_staged_or_not_and_an_untracked_one_does_not(checkout: Path) -> None:
    (checkout / "notes.txt").write_text("mine")
    assert code_version(checkout)["dirty"] is False
    (checkout / "code.py").write_text("x = 2\n")
    assert code_version(checkout)["dirty"] is True
    git(checkout, "add", "code.py")
    assert code_version(checkout)["dirty"] is True
    assert code_version(checkout)["commit"] == git(checkout, "rev-parse", "HEAD")


def test_outside_a_checkout_and_before_its_first_commit_there_is_none(tmp_path: Path, checkout: Path) -> None:
    assert code_version(tmp_path)["commit"] is None
    assert code_version(tmp_path)["dirty"] is None
    fresh = checkout / "fresh"
    fresh.mkdir()
    assert code_version(fresh)["commit"] is None, "a repository around an installed package is not ours"
    git(fresh, "init", "--quiet")
    assert code_version(fresh)["commit"] is None


def test_by_default_it_is_the_code_that_runs() -> None:
    assert (CHECKOUT / "workers" / "run.py").samefile(code_version.__code__.co_filename)

"""Every `Examples` block in a docstring is run: what it shows is what happens."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("storage", "service", "workers", "migrations")


def with_examples() -> list[str]:
    """The modules whose source shows an example."""
    files = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
    shown = [file.relative_to(ROOT) for file in files if ">>> " in file.read_text(encoding="utf-8")]
    return [".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in shown]


@pytest.mark.parametrize("name", with_examples())
def test_the_examples_of_a_module_give_what_they_show(name: str) -> None:
    said: list[str] = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    for test in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name)):
        runner.run(test, out=said.append)
    assert runner.tries, f"{name} shows an example outside its docstrings, where none is run"
    assert not runner.failures, "".join(said)


def test_examples_are_found() -> None:
    assert "storage.keys" in with_examples() and "service.cli.console" in with_examples()

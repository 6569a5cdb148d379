"""No file over 400 lines, no function over 60, no more than 8 parameters, no nameless rooms."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("service", "workers", "storage", "migrations")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
NAMELESS = {"utils", "util", "common", "helpers", "helper", "base", "manager", "misc"}


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_there_are_files() -> None:
    assert len(FILES) > 40


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_keeps_to_its_size(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= 400, f"{path.relative_to(ROOT)} has {lines} lines, at most 400 are allowed: split it"
    for function in functions(path):
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        assert length <= 60, f"{function.name} has {length} lines, at most 60 are allowed"
        arguments = function.args
        count = len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs)
        if any(isinstance(d, ast.Call) and ast.unparse(d.func).endswith(".command") for d in function.decorator_list):
            continue  # a command's parameters are the options that its users see
        if "triton.jit" in map(ast.unparse, function.decorator_list):
            continue  # a GPU's kernel takes addresses and sizes one by one
        count -= bool(arguments.args) and arguments.args[0].arg in ("self", "cls", "ctx")
        assert count <= 8, f"{function.name} has {count} parameters; past 8 it is a spec"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_has_a_name_and_says_what_it_is(path: Path) -> None:
    assert path.stem not in NAMELESS
    tree = ast.parse(path.read_text())
    if tree.body:
        assert ast.get_docstring(tree), f"{path.relative_to(ROOT)} has no docstring"


def public_names(path: Path) -> Iterator[tuple[str, ast.AST]]:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_"):
                        yield f"{node.name}.{inner.name}", inner


@pytest.mark.parametrize(
    "path", [p for p in FILES if "versions" not in p.parts], ids=lambda p: str(p.relative_to(ROOT))
)
def test_every_public_name_has_a_docstring(path: Path) -> None:
    bare = [name for name, node in public_names(path) if not ast.get_docstring(node)]  # type: ignore[arg-type]
    assert not bare, f"{path.relative_to(ROOT)}: no docstring on {', '.join(bare)}"

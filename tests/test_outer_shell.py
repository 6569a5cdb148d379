"""What a newcomer meets first: the pins, the verbs and the documents that name them."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [text for texts in project["optional-dependencies"].values() for text in texts]
    return [Requirement(text) for text in [*project["dependencies"], *extras]]


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_every_dependency_is_pinned_to_a_version_that_it_allows(requirement: Requirement) -> None:
    version = pins().get(canonicalize_name(requirement.name))
    assert version, f"constraints.txt has no pin for {requirement.name}"
    assert requirement.specifier.contains(version, prereleases=True)


def test_torch_is_pinned_without_a_build() -> None:
    assert pins()["torch"] == "2.13.0"


def test_nothing_that_the_demo_does_not_need_is_a_core_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}
    assert not names & {"tensorflow", "ray", "minkowskiengine", "scikit-learn", "pytest", "psycopg"}


def verbs() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("document", ["README.md", "docs/development.md", ".ci/run", "CHANGELOG.md"])
def test_documents_name_only_verbs_that_the_makefile_has(document: str) -> None:
    named = set(re.findall(r"(?:`|\$ |^)make ([a-z-]+)", (ROOT / document).read_text(), re.MULTILINE))
    assert named <= verbs(), f"{document} names verbs that `make help` does not list"


def test_the_modules_that_verbs_run_exist() -> None:
    modules = set(re.findall(r"python -m ([a-z_.]+)", (ROOT / "Makefile").read_text()))
    modules -= {"pip", "pytest"} | sys.stdlib_module_names
    missing = [module for module in modules if not (ROOT / module.replace(".", "/")).with_suffix(".py").exists()]
    assert modules
    assert not missing, f"the Makefile runs modules that are not there: {', '.join(missing)}"


def test_a_clean_clone_makes_its_environment_then_installs_then_runs(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    plan = subprocess.run(
        ["make", "-n", "demo", "DATA=some folder"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    steps = [
        plan.index(step) for step in ("-m venv .venv", "-c constraints.txt -e .", 'vlglab demo --data "some folder"')
    ]
    assert steps == sorted(steps)


def test_make_refuses_an_old_python_in_words(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    done = subprocess.run(["make", "demo", "PYTHON="], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Python 3.11 or newer" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_the_ci_script_is_a_script() -> None:
    subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=True)
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111

"""What a shell is told when somebody presses the tabulator: names of the service's, and silence where it is away."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service import examples
from tests.fixtures.canned_service import canned

API = "/api/v1"
ROOT = Path(__file__).resolve().parents[2]
ANSWERS: dict[str, Any] = {
    f"GET {API}/runs": {"items": [{**examples.RUN, "id": name} for name in ("r12", "r13", "r2")], "next": None},
    f"GET {API}/experiments": {"items": [{**examples.EXPERIMENT, "id": "e1"}], "next": None},
    f"GET {API}/datasets": {"items": [{**examples.DATASET, "name": "offices"}], "next": None},
}


def completed(words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What bash is told after these words."""
    asked = {"_VLGLAB_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    command = [sys.executable, "-c", "from service.cli.entry import app; app(prog_name='vlglab')"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **asked, **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("vlglab runs show r1", ["r12", "r13"]),
        ("vlglab runs logs ", ["r12", "r13", "r2"]),
        ("vlglab experiments watch ", ["e1"]),
        ("vlglab experiments submit 3dss-vlg --dataset of", ["offices"]),
        ("vlglab runs wa", ["watch"]),
    ],
)
def test_names_come_from_the_service_and_commands_from_the_program(
    tmp_path: Path, words: str, names: list[str]
) -> None:
    with canned(tmp_path, ANSWERS) as service:
        done = completed(words, VLGLAB_URL=service.url, VLGLAB_API_TOKEN="vlglab_x")
        assert [line.split()[0] for line in done.stdout.splitlines()] == names
        assert done.stderr == ""
        if "wa" not in words.split()[-1]:
            (asked,) = service.asked()
            assert asked["headers"]["authorization"] == "Bearer vlglab_x"


def test_the_address_may_stand_on_the_command_line(tmp_path: Path) -> None:
    with canned(tmp_path, ANSWERS) as service:
        assert completed(f"vlglab --url {service.url} datasets check ").stdout.split() == ["offices"]


@pytest.mark.parametrize("fault", [{"stall": True}, {"drop": True}, {"status": 401, "body": examples.PROBLEM}])
def test_a_service_that_does_not_say_is_not_spoken_of(tmp_path: Path, fault: dict[str, Any]) -> None:
    with canned(tmp_path, {f"GET {API}/runs": {"steps": [fault]}}) as service:
        done = completed("vlglab runs show ", VLGLAB_URL=service.url)
        assert (done.stdout.strip(), done.stderr) == ("", "")
        assert len(service.asked()) == 1, "a shell waits: nothing is tried again"


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://[::1", "nonsense"])
def test_nobody_there_is_silence(url: str) -> None:
    done = completed("vlglab runs show ", VLGLAB_URL=url)
    assert (done.stdout.strip(), done.stderr) == ("", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_s_script_can_be_shown(shell: str) -> None:
    command = [sys.executable, "-c", "from service.cli.entry import app; app(prog_name='vlglab')", "--show-completion"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run([*command, shell], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "_VLGLAB_COMPLETE" in done.stdout

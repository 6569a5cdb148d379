from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points

import pytest

from service.cli.start import collector_at_rest


@pytest.fixture(autouse=True)
def _unfrozen() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_rests_and_goes_on_as_it_was(enabled: bool) -> None:
    (gc.enable if enabled else gc.disable)()
    seen = []

    def broken() -> None:
        with collector_at_rest():
            seen.append(gc.isenabled())
            raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert seen == [False]
    assert gc.isenabled() is enabled


def test_what_was_made_at_rest_is_not_looked_through_again() -> None:
    before = gc.get_freeze_count()
    with collector_at_rest():
        kept = [[] for _ in range(1000)]  # type: ignore[var-annotated]
    assert gc.get_freeze_count() >= before + len(kept)


def test_the_command_is_this_one() -> None:
    (command,) = entry_points(group="console_scripts", name="vlglab")
    assert command.value == "service.cli.start:main"
    done = subprocess.run([sys.executable, "-m", "service.cli.start", "--version"], capture_output=True, check=True)
    assert done.stdout.strip()

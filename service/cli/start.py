"""The command `vlglab`: imports the command line, and leaves the collector of garbage at rest meanwhile.

Some thousand classes come into being in that second, all of them to stay; looking for garbage among them took a
quarter of it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Collects nothing within, and never again what was made within and is still alive."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def main() -> None:
    """Runs the command line."""
    with collector_at_rest():
        from service.cli.entry import main as run
    run()


if __name__ == "__main__":
    main()

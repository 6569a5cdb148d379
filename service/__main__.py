"""`python -m service`: the same as `vlglab serve`."""

from __future__ import annotations

import sys

from service.cli.start import collector_at_rest


def main(arguments: list[str] | None = None) -> None:
    """Serves until a signal; takes the options of `vlglab serve`."""
    with collector_at_rest():
        from service.cli.entry import app
    app(["serve", *(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    main()

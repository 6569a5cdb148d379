"""`python -m service`: the same as `vlglab serve`."""

from __future__ import annotations

import sys

from service.cli.entry import app


def main(arguments: list[str] | None = None) -> None:
    """Serves until a signal; takes the options of `vlglab serve`."""
    app(["serve", *(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    main()

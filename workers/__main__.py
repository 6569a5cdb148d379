"""`python -m workers host` and `python -m workers run RUN_ID`: where the workers' parts are wired."""

from __future__ import annotations

import argparse
import logging
import os
import sys

from storage.errors import InvalidInput, VlglabError
from storage.settings import settings
from workers.host import run_host
from workers.launchers.processes import TOKEN_VARIABLE
from workers.run import run_once


def main(arguments: list[str] | None = None) -> int:
    """Runs a host, or one claimed run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m workers", description="Workers of vlglab.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("host", help="claim ready runs and start a process for each")
    run = commands.add_parser("run", help="run one claimed run (started by a host)")
    run.add_argument("run_id")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        if given.command == "host":
            run_host(settings())
            return 0
        token = os.environ.pop(TOKEN_VARIABLE, "")
        if not token:
            raise InvalidInput(f"{TOKEN_VARIABLE} is not set; runs are started by a host, which claims them first")
        return run_once(given.run_id, token, settings())
    except VlglabError as error:
        logging.getLogger("vlglab").error("%s: %s", error.code, error.message)
        return 2


if __name__ == "__main__":
    sys.exit(main())

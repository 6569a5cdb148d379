"""`python -m workers host`, `run`, `sweep`, `checkpoint`, `features export`: where the workers' parts are wired."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from storage import log_format
from storage.errors import InvalidInput, VlglabError
from storage.settings import settings
from workers.host import check_host, run_host, sweep
from workers.launchers.processes import TOKEN_VARIABLE
from workers.run import run_once


def main(arguments: list[str] | None = None) -> int:
    """Runs a host, or one claimed run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m workers", description="Workers of vlglab.")
    commands = parser.add_subparsers(dest="command", required=True)
    host = commands.add_parser("host", help="claim ready runs and start a process for each")
    host.add_argument("--check", action="store_true", help="only say whether a host of this machine beats; 1 if none")
    commands.add_parser("sweep", help="remove what attempts that are over have left staged; hosts do it every minute")
    run = commands.add_parser("run", help="run one claimed run (started by a host)")
    run.add_argument("run_id")
    _add_checkpoint(commands.add_parser("checkpoint", help="published trainers' checkpoints, in and out"))
    _add_features(commands.add_parser("features", help="feature stores, out to files of other trainers"))
    given = parser.parse_args(arguments)
    log_format.configure(settings().log_format)
    try:
        if given.command == "host" and given.check:
            return check_host(settings())
        if given.command == "host":
            run_host(settings())
            return 0
        if given.command == "sweep":
            print(f"swept what {sweep(settings())} attempts had left staged")
            return 0
        if given.command == "checkpoint":
            return _checkpoint(given)
        if given.command == "features":
            return _export_features(given)
        token = os.environ.pop(TOKEN_VARIABLE, "")
        if not token:
            raise InvalidInput(f"{TOKEN_VARIABLE} is not set; runs are started by a host, which claims them first")
        return run_once(given.run_id, token, settings())
    except VlglabError as error:
        logging.getLogger("vlglab").error("%s: %s", error.code, error.message)
        return 2


def _add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """The arguments of `checkpoint`."""
    verbs = parser.add_subparsers(dest="verb", required=True)
    come = verbs.add_parser("import", help="an OpenScene or 3DSS-VLG .pth becomes a safetensors checkpoint")
    go = verbs.add_parser("export", help="a safetensors checkpoint becomes a .pth")
    for verb in (come, go):
        verb.add_argument("source", type=Path)
        verb.add_argument("target", type=Path)
    come.add_argument("--voxel-m", type=float, default=0.02, help="edge of the voxels that it was trained on, metres")
    come.add_argument(
        "--inputs", choices=("plus_half", "signed", "ones"), default="signed", help="what it saw of colours"
    )
    come.add_argument("--what", choices=("network", "adapter"), help="which of a file that holds both; the network")
    go.add_argument("--what", choices=("network", "adapter"), help="of what it is; the network")
    go.add_argument("--prefix", choices=("", "module.", "net3d.", "module.net3d."), default="", help="before each name")


def _checkpoint(given: argparse.Namespace) -> int:
    """Imports or exports a checkpoint and says what it is."""
    from workers.nets.published import export_checkpoint, import_checkpoint

    if given.verb == "export":
        remark = export_checkpoint(given.source, given.target, given.prefix, what=given.what or "network")
        print(f"wrote {given.target}{'. ' if remark else ''}{remark}")
        return 0
    found = import_checkpoint(given.source, given.target, voxel_m=given.voxel_m, inputs=given.inputs, what=given.what)
    print(
        f"wrote {given.target}: {found.arch or 'adapter'}, D = {found.dimension}, {found.num_parameters:,} parameters"
    )
    if found.remark:
        print(found.remark)
    return 0


def _add_features(parser: argparse.ArgumentParser) -> None:
    """The arguments of `features`."""
    verbs = parser.add_subparsers(dest="verb", required=True)
    go = verbs.add_parser("export", help="a published feature store becomes OpenScene's .pt files")
    go.add_argument("key", help="the store's key")
    go.add_argument("folder", type=Path, help="where to write <scene>_0.pt and so on")
    go.add_argument("--files", type=int, default=1, help="files a scene; OpenScene's trainer draws one a step")
    go.add_argument("--points", type=int, help="points of the scene that each file draws; all if not given")
    go.add_argument("--seed", type=int, default=0, help="of what is drawn")


def _export_features(given: argparse.Namespace) -> int:
    """Writes a feature store of this machine's settings for other trainers, and says what was written."""
    from storage.artifacts import choose
    from workers.nets.openscene_files import Subsets, export

    if given.files < 1 or (given.points is not None and given.points < 1):
        raise InvalidInput("got --files or --points below 1, expected 1 or more")
    subsets = Subsets(given.files, given.points, given.seed)
    written = list(export(choose.open_store(settings()), given.key, given.folder, subsets))
    print(f"wrote {len(written)} scenes with {sum(rows for _, rows in written):,} covered points to {given.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

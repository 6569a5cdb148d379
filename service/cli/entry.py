"""`vlglab`: the command line, put together from its groups. Every command but `serve` and `db` speaks only HTTP."""

from __future__ import annotations

import sys
import traceback
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from service.cli import (
    database,
    datasets,
    experiments,
    features,
    hosts,
    keeping,
    runs,
    server,
    sharing,
    status,
    tables,
    tokens,
    webhooks,
)
from service.cli.console import ErrorGroup, Shell, assignments, shell
from service.cli.demo import DemoOptions, run_demo
from service.cli.scripting import Exit, Json, show_json
from service.client import DEFAULT_URL, Client
from storage.errors import InvalidInput

app = typer.Typer(
    name="vlglab",
    cls=ErrorGroup,
    help="The experiment service for 3D weakly supervised segmentation with 2D vision-language guidance.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(datasets.app, name="datasets")
app.add_typer(experiments.app, name="experiments")
app.add_typer(runs.app, name="runs")
app.add_typer(features.app, name="features")
features.app.command("pull")(sharing.pull)
features.app.command("repair")(sharing.repair)
features.app.command("import")(sharing.import_features)
keeping.add_to(features.app)
app.add_typer(hosts.app, name="hosts")
app.add_typer(tokens.app, name="tokens")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(database.app, name="db")
app.command("serve")(server.serve)
app.add_typer(tables.app)
app.command("health")(status.health)
app.command("recipes")(status.recipes)
app.command("config")(status.config)


def _print_version(ctx: typer.Context, option: typer.CallbackParam, given: bool) -> bool:
    """Prints the version and ends, once it is known of both `--version` and `--json` whether they were given."""
    ctx.meta[f"vlglab.{option.name}"] = given
    known = [ctx.meta.get(f"vlglab.{name}") for name in ("_version", "_json")]
    if None in known or not known[0]:
        return given
    try:
        found = version("vlglab")
    except PackageNotFoundError:
        found = None
    if known[1]:
        show_json({"version": found})
    else:
        typer.echo(found or "not installed")
    raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    url: Annotated[str, typer.Option(envvar="VLGLAB_URL", help="Where the service listens.")] = DEFAULT_URL,
    token: Annotated[
        str | None,
        typer.Option(envvar="VLGLAB_API_TOKEN", show_envvar=True, help="A token, where the service asks for one."),
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    _json: Annotated[
        bool, typer.Option("--json", callback=_print_version, is_eager=True, help="Print the version as JSON.")
    ] = False,
) -> None:
    """Makes the client that the commands speak through, unless the caller gave one or the command speaks to none.

    Raises:
        InvalidInput: `--json` before a command.
    """
    if _json:
        raise InvalidInput("got --json before the command, expected it behind, such as `vlglab runs list --json`")
    if ctx.obj is None and ctx.invoked_subcommand not in ("serve", "db"):
        client = Client(url, token=token)
        ctx.obj = Shell(client)
        ctx.call_on_close(client.close)


@app.command("demo")
def demo(
    ctx: typer.Context,
    data: Annotated[
        Path | None, typer.Option(help="A folder of posed RGB-D frames in ScanNet's exported layout.")
    ] = None,
    home: Annotated[
        Path | None, typer.Option(help="Where everything is written; default a new ~/.vlglab/demo-*.")
    ] = None,
    label_set: Annotated[str, typer.Option(help="Label set of --data: scannet20 or s3dis13.")] = "scannet20",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the training.")] = 0,
    override: Annotated[
        list[str] | None, typer.Option("--set", metavar="RUN.FIELD=VALUE", help="Change a field of the recipe.")
    ] = None,
    keep_serving: Annotated[bool, typer.Option("--keep-serving", help="Serve the results until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Runs the whole method with a service of its own, and prints what came of it. JSON is of the experiment."""
    options = DemoOptions(
        home=home,
        data=data,
        label_set=label_set,
        seed=seed,
        overrides=assignments(override or [], "--set"),
        keep_serving=keep_serving,
        as_json=as_json,
    )
    at = shell(ctx)
    raise typer.Exit(run_demo(options, at.err if as_json else at.out))


def main() -> None:
    """Runs the command line; what nobody foresaw ends it with a traceback and a status of its own."""
    try:
        app()
    except Exception:  # noqa: BLE001 - whatever it is, its traceback is shown
        traceback.print_exc()
        sys.exit(Exit.BROKEN)


if __name__ == "__main__":
    main()

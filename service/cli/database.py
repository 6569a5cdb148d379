"""`vlglab db`: the database of this machine's settings: made, checked, moved. Speaks to no service."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.console import make_console, plain_table, read_settings

if TYPE_CHECKING:
    from storage.records.export_format import Header

app = typer.Typer(no_args_is_help=True, help="The database of this machine's settings.")

FAULTY = 3
"""Exit status of `vlglab db check` where something is wrong with the database."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("upgrade")
def upgrade_database() -> None:
    """Brings the database's tables up to this version; makes them where there are none."""
    from migrations.upgrade import upgrade

    revision = upgrade(read_settings().resolved_database_url)
    typer.echo(f"the database is at revision {revision}")


@app.command("add-token")
def add_token(
    owner: Annotated[str, typer.Argument(help="Whose it is.")],
    role: Annotated[str, typer.Option(help="reader, submitter or admin.")] = "submitter",
    days: Annotated[float | None, typer.Option(min=0.001, help="Days that it is good for; default for ever.")] = None,
) -> None:
    """Makes a token straight in the database, as the first one must be made, and prints its secret, this once."""
    from migrations.upgrade import upgrade
    from service.first_token import make_token

    config = read_settings()
    config.home_path.mkdir(parents=True, exist_ok=True)
    upgrade(config.resolved_database_url)
    typer.echo(make_token(config, owner, role, days))


@app.command("check")
def check_database(
    store: Annotated[bool, typer.Option("--store", help="Also hold the recorded artifacts against the store.")] = False,
    as_json: Json = False,
) -> None:
    """Says what is wrong with the database, and changes nothing. Ends with status 3 where something is."""
    from service.upkeep import check_database

    found = check_database(read_settings(), with_store=store)
    if as_json:
        typer.echo(json.dumps({"sound": not found, "items": [asdict(one) for one in found]}, indent=2))
    elif found:
        make_console().print(
            plain_table(("what", "about", "says"), [(one.code, one.subject, one.message) for one in found]),
            markup=False,
        )
    else:
        typer.echo("the database is sound")
    raise typer.Exit(FAULTY if found else 0)


@app.command("export")
def export_database(
    file: Annotated[Path, typer.Argument(help="A file that does not exist yet; by custom NAME.jsonl.gz.")],
    as_json: Json = False,
) -> None:
    """Writes every row of the database into a file, from which `vlglab db import` fills another, of any kind."""
    from service.upkeep import export_database

    _tell(export_database(read_settings(), file), f"wrote {file}", as_json=as_json)


@app.command("import")
def import_database(
    file: Annotated[Path, typer.Argument(help="What `vlglab db export` wrote.")],
    as_json: Json = False,
) -> None:
    """Makes the tables where there are none, and fills them from a file: all of it or, on any fault, nothing."""
    from migrations.upgrade import upgrade
    from service.upkeep import import_database

    config = read_settings()
    config.home_path.mkdir(parents=True, exist_ok=True)
    upgrade(config.resolved_database_url)
    _tell(import_database(config, file), f"imported {file}", as_json=as_json)


def _tell(header: Header, said: str, *, as_json: bool) -> None:
    """Prints how many rows of which tables have travelled."""
    rows = {table.name: table.rows for table in header.tables}
    if as_json:
        typer.echo(json.dumps({"revision": header.revision, "rows": rows}, indent=2))
    else:
        full = ", ".join(f"{count:,} {name}" for name, count in rows.items() if count)
        typer.echo(f"{said}: revision {header.revision}, {sum(rows.values()):,} rows ({full or 'none'})")

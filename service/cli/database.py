"""`vlglab db`: the database of this machine's settings: made, checked, moved. Speaks to no service."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.console import make_console, plain_table, read_settings
from service.cli.scripting import Exit, Json, show_json

if TYPE_CHECKING:
    from storage.records.export_format import Header

app = typer.Typer(no_args_is_help=True, help="The database of this machine's settings.")


@app.command("upgrade")
def upgrade_database(as_json: Json = False) -> None:
    """Brings the database's tables up to this version; makes them where there are none."""
    from migrations.upgrade import upgrade

    revision = upgrade(read_settings().resolved_database_url)
    if as_json:
        show_json({"revision": revision})
    else:
        typer.echo(f"the database is at revision {revision}")


@app.command("add-token")
def add_token(
    owner: Annotated[str, typer.Argument(help="Whose it is.")],
    role: Annotated[str, typer.Option(help="reader, submitter or admin.")] = "submitter",
    days: Annotated[float | None, typer.Option(min=0.001, help="Days that it is good for; default for ever.")] = None,
    as_json: Json = False,
) -> None:
    """Makes a token straight in the database, as the first one must be made, and prints its secret, this once."""
    from migrations.upgrade import upgrade
    from service.first_token import make_token

    config = read_settings()
    config.home_path.mkdir(parents=True, exist_ok=True)
    upgrade(config.resolved_database_url)
    secret = make_token(config, owner, role, days)
    if as_json:
        show_json({"owner": owner, "role": role, "secret": secret})
    else:
        typer.echo(secret)


@app.command("check")
def check_database(
    store: Annotated[bool, typer.Option("--store", help="Also hold the recorded artifacts against the store.")] = False,
    as_json: Json = False,
) -> None:
    """Says what is wrong with the database, and changes nothing. Ends with status 1 where something is."""
    from service.upkeep import check_database

    found = check_database(read_settings(), with_store=store)
    if as_json:
        show_json([asdict(one) for one in found])
    elif found:
        make_console().print(
            plain_table(("what", "about", "says"), [(one.code, one.subject, one.message) for one in found]),
            markup=False,
        )
    else:
        typer.echo("the database is sound")
    raise typer.Exit(Exit.FAILED if found else Exit.OK)


@app.command("export")
def export_database(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="A file that does not exist yet; by custom NAME.jsonl.gz.")
    ],
    as_json: Json = False,
) -> None:
    """Writes every row of the database into a file, from which `vlglab db import` fills another, of any kind."""
    from service.upkeep import export_database

    _tell(export_database(read_settings(), path), f"wrote {path}", as_json=as_json)


@app.command("import")
def import_database(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="What `vlglab db export` wrote.")],
    as_json: Json = False,
) -> None:
    """Makes the tables where there are none, and fills them from a file: all of it or, on any fault, nothing."""
    from migrations.upgrade import upgrade
    from service.upkeep import import_database

    config = read_settings()
    config.home_path.mkdir(parents=True, exist_ok=True)
    upgrade(config.resolved_database_url)
    _tell(import_database(config, path), f"imported {path}", as_json=as_json)


def _tell(header: Header, said: str, *, as_json: bool) -> None:
    """Prints how many rows of which tables have travelled."""
    rows = {table.name: table.rows for table in header.tables}
    if as_json:
        show_json({"revision": header.revision, "rows": rows})
    else:
        full = ", ".join(f"{count:,} {name}" for name, count in rows.items() if count)
        typer.echo(f"{said}: revision {header.revision}, {sum(rows.values()):,} rows ({full or 'none'})")

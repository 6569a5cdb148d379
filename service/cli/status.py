"""`vlglab health`, `recipes` and `config`: whether the service works, what it offers, how this machine is set up."""

from __future__ import annotations

import os
import re
from typing import Any

import typer

from service.cli.console import plain_table, read_settings, shell, show_pairs
from service.cli.scripting import Json, show_json
from storage.settings import Settings

MASK = "***"
"""What stands where a secret is."""

_PASSWORD = re.compile(r"(?<=://)([^:/@]*):[^/]*@")
"""User and password of an URL; a password may hold an @."""
_CLIENT = ("VLGLAB_URL", "VLGLAB_API_TOKEN")
"""What the command line reads beside the settings."""


def health(ctx: typer.Context, as_json: Json = False) -> None:
    """Asks whether the service can work; the exit status is 0 only where it can."""
    at = shell(ctx)
    found = at.client.ready()
    if as_json:
        show_json(found)
    else:
        at.out.print(f"{at.client.url} works", markup=False, highlight=False)


def recipes(ctx: typer.Context, as_json: Json = False) -> None:
    """Lists the recipes that experiments can be made from, with their presets."""
    at = shell(ctx)
    found = at.client.recipes()
    if as_json:
        show_json(found)
        return
    rows = [(r.name, ", ".join(r.presets), r.doc.strip().partition("\n")[0]) for r in found]
    at.out.print(plain_table(("recipe", "presets", "what"), rows), markup=False)


def config(ctx: typer.Context, as_json: Json = False) -> None:
    """Shows the settings of this machine as `serve` and worker hosts would take them, secrets masked."""
    shown = effective(read_settings(), dict(os.environ))
    if as_json:
        show_json(shown)
    else:
        show_pairs(shell(ctx).out, [(name, "(empty)" if value == "" else value) for name, value in shown.items()])


def effective(settings: Settings, environment: dict[str, str]) -> dict[str, Any]:
    """Variable -> its value, defaults filled in and secrets masked.

    Examples:
        >>> client = {"VLGLAB_API_TOKEN": "vlglab_x", "VLGLAB_URL": "https://eve:s3cret@lab"}
        >>> shown = effective(Settings(database_url="postgresql://eve:s3cret@db/lab"), client)
        >>> shown["VLGLAB_DATABASE_URL"], shown["VLGLAB_API_TOKEN"], shown["VLGLAB_URL"], shown["VLGLAB_PORT"]
        ('postgresql://eve:***@db/lab', '***', 'https://eve:***@lab', 8765)
    """
    filled = {
        "home": settings.home_path,
        "database_url": settings.resolved_database_url,
        "store_url": settings.store_address,
        "weights": settings.weights_path,
        "webhook_key": settings.webhook_key_path,
    }
    document = {**settings.model_dump(), **filled}
    shown = {f"VLGLAB_{name.upper()}": _masked(value) for name, value in document.items()}
    return shown | {
        name: MASK if "TOKEN" in name else _masked(environment[name]) for name in _CLIENT if name in environment
    }


def _masked(value: Any) -> Any:
    """A setting as it is shown."""
    if isinstance(value, bool | int | float) or value is None:
        return value
    if isinstance(value, list | tuple):
        return [str(item) for item in value]
    return _PASSWORD.sub(rf"\1:{MASK}@", str(value))

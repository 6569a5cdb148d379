"""`vlglab tokens`: who may call the service. For admins; the first token is made by `vlglab db add-token`."""

from __future__ import annotations

from typing import Annotated

import typer

from service import schemas
from service.cli.console import first, plain_table, shell
from service.cli.datasets import Limit
from service.cli.run_table import moment
from service.cli.scripting import Json, show_json

app = typer.Typer(no_args_is_help=True, help="Tokens of the API.")


@app.command("add")
def add(
    ctx: typer.Context,
    owner: Annotated[str, typer.Argument(help="Whose it is.")],
    role: Annotated[str, typer.Option(help="reader, submitter or admin.")] = "submitter",
    days: Annotated[float | None, typer.Option(min=0.001, help="Days that it is good for; default for ever.")] = None,
    as_json: Json = False,
) -> None:
    """Makes a token and prints its secret, this once."""
    made = shell(ctx).client.create_token(
        schemas.TokenRequest.model_validate({"owner": owner, "role": role, "days": days})
    )
    if as_json:
        show_json(made)
        return
    shell(ctx).err.print(f"token {made.id} of {made.owner} ({made.role}); this is shown once:", markup=False)
    typer.echo(made.secret)


@app.command("list")
def list_tokens(ctx: typer.Context, limit: Limit = 50, as_json: Json = False) -> None:
    """Lists the tokens, newest first."""
    found = first(shell(ctx).client.tokens(), limit)
    if as_json:
        show_json(found)
        return
    rows = [(t.id, t.owner, t.role, moment(t.created_at), _until(t), moment(t.last_used_at)) for t in found]
    shell(ctx).out.print(plain_table(("id", "owner", "role", "made", "good until", "last used"), rows))


@app.command("revoke")
def revoke(
    ctx: typer.Context, token: Annotated[str, typer.Argument(help="Id of a token.")], as_json: Json = False
) -> None:
    """Makes a token useless."""
    gone = shell(ctx).client.revoke_token(token)
    if as_json:
        show_json(gone)
        return
    shell(ctx).out.print(f"the token {gone.id} of {gone.owner} is revoked", markup=False)


@app.command("whoami")
def whoami(ctx: typer.Context, as_json: Json = False) -> None:
    """Says whose token the command line shows, and its role."""
    found = shell(ctx).client.whoami()
    if as_json:
        show_json(found)
        return
    shell(ctx).out.print(f"{found.name or 'nobody in particular'} ({found.role})", markup=False)


def _until(token: schemas.Token) -> str:
    """When a token ends, or that it has ended."""
    if token.revoked_at is not None:
        return "revoked"
    return "for ever" if token.expires_at is None else moment(token.expires_at)

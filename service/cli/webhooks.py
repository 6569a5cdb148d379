"""`vlglab webhooks`: who is told of the ends of runs. For admins."""

from __future__ import annotations

from typing import Annotated

import typer

from service import schemas
from service.cli.console import first, plain_table, shell
from service.cli.datasets import Limit
from service.cli.run_table import moment
from service.cli.scripting import Json, show_json

app = typer.Typer(no_args_is_help=True, help="Addresses that are told of the ends of runs.")


@app.command("add")
def add(
    ctx: typer.Context,
    url: Annotated[str, typer.Argument(help="http or https; its host must be one of VLGLAB_WEBHOOK_HOSTS.")],
    state: Annotated[
        list[str] | None,
        typer.Option(help="succeeded, cached, failed or cancelled; may be repeated; default all of them."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Adds an address and prints the secret that its messages are signed with, this once."""
    wanted = {"url": url, **({"states": state} if state else {})}
    made = shell(ctx).client.add_webhook(schemas.WebhookRequest.model_validate(wanted))
    if as_json:
        show_json(made)
        return
    shell(ctx).err.print(f"webhook {made.id}; its secret is shown once:", markup=False)
    typer.echo(made.secret)


@app.command("list")
def list_webhooks(ctx: typer.Context, limit: Limit = 50, as_json: Json = False) -> None:
    """Lists the webhooks, newest first."""
    found = first(shell(ctx).client.webhooks(), limit)
    if as_json:
        show_json(found)
        return
    rows = [(w.id, w.url, ", ".join(w.states), w.owner, moment(w.created_at), _now(w)) for w in found]
    shell(ctx).out.print(plain_table(("id", "address", "is told of", "added by", "added", "now"), rows), markup=False)


@app.command("remove")
def remove(
    ctx: typer.Context, webhook: Annotated[str, typer.Argument(help="Id of a webhook.")], as_json: Json = False
) -> None:
    """Tells an address nothing more."""
    gone = shell(ctx).client.remove_webhook(webhook)
    if as_json:
        show_json(gone)
        return
    shell(ctx).out.print(f"the webhook {gone.id} is removed", markup=False)


@app.command("deliveries")
def list_deliveries(
    ctx: typer.Context,
    webhook: Annotated[str | None, typer.Option(help="Only to this webhook.")] = None,
    run: Annotated[str | None, typer.Option(help="Only of this run.")] = None,
    state: Annotated[str | None, typer.Option(help="waiting, delivered or given_up.")] = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """Lists what webhooks were told, and what they still are to be told."""
    found = first(shell(ctx).client.webhook_deliveries(webhook=webhook, run=run, state=state), limit)
    if as_json:
        show_json(found)
        return
    rows = [
        (d.id, d.webhook_id, d.run_id, d.run_state, d.state, str(d.tries), str(d.status or "-"), d.error or "")
        for d in found
    ]
    headers = ("id", "webhook", "run", "ended", "message", "tries", "answer", "says")
    shell(ctx).out.print(plain_table(headers, rows), markup=False)


def _now(webhook: schemas.Webhook) -> str:
    """Whether it is told anything."""
    if webhook.removed_at is not None:
        return "removed"
    return "is told" if webhook.signable else "waits: this service has another key (VLGLAB_WEBHOOK_KEY)"

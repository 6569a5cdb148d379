"""`vlglab hosts`: the worker hosts, and for admins how to pause, resume and drain them."""

from __future__ import annotations

from typing import Annotated

import typer

from service import schemas
from service.cli.console import first, plain_table, shell
from service.cli.datasets import Limit
from service.cli.run_table import moment, size
from service.cli.scripting import Json, show_json

app = typer.Typer(no_args_is_help=True, help="Worker hosts: who runs runs.")

HostId = Annotated[str, typer.Argument(help="A host's id.")]
HEADERS = ("id", "machine", "state", "slots", "GPUs", "stages", "memory", "in use", "last heard of")


@app.command("list")
def list_hosts(
    ctx: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Those too that have ended.")] = False,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """Lists the worker hosts that live."""
    found = first(shell(ctx).client.hosts(alive=None if everything else True), limit)
    if as_json:
        show_json(found)
        return
    shell(ctx).out.print(plain_table(HEADERS, [_row(host) for host in found]))


@app.command("pause")
def pause(ctx: typer.Context, host: HostId, as_json: Json = False) -> None:
    """Lets a host claim nothing more; what it runs goes on."""
    _tell(
        ctx, shell(ctx).client.pause_host(host), "claims nothing more; `vlglab hosts resume {}` lets it go on", as_json
    )


@app.command("resume")
def resume(ctx: typer.Context, host: HostId, as_json: Json = False) -> None:
    """Lets a host claim runs again."""
    _tell(ctx, shell(ctx).client.resume_host(host), "claims runs again", as_json)


@app.command("drain")
def drain(ctx: typer.Context, host: HostId, as_json: Json = False) -> None:
    """Lets a host claim nothing more and end once its runs have ended, as before work on its machine."""
    said = "ends once its runs have ended; `vlglab hosts resume {}` takes that back until then"
    _tell(ctx, shell(ctx).client.drain_host(host), said, as_json)


def _tell(ctx: typer.Context, host: schemas.Host, said: str, as_json: bool) -> None:
    """Says what a host was told."""
    if as_json:
        show_json(host)
        return
    shell(ctx).out.print(f"{host.id} on {host.name} {said.format(host.id)}", markup=False, highlight=False)


def _row(host: schemas.Host) -> tuple[str, ...]:
    """One host in a table."""
    state = host.mode if host.alive else "ended" if host.retired_at else "silent"
    memory = "" if host.memory_gb is None else f"{host.memory_gb:g} GB"
    gpus = ", ".join(map(str, host.gpus)) or "none"
    takes = ", ".join(host.stages) or "all"
    seen = moment(host.heartbeat_at)
    return host.id, host.name, state, str(host.slots), gpus, takes, memory, size(host.rss_bytes), seen

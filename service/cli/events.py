"""`vlglab runs events` and `vlglab experiments events`: what happened, and what happens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

import typer

from service import schemas
from service.cli import completion, run_table
from service.cli.console import plain_table, shell
from service.cli.scripting import Json, show_json, show_line
from service.client import Client
from service.waiting import FINAL, all_ended

After = Annotated[int, typer.Option(min=0, help="Only what came after the event of this id.")]


def run_events(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(help="A run's id.", autocompletion=completion.runs)],
    after: After = 0,
    following: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    as_json: Json = False,
) -> None:
    """Lists what happened to a run, oldest first; with --follow, what happens, a line an event."""
    client = shell(ctx).client
    if following:
        _follow(ctx, client.follow_events(run=run, cursor=after), as_json)
        return
    _show(ctx, list(client.events(run, cursor=str(after))), lines=False, as_json=as_json)


def experiment_events(
    ctx: typer.Context,
    experiment: Annotated[str, typer.Argument(help="An experiment's id.", autocompletion=completion.experiments)],
    after: After = 0,
    following: Annotated[bool, typer.Option("--follow", "-f", help="Go on until all its runs have ended.")] = False,
    as_json: Json = False,
) -> None:
    """Lists what happened to an experiment's runs, oldest first; with --follow, what happens, a line an event."""
    client = shell(ctx).client
    runs = client.experiment(experiment).runs
    if following and not all_ended(runs):
        _follow(ctx, _until_all_ended(client, experiment, runs, after), as_json)
        return
    found = (event for run in runs for event in client.events(run.id, cursor=str(after)))
    _show(ctx, sorted(found, key=lambda event: event.id), lines=following, as_json=as_json)


def _until_all_ended(
    client: Client, experiment: str, runs: Sequence[schemas.Run], after: int
) -> Iterable[schemas.Event]:
    """The events of an experiment, some of whose runs have not ended, until all have."""
    living = {run.id for run in runs if run.state not in FINAL}
    for event in client.follow_events(experiment=experiment, cursor=after):
        yield event
        if event.state in FINAL:
            living.discard(event.run_id)
            if not living:  # an end of long ago may have been followed by another attempt
                living = {run.id for run in client.experiment(experiment).runs if run.state not in FINAL}
        if not living:
            return


def _show(ctx: typer.Context, events: Sequence[schemas.Event], *, lines: bool, as_json: bool) -> None:
    """Events that are all there."""
    if lines:
        _follow(ctx, events, as_json)
    elif as_json:
        show_json(events)
    else:
        rows = [(str(e.id), run_table.moment(e.at), e.run_id, e.state, str(e.attempt), e.message) for e in events]
        shell(ctx).out.print(plain_table(("id", "at", "run", "state", "attempt", "what"), rows), markup=False)


def _follow(ctx: typer.Context, events: Iterable[schemas.Event], as_json: bool) -> None:
    """A line an event."""
    out = shell(ctx).out
    for event in events:
        if as_json:
            show_line(event)
        else:
            line = f"{event.id} {run_table.moment(event.at)} {event.run_id} {event.state}: {event.message}"
            out.print(line, markup=False, highlight=False, soft_wrap=True)

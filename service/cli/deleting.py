"""`vlglab runs|experiments|features delete`: what would go is shown first, and then asked about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from service import schemas
from service.cli.console import Shell, plain_table, shell
from service.cli.run_table import moment, size
from service.cli.scripting import show_json

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would go and what would stay.")]
AtOnce = Annotated[
    bool, typer.Option("--at-once", help="Free the bytes now, not after the grace period (`features policy`).")
]

Delete = Callable[..., schemas.Removal]


def delete(
    ctx: typer.Context, call: Delete, which: str, *, yes: bool, dry_run: bool, at_once: bool, as_json: bool
) -> None:
    """Deletes something, after showing what that means and asking.

    Args:
        ctx: the command's context.
        call: the client's method: it takes the id, `dry_run` and `at_once`.
        which: the id.
        yes: do not ask.
        dry_run: only show.
        at_once: let artifacts go now, not after the grace period.
        as_json: show what was done as JSON.
    """
    at = shell(ctx)
    if dry_run or not yes:
        foreseen = call(which, dry_run=True, at_once=at_once)
        if dry_run and as_json:
            show_json(foreseen)
            return
        _show(at, foreseen)
        if dry_run:
            return
        typer.confirm(f"Delete {_what(foreseen, which)}?", abort=True, err=True)
    done = call(which, at_once=at_once)
    if as_json:
        show_json(done)
    else:
        at.out.print(_said(done, which), markup=False, highlight=False, soft_wrap=True)


def _said(done: schemas.Removal, which: str) -> str:
    """What was deleted, and what becomes of the artifacts, in a sentence."""
    artifacts = f"{len(done.removed)} artifacts ({size(done.num_bytes)})"
    if done.due_at is None:
        fate = f"{artifacts} are gone"
    else:
        fate = f"{artifacts} go at {moment(done.due_at)}, unless somebody uses them before"
    return f"deleted {_what(done, which)}; {fate}; {len(done.kept)} stay"


def _show(at: Shell, foreseen: schemas.Removal) -> None:
    """What would go and what would stay."""
    rows = [(one.key, one.kind, "goes", size(one.num_bytes), _shared(one)) for one in foreseen.removed]
    rows += [(one.key, one.kind, "stays", size(one.num_bytes), one.why) for one in foreseen.kept]
    if rows:
        at.err.print(plain_table(("artifact", "kind", "", "size", ""), rows))


def _shared(one: schemas.RemovedArtifact) -> str:
    """What of an artifact stays for others."""
    return f"{one.shared_parts} of its parts stay, which other artifacts hold too" if one.shared_parts else ""


def _what(what: schemas.Removal, which: str) -> str:
    """What is deleted, in words."""
    if not what.runs and what.experiment is None:
        return f"the artifact {which}"
    runs = f"{len(what.runs)} run{'s' * (len(what.runs) != 1)}"
    return f"the experiment {what.experiment} with its {runs}" if what.experiment else f"the run {what.runs[0]}"

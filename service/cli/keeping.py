"""Commands of `vlglab features` that keep the disk under control: usage, gc, delete, policy, pins, leases."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Annotated

import typer

from service import schemas
from service.cli import deleting
from service.cli.console import plain_table, shell, show_pairs
from service.cli.deleting import AtOnce, DryRun, Yes
from service.cli.moments import moment as moment_of
from service.cli.run_table import moment, size
from service.cli.scripting import Json, show_json
from storage.errors import InvalidInput

Key = Annotated[str, typer.Argument(help="An artifact's key.")]

_UNITS = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "PB": 10**15}
_DAY_S = 86_400


def add_to(app: typer.Typer) -> None:
    """Adds the commands to those of `vlglab features`."""
    for name, command in _COMMANDS.items():
        app.command(name)(command)


def show_usage(ctx: typer.Context, as_json: Json = False) -> None:
    """Shows what takes the room in the store, what could go, and what is free."""
    found = shell(ctx).client.store_usage()
    if as_json:
        show_json(found)
        return
    out = shell(ctx).out
    quota = (
        f"{size(found.quota_bytes)} ({found.num_bytes / found.quota_bytes:.0%} used)" if found.quota_bytes else "none"
    )
    show_pairs(
        out,
        [
            ("published", f"{size(found.num_bytes)} in {found.num_artifacts} artifacts"),
            ("saved by sharing", size(found.shared_bytes)),
            ("pinned", size(found.pinned_bytes)),
            ("marked", size(found.marked_bytes)),
            ("reclaimable", size(found.reclaimable_bytes)),
            ("staging", f"{size(found.staged_bytes)} of {found.num_staged} writers"),
            ("quota", quota),
            ("free on the disk", f"{size(found.free_bytes)} of {size(found.disk_bytes)}"),
        ],
    )
    for title, shares in (("kind", found.by_kind), ("dataset", found.by_dataset), ("owner", found.by_owner)):
        rows = [(one.name or "-", str(one.num_artifacts), size(one.num_bytes)) for one in shares]
        out.print(plain_table((title, "artifacts", "size"), rows))
    largest = [(one.key, one.kind, one.dataset or "-", one.owner or "-", size(one.num_bytes)) for one in found.largest]
    out.print(plain_table(("largest", "kind", "dataset", "owner", "size"), largest))
    if found.warning:
        shell(ctx).err.print(f"warning: {found.warning}", markup=False, highlight=False, soft_wrap=True)


def collect(ctx: typer.Context, yes: Yes = False, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Marks what nothing needs and deletes what was marked long enough ago, after showing it. For admins."""
    at = shell(ctx)
    if dry_run or not yes:
        foreseen = at.client.collect(dry_run=True)
        if dry_run and as_json:
            show_json(foreseen)
            return
        at.err.print(_table(foreseen))
        at.err.print(_summary(foreseen), markup=False, highlight=False, soft_wrap=True)
        if dry_run:
            return
        typer.confirm("Go on?", abort=True, err=True)
    done = at.client.collect()
    if as_json:
        show_json(done)
    else:
        at.out.print(_summary(done), markup=False, highlight=False, soft_wrap=True)


def delete(
    ctx: typer.Context,
    key: Key,
    yes: Yes = False,
    dry_run: DryRun = False,
    at_once: AtOnce = False,
    as_json: Json = False,
) -> None:
    """Deletes an artifact that no run gives or reads, after asking. For whoever published it, and admins."""
    call = shell(ctx).client.delete_artifact
    deleting.delete(ctx, call, key, yes=yes, dry_run=dry_run, at_once=at_once, as_json=as_json)


def policy(
    ctx: typer.Context,
    quota: Annotated[
        str | None, typer.Option(help="Bytes at which new runs wait, such as 2TB, or none. For admins, as all changes.")
    ] = None,
    unused_days: Annotated[
        float | None, typer.Option(min=0, help="Days without use after which an artifact may go; 0: never.")
    ] = None,
    expiring: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help="Kinds that this is said of; may be repeated.")
    ] = None,
    grace_days: Annotated[float | None, typer.Option(min=0, help="Days between marking and deleting.")] = None,
    as_json: Json = False,
) -> None:
    """Shows the store's quota, what expires and how long what is marked stays, or changes what is given."""
    asked = {
        "quota_bytes": None if quota is None else num_bytes(quota),
        "unused_days": unused_days,
        "expiring": expiring or None,
        "grace_s": None if grace_days is None else grace_days * _DAY_S,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    client = shell(ctx).client
    found = client.change_store_policy(schemas.PolicyRequest.model_validate(given)) if given else client.store_policy()
    if as_json:
        show_json(found)
        return
    expires = f"{', '.join(found.expiring)}, unused for {found.unused_days:g} days" if found.unused_days else "nothing"
    by = f"{found.set_by or 'somebody'}, {moment(found.set_at)}" if found.set_at else None
    quota_now = size(found.quota_bytes) if found.quota_bytes else "none"
    grace = f"{found.grace_s / _DAY_S:g} days"
    show_pairs(shell(ctx).out, [("quota", quota_now), ("expires", expires), ("grace", grace), ("set by", by)])


def pin(
    ctx: typer.Context,
    key: Key,
    reason: Annotated[str, typer.Option(help="Why it must stay: others read this.")],
    days: Annotated[float | None, typer.Option(min=0, help="For so many days; default until it is taken away.")] = None,
    as_json: Json = False,
) -> None:
    """Keeps an artifact from the collector, and from going with its run."""
    now = moment_of("0s")
    until = None if days is None or now is None else now + timedelta(days=days)
    made = shell(ctx).client.pin(key, reason, until)
    if as_json:
        show_json(made)
        return
    ends = "until it is taken away" if made.until is None else f"until {moment(made.until)}"
    shell(ctx).out.print(f"the artifact {made.artifact_key} is pinned {ends}", markup=False, highlight=False)


def unpin(
    ctx: typer.Context,
    key: Key,
    owner: Annotated[str | None, typer.Option(help="Whose pin; default your own. Admins alone: others'.")] = None,
    as_json: Json = False,
) -> None:
    """Takes a pin away; other people's pins of the artifact stay."""
    gone = shell(ctx).client.unpin(key, owner)
    if as_json:
        show_json(gone)
        return
    shell(ctx).out.print(f"the pin of the artifact {gone.artifact_key} is gone", markup=False, highlight=False)


def list_pins(ctx: typer.Context, as_json: Json = False) -> None:
    """Lists who has pinned what, newest first."""
    found = shell(ctx).client.pins()
    if as_json:
        show_json(found)
        return
    rows = [
        (
            one.artifact_key,
            one.owner or "-",
            moment(one.created_at),
            moment(one.until) if one.until else "-",
            one.reason,
        )
        for one in found
    ]
    shell(ctx).out.print(plain_table(("artifact", "pinned by", "since", "until", "why"), rows), markup=False)


def list_leases(ctx: typer.Context, as_json: Json = False) -> None:
    """Lists who reads what now under a lease, newest first."""
    found = shell(ctx).client.read_leases()
    if as_json:
        show_json(found)
        return
    rows = [(one.id, one.artifact_key, one.owner or "-", moment(one.created_at), moment(one.until)) for one in found]
    shell(ctx).out.print(plain_table(("lease", "artifact", "reader", "since", "until"), rows))


def num_bytes(text: str) -> int:
    """The number of bytes that a text means.

    Raises:
        InvalidInput: it is written otherwise.

    Examples:
        >>> num_bytes("2TB"), num_bytes("1.5 GB"), num_bytes("1024"), num_bytes("none")
        (2000000000000, 1500000000, 1024, 0)
    """
    if text.strip() == "none":
        return 0
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMGTP]?B|)", text.strip())
    if found is None:
        raise InvalidInput(f"got the size {text!r}, expected one such as 2TB, 500GB, a number of bytes, or none")
    return round(float(found[1]) * _UNITS[found[2]])


def _table(what: schemas.Collection) -> object:
    """What goes now and what waits, with bytes and why."""

    def rows(some: Sequence[schemas.Collectable], when: str) -> list[tuple[str, ...]]:
        return [(one.id, one.what, size(one.num_bytes), when or moment(one.due_at), one.why) for one in some]

    return plain_table(("key", "", "size", "goes", "why"), [*rows(what.removed, "now"), *rows(what.marked, "")])


def _summary(what: schemas.Collection) -> str:
    """What was done, or would be, in a sentence."""
    waits = sum(one.num_bytes for one in what.marked)
    deleted = "would be deleted" if what.dry_run else "deleted"
    return (
        f"{deleted}: {len(what.removed)} ({size(what.removed_bytes)} with what {what.num_staged} dead writers left);"
        f" waiting for the end of their grace period: {len(what.marked)} ({size(waits)});"
        f" needed again: {what.unmarked}"
    )


_COMMANDS: dict[str, Callable[..., None]] = {
    "usage": show_usage,
    "gc": collect,
    "delete": delete,
    "policy": policy,
    "pin": pin,
    "unpin": unpin,
    "pins": list_pins,
    "leases": list_leases,
}

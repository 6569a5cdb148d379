"""`vlglab features`: feature stores found, shown, compared and verified."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from service import schemas
from service.cli import completion
from service.cli.console import Shell, first, plain_table, read_settings, shell, show_pairs
from service.cli.datasets import Limit
from service.cli.raw_datasets import RawDataset, registered
from service.cli.run_table import moment, size
from service.cli.scripting import Exit, Json, printable, show_json
from service.cli.watching import follow, outcome
from storage.errors import InvalidInput, NotFound, StoreCorrupt
from storage.targets import Sources

app = typer.Typer(no_args_is_help=True, help="Feature stores: published per-point embeddings.")

FeatureKey = Annotated[str, typer.Argument(help="A feature store's key.", autocompletion=completion.features)]
AnyKey = Annotated[
    str, typer.Argument(help="A feature store's key, or another artifact's.", autocompletion=completion.features)
]


@app.command("list")
def list_features(
    ctx: typer.Context,
    dataset: Annotated[
        str | None, typer.Option(help="Only of this dataset's scenes.", autocompletion=completion.datasets)
    ] = None,
    encoder: Annotated[str | None, typer.Option(help="Only of this encoder, such as openseg.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only those that this person had computed.")] = None,
    dimension: Annotated[int | None, typer.Option(min=1, help="Only with so many values an embedding.")] = None,
    text: Annotated[
        str | None, typer.Option(help="Only with this in the key, dataset, encoder or digest of its weights.")
    ] = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """Lists feature stores: what of, by which encoder, how large, how much of the points they cover, who made them."""
    at = shell(ctx)
    wanted: schemas.FeatureWanted = {
        "dataset": dataset, "encoder": encoder, "owner": owner, "dimension": dimension, "text": text,
    }  # fmt: skip
    found = first(at.client.features(**wanted), limit)
    if as_json:
        show_json(found)
        return
    headers = ("key", "dataset", "scenes", "encoder", "D", "points", "covered", "size", "owner", "sound", "published")
    at.out.print(plain_table(headers, [_row(one) for one in found]))


@app.command("show")
def show(ctx: typer.Context, key: FeatureKey, as_json: Json = False) -> None:
    """Shows a feature store: how it was made and by whom, which runs read it, and whether it verifies."""
    at = shell(ctx)
    found = at.client.feature(key)
    if as_json:
        show_json(found)
        return
    document = found.model_dump(mode="json")
    shown = ["key", "dataset", "splits", "encoder", "encoder_title", "weights_digest", "lifting", "dimension", "dtype"]
    pairs = [(name, document[name]) for name in shown]
    pairs += [("scenes", found.num_scenes), ("points", f"{found.num_points:,}"), ("covered", _covered(found))]
    pairs += [("size", size(found.num_bytes)), ("owner", found.owner), ("run", found.run_id), ("spec", found.spec)]
    origin = found.pulled_from
    pairs += [("pulled from", None if origin is None else f"{origin.source} ({origin.artifact})")]
    pairs += [("inputs", found.inputs), ("manifest digest", found.manifest_digest)]
    pairs += [("published", moment(found.created_at)), ("verifies", _verifies(found)), ("fault", found.fault)]
    show_pairs(at.out, pairs)
    if found.users:
        more = f", the newest {len(found.users)}" if found.num_users > len(found.users) else ""
        at.out.print(f"\nread by {found.num_users} runs{more}:", markup=False, highlight=False)
        rows = [(user.run_id, user.name, user.stage, user.state, user.owner) for user in found.users]
        at.out.print(plain_table(("run", "name", "stage", "state", "owner"), rows))


@app.command("verify")
def verify(
    ctx: typer.Context,
    key: AnyKey,
    recompute: Annotated[
        int, typer.Option(min=0, max=1000, help="Scenes to make again from their images and compare.")
    ] = 1,
    dataset: RawDataset = None,
    as_json: Json = False,
) -> None:
    """Has a worker check a feature store to the last byte: files, shapes, values, norms, order of the points.

    One scene, or as many as --recompute says, is made again from its images where these and the weights are at hand.
    Ends with status 1 where there are faults, which are printed. The outcome is kept: `features list` shows it.
    An artifact of any other kind (labels, scenes, a checkpoint) is checked too: its files, shapes and values; --json
    gives the run.
    """
    at = shell(ctx)
    known = _feature(at, key)
    raw = registered(at, known.dataset) if known is not None and recompute and dataset is None else dataset
    wanted = schemas.RunRequest.model_validate(
        {
            "name": "verify",
            "spec": {"stage": "verify", "recompute": recompute},
            "inputs": {"artifact": {"artifact": key}},
            "dataset": raw,
        }
    )
    made = at.client.submit_run(wanted)
    (run,) = follow(lambda: [at.client.run(made.id)], at.err)
    found = None if known is None else at.client.feature(key)
    if as_json:
        show_json(run if found is None else found)
    elif run.state == "succeeded" or run.reason_code == StoreCorrupt.code:
        said = ("yes" if run.state == "succeeded" else "NO") if found is None else _verifies(found)
        at.out.print(f"{key}: {said}", markup=False, highlight=False, soft_wrap=True)
        if run.state != "succeeded":
            _show_faults(at, run)
    raise typer.Exit(outcome([run], at.err))


@app.command("diff")
def diff(
    ctx: typer.Context,
    left: FeatureKey,
    right: Annotated[
        str | None, typer.Argument(help="The other one's key; with --store or --from, the same by default.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--from", metavar="URL", help="Where the other one lies: a service, or a folder.")
    ] = None,
    store: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of a store on this machine, without a service; give it again for the other's."),
    ] = None,
    scenes: Annotated[int | None, typer.Option(min=1, help="Most scenes to open; default 8, with --store all.")] = None,
    rows: Annotated[
        int | None, typer.Option(min=1, help="Most rows to compare of a scene; default 2048, with --store all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compares two feature stores: how they were made, and the cosines of their embeddings on common scenes.

    With --store FOLDER, once or twice, they are read from folders here: do stores of one key that two machines made
    agree within the rounding of their type? Ends with status 1 where they do not.

    With --from URL the other one is read from another lab's service, or a folder that a web server serves, as far as
    the sample goes: VLGLAB_PULL_HOSTS must allow its host on this machine, VLGLAB_PULL_TOKENS has its token. Status 1
    as with --store.
    """
    at = shell(ctx)
    if source is not None:
        found = _compare_with(at, source, store or [], left, right, scenes, rows)
    elif store:
        found = _compare_folders(store, left, right, scenes, rows)
    elif right is None:
        raise InvalidInput(
            "got one key, expected two; or one key in two stores: --from URL, or --store FOLDER --store OTHER_FOLDER"
        )
    else:
        found = at.client.diff_features(left, right, scenes=scenes, rows=rows)
    if as_json:
        show_json(found)
    else:
        _show_diff(at, found)
    if (store or source) and found.verdict not in ("same", "rounding"):
        raise typer.Exit(Exit.FAILED)


def _compare_with(
    at: Shell, source: str, folders: list[Path], left: str, right: str | None, scenes: int | None, rows: int | None
) -> schemas.FeatureDiff:
    """The comparison with a feature store of another lab: of this service's, or of one in a folder here."""
    from service.remote_stores import ROWS, SCENES, compare_with

    if len(folders) > 1:
        raise InvalidInput(f"got --from and {len(folders)} folders, expected at most one, of the first key's store")
    config = read_settings()
    ours = folders[0] if folders else at.client
    sources = Sources(tuple(config.pull_hosts), config.pull_tokens)
    return compare_with(ours, source, (left, right or left), sources, scenes=scenes or SCENES, rows=rows or ROWS)


def _compare_folders(
    folders: list[Path], left: str, right: str | None, scenes: int | None, rows: int | None
) -> schemas.FeatureDiff:
    """The comparison of feature stores in one or two folders of this machine."""
    from service.store_folders import compare_folders

    if len(folders) > 2 or (len(folders) == 1 and right is None):
        raise InvalidInput(
            f"got {len(folders)} folders and {1 if right is None else 2} keys, expected one key in two folders, or two "
            "keys in one folder or two"
        )
    return compare_folders((folders[0], folders[-1]), (left, right or left), scenes=scenes, rows=rows)


def _row(one: schemas.Feature) -> tuple[str, ...]:
    """A line of the list."""
    return (
        one.key,
        one.dataset or "",
        str(one.num_scenes),
        one.encoder_title or one.encoder or "",
        str(one.dimension or ""),
        f"{one.num_points:,}",
        "?" if one.coverage is None else f"{one.coverage:.1%}",
        size(one.num_bytes),
        one.owner,
        "?" if one.verified_at is None else "NO" if one.num_faults else "yes",
        moment(one.created_at),
    )


def _feature(at: Shell, key: str) -> schemas.FeatureDetail | None:
    """A feature store; None where no feature store has that key."""
    try:
        return at.client.feature(key)
    except NotFound:
        return None


def _covered(one: schemas.Feature) -> str:
    """How many points have an embedding."""
    return "not counted" if one.coverage is None else f"{one.num_covered:,} ({one.coverage:.1%})"


def _verifies(one: schemas.Feature) -> str:
    """What the last verification found, and when."""
    if one.verified_at is None:
        return "never looked"
    return f"{'yes' if not one.num_faults else f'NO, {one.num_faults} faults'} ({moment(one.verified_at)})"


def _show_faults(at: Shell, run: schemas.Run) -> None:
    """The faults that a verification noted."""
    for event in at.client.events(run.id):
        if event.kind == "note":
            at.out.print(event.message, markup=False, highlight=False, soft_wrap=True)


def _show_diff(at: Shell, found: schemas.FeatureDiff) -> None:
    """A comparison for people."""
    show = at.out.print
    if found.differences:
        rows = [(_cell(one.name), _cell(one.left), _cell(one.right)) for one in found.differences]
        show(plain_table(("differs in", found.left, found.right), rows), markup=False)
    else:
        show("made from the same spec and inputs", markup=False)
    show(
        f"\n{found.num_common} common scenes: {len(found.same)} equal to the byte, {len(found.compared)} compared, "
        f"{len(found.other_order)} of other points, {len(found.not_read)} not read; only in the first: "
        f"{len(found.only_left)}, only in the second: {len(found.only_right)}",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
    if found.other_order:
        show(f"of other points, or dimensions: {', '.join(found.other_order)}", markup=False, soft_wrap=True)
    if found.cosines is not None:
        told = [(f"{name}th percentile", f"{value:.5f}") for name, value in sorted(found.cosines.percentiles.items())]
        figures = [("least", f"{found.cosines.least:.5f}"), ("mean", f"{found.cosines.mean:.5f}"), *told]
        show(plain_table((f"cosine of {found.cosines.num_rows:,} points", ""), figures))
        worst = sorted(found.compared, key=lambda one: (one.least or 0.0, one.scene))[:10]
        lines = [
            (one.scene, f"{one.num_common:,}", f"{one.num_rows:,}", f"{one.least or 0:.5f}", f"{one.mean or 0:.5f}",
             f"{one.steps:.2f}")
            for one in worst
        ]  # fmt: skip
        show(plain_table(("scene, farthest first", "common points", "compared", "least", "mean", "fp16 steps"), lines))
    show(f"verdict: {_VERDICTS[found.verdict]}", markup=False, highlight=False, soft_wrap=True)


_VERDICTS = {
    "same": "the common scenes are equal to the byte",
    "rounding": "what was compared agrees within the rounding of the type that it is stored in",
    "different": "different: by more than the rounding of the type it is stored in, or in the points that are covered",
    "not compared": "not compared: there is no scene that could be",
}


def _cell(value: Any) -> str:
    """A value in one line; what another lab wrote commands no terminal."""
    return "-" if value is None else printable(str(value)).replace("\n", "\\n")

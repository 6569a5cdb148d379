"""The rows of the paper's tables: what each asks of the service, and the paper's figure beside it.

Knows the recipes and what the paper printed; sends nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from service import schemas
from service.cli import published
from storage.errors import SpecInvalid, UnknownName
from storage.specs import presets, recipes


@dataclass(frozen=True, slots=True)
class Ask:
    """A row of a table: what it asks of the service, an experiment a seed, and what the paper has beside it."""

    label: str
    recipe: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """What makes this row another than its neighbours."""
    prediction: str = "ours"
    effort: str = "< 1 min"
    supervision: str = "scene"
    paper: float | None = None
    """The paper's mIoU in per cent, on its own data."""
    paper_test: float | None = None
    """Its mIoU on ScanNet's test server, where `paper` is on the validation set."""
    paper_macc: float | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """How every row of a table is made."""

    preset: str
    seeds: tuple[int, ...]
    encoder: Mapping[str, Any]
    """Fields of `extract` and `embed_labels` that choose it."""
    overrides: Mapping[str, Any]
    """What `--set` says: fields to change in every row that has the run; they go before the encoder's."""
    submission: bool = False
    """Whether every row's prediction is also written as files for ScanNet's test server."""

    @property
    def fields(self) -> dict[str, Any]:
        """All fields to change in every row that has the run."""
        return {**self.encoder, **self.overrides}


def _beside(ask: Ask, table: Sequence[published.Published], method: str) -> Ask:
    """A row with the paper's figures for a method: of S3DIS there is one, of ScanNet one on test and one on val."""
    theirs = next(row for row in table if row.method == method)
    if theirs.val is None:
        return replace(ask, paper=theirs.test)
    return replace(ask, paper=theirs.val, paper_test=theirs.test)


OURS = Ask("3DSS-VLG (ours)", "3dss-vlg")
_CAM = Ask("CAM (ours)", "cam")
_BOUND = Ask("MinkowskiNet (ours)", "supervised", {}, "supervised", "> 20 min", "100%")


def _against(table: Sequence[published.Published]) -> tuple[Ask, ...]:
    """Our rows of Table 1 or 2."""
    return _beside(_BOUND, table, "MinkowskiNet"), _CAM, _beside(OURS, table, "3DSS-VLG (paper)")


def _other(label: str, paper: str, overrides: Mapping[str, Any] | None = None) -> Ask:
    """A row of Table 5."""
    return Ask(label, "3dss-vlg", overrides or {}, paper=published.TABLE_5[paper])


ROWS: Mapping[int, Sequence[Ask]] = {
    1: _against(published.TABLE_1),
    2: _against(published.TABLE_2),
    3: (
        Ask("(a)", "ablation-a", paper=published.TABLE_3["a"]),
        Ask("(b) ESGS", "ablation-b", paper=published.TABLE_3["b"]),
        Ask("(c) filtering", "ablation-c", paper=published.TABLE_3["c"]),
        Ask("(d) ESGS, filtering, ESS", "3dss-vlg", paper=published.TABLE_3["d"]),
        replace(_BOUND, label="supervised"),
    ),
    4: (OURS,),
    5: (
        _other("MinkUNet14A", "MinkUNet14A", {"distill.network.arch": "MinkUNet14A"}),
        _other("MinkUNet18A", "MinkUNet18A"),
        _other("MinkUNet34A", "MinkUNet34A", {"distill.network.arch": "MinkUNet34A"}),
        _other("adapter: transformer", "transformer", {"specialize.adapter.kind": "transformer"}),
        _other("adapter: MLP", "mlp"),
    ),
}
"""Table -> what its rows ask for. Table 4 trains its one row on two datasets, and scores each network on the other."""


def requests(
    rows: Sequence[Ask], dataset: schemas.Dataset, wanted: Wanted
) -> list[tuple[schemas.ExperimentRequest, ...]]:
    """What is asked of the service, for each row a request a seed; all is checked before anything is sent.

    Raises:
        UnknownName: no such preset, or a field to change is of a run that no row has.
        SpecInvalid: a field that does not exist, a value out of range, or a field in which the rows differ; a
            submission of other labels than ScanNet's.
    """
    if wanted.submission and dataset.label_set != "scannet20":
        raise SpecInvalid(
            f"got --submission for the dataset {dataset.name} of {dataset.label_set}, but ScanNet's server takes "
            "labels of scannet20; leave it out"
        )
    has = [_runs(ask, dataset, wanted) for ask in rows]
    _check(wanted.overrides, rows, frozenset().union(*has))
    return [_asked(ask, dataset, wanted, runs) for ask, runs in zip(rows, has, strict=True)]


def _asked(
    ask: Ask, dataset: schemas.Dataset, wanted: Wanted, runs: frozenset[str]
) -> tuple[schemas.ExperimentRequest, ...]:
    """A row's requests, one a seed, checked; `runs` are those that it has."""
    fields = {path: value for path, value in wanted.fields.items() if _run_of(path) in runs}
    submission = {"report.submission": ask.prediction} if wanted.submission else {}
    overrides = {**fields, **ask.overrides, **submission}
    recipes.build(ask.recipe, _built_for(dataset, wanted), overrides)
    return tuple(
        schemas.ExperimentRequest(
            recipe=ask.recipe,
            dataset=dataset.name,
            preset=wanted.preset,
            overrides=overrides,
            seed=seed,
            name=f"{ask.label} {seed}",
        )
        for seed in wanted.seeds
    )


def _check(overrides: Mapping[str, Any], rows: Sequence[Ask], runs: frozenset[str]) -> None:
    """Refuses changes that reach no row, and those that would make two rows the same."""
    varied = {path for ask in rows for path in ask.overrides}
    for path in overrides:
        if path == "report.submission":
            raise SpecInvalid("got --set report.submission, but rows name their predictions; say --submission")
        if _run_of(path) not in runs:
            raise UnknownName.among("run in --set", _run_of(path), runs)
        same = sorted(one for one in varied if one == path or one.startswith(f"{path}."))
        if same:
            raise SpecInvalid(f"got --set {path}, but {same[0]} is what the rows of this table differ in; leave it out")


def _runs(ask: Ask, dataset: schemas.Dataset, wanted: Wanted) -> frozenset[str]:
    """The names of the runs that a row has."""
    return frozenset(run.name for run in recipes.build(ask.recipe, _built_for(dataset, wanted)))


def _built_for(dataset: schemas.Dataset, wanted: Wanted) -> presets.Request:
    """What the service will build a row's recipe for."""
    return presets.Request(
        dataset=dataset.name,
        label_set=dataset.label_set,
        splits=tuple(dataset.splits),
        preset=wanted.preset,
        pictures=dataset.kind != "clouds",
    )


def _run_of(path: str) -> str:
    return path.partition(".")[0]

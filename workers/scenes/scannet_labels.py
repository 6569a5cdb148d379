"""ScanNet's ground truth: the ids that `<scene>_vh_clean_2.labels.ply` holds, as labels of ScanNet-20.

The release writes NYU40 ids, 0 to 40 (0: not annotated). A file with an id beyond 40 holds ids of
`scannetv2-labels.combined.tsv` instead, as other exports do; then every id of it goes through that table, `id` ->
`nyu40id`. Which of the two a file holds is told by its largest id alone, so an export of raw ids should not be mixed
with the release. Knows these files; knows no split and no frame.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.errors import DatasetInvalid
from storage.labels import IGNORE, NYU40_TO_SCANNET20
from workers.scenes.ply import read_vertices

LABEL_TABLE = "scannetv2-labels.combined.tsv"
_NYU40_MAX = 40


def read_ids(root: Path, name: str, scene: str) -> NDArray[np.int64]:
    """(N,) ids of the vertices of a labels file, as it holds them.

    Raises:
        DatasetInvalid: the file cannot be read, has no property `label`, or a negative one.
    """
    vertices = read_vertices(root, name, scene)
    ids = vertices.labels()
    if ids is None:
        raise DatasetInvalid(
            f"scene {scene}: {name}: its vertices have no property label, found {', '.join(vertices.columns)}; fetch "
            "the release's file",
            scene=scene,
        )
    if len(ids) and ids.min() < 0:
        raise DatasetInvalid(f"scene {scene}: {name}: got the label id {ids.min()}, expected 0 or more", scene=scene)
    return ids


def needs_table(ids: NDArray[np.int64]) -> bool:
    """Whether these are ids of the table rather than NYU40 ids."""
    return bool(len(ids)) and int(ids.max()) > _NYU40_MAX


def to_scannet20(ids: NDArray[np.int64], root: Path, name: str, scene: str) -> NDArray[np.int16]:
    """(N,) labels of ScanNet-20, IGNORE where an id has none.

    Args:
        ids: as `read_ids` gives them.
        root: the dataset's folder, which holds the table where one is needed.
        name: the file that they come from, for errors.
        scene: the scene that an error names.

    Raises:
        DatasetInvalid: the table is needed and missing or broken, or does not have an id.
    """
    found, inverse = np.unique(ids, return_inverse=True)
    nyu40 = {int(i): int(i) for i in found}
    if needs_table(ids):
        table = _table(root, name, scene)
        unknown = [int(i) for i in found if i and int(i) not in table]
        if unknown:
            raise DatasetInvalid(
                f"scene {scene}: {name}: got the label ids {', '.join(map(str, unknown[:8]))}, which neither NYU40 "
                f"(0 to {_NYU40_MAX}) nor {LABEL_TABLE} has; fetch both files of one release",
                scene=scene,
            )
        nyu40 = {0: 0, **table}
    labels = np.array([NYU40_TO_SCANNET20.get(nyu40[int(i)], IGNORE) for i in found], np.int16)
    return labels[inverse.reshape(-1)] if len(found) else np.zeros(0, np.int16)


def _table(root: Path, name: str, scene: str) -> dict[int, int]:
    """Raw id -> NYU40 id."""
    try:
        with (root / LABEL_TABLE).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        return {int(row["id"]): int(row["nyu40id"]) for row in rows}
    except OSError as error:
        raise DatasetInvalid(
            f"scene {scene}: {name} has label ids beyond {_NYU40_MAX}, which need {LABEL_TABLE} in the dataset's "
            f"folder; it cannot be read ({error.strerror})",
            scene=scene,
        ) from error
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise DatasetInvalid(
            f"{LABEL_TABLE}: expected tab-separated rows with the whole numbers id and nyu40id in each ({error!r}); "
            "fetch it again",
            scene=scene,
        ) from error

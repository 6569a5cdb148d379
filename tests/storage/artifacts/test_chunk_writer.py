"""Writing chunks: values that are not finite are met on the way, wherever they lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from storage.artifacts import zarr_arrays
from storage.artifacts.finite import NotFinite
from storage.artifacts.kinds import ArrayLayout

LAYOUT = ArrayLayout(("row", "column"), "float16", others=("float32",))
ROWS = 50_000


def write(folder: Path, values: np.ndarray, budget: int) -> None:
    zarr_arrays.create_group(folder)
    zarr_arrays.write_array(folder, "x", values, LAYOUT, budget)


@pytest.mark.parametrize("budget", [2, 24], ids=["shards", "a chunk a file"])
@pytest.mark.parametrize("dtype", ["<f2", ">f2", "<f4"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_row_that_is_not_finite_is_told(tmp_path: Path, budget: int, dtype: str, value: float) -> None:
    rng = np.random.default_rng(budget)
    values = rng.standard_normal((ROWS, 11)).astype(dtype)
    write(tmp_path / "sound", values, budget)
    rows = np.sort(rng.choice(ROWS, 3, replace=False))
    values[rows, rng.integers(0, 11, 3)] = value
    with pytest.raises(NotFinite) as caught:
        write(tmp_path / "odd", values, budget)
    assert caught.value.row == rows[0]


@pytest.mark.parametrize("row", [0, 8_191, 8_192, ROWS - 1])
def test_a_row_at_the_edge_of_a_chunk_is_told(tmp_path: Path, row: int) -> None:
    values = np.ones((ROWS, 3), np.float16)
    values[row, 2] = np.nan
    with pytest.raises(NotFinite) as caught:
        write(tmp_path / "odd", values, 24)
    assert caught.value.row == row

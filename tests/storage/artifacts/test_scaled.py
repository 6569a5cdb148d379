"""Scaled embeddings: how near they stay to float16, by cosines taken in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from storage.artifacts.scaled import decode, encode


def cosines(one: NDArray[np.floating], other: NDArray[np.floating]) -> NDArray[np.float64]:
    a, b = one.astype(np.float64), other.astype(np.float64)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def gaussian(outliers: int, dimension: int) -> NDArray[np.float16]:
    values = np.random.default_rng(0).standard_normal((5_000, dimension))
    values[:, [7, dimension // 2][:outliers]] *= 30
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float16)


@pytest.mark.parametrize("outliers", [0, 2])
@pytest.mark.parametrize("dimension", [384, 768])
def test_directions_stay_also_beside_dimensions_thirty_times_larger(outliers: int, dimension: int) -> None:
    values = gaussian(outliers, dimension)
    numbers, scales = encode(values)
    assert np.percentile(cosines(values, decode(numbers, scales)), 1) >= 0.9999
    assert numbers.nbytes + scales.nbytes < 0.54 * values.nbytes


def test_a_scale_a_row_would_not_do() -> None:
    values = gaussian(2, 768).astype(np.float64)
    step = np.abs(values).max(axis=1, keepdims=True) / 127
    assert np.percentile(cosines(values, np.rint(values / step) * step), 1) < 0.9999


@given(st.integers(0, 2**32 - 1), st.integers(1, 70), st.floats(1e-7, 65_000))
def test_a_value_is_off_by_half_a_step_of_its_block_at_most(seed: int, dimension: int, size: float) -> None:
    values = (np.random.default_rng(seed).uniform(-1, 1, (3, dimension)) * size).astype(np.float16)
    numbers, scales = encode(values)
    back = decode(numbers, scales)
    assert np.isfinite(back).all() and np.abs(numbers.astype(int)).max() <= 127
    step = np.repeat(scales.astype(np.float64), 32, axis=1)[:, :dimension]
    rounding = np.abs(values.astype(np.float64)) * 2**-10 + 2**-24
    assert (np.abs(back.astype(np.float64) - values.astype(np.float64)) <= step * 0.5001 + rounding).all()


def test_zeros_and_the_largest_values_come_back() -> None:
    values = np.array([[0.0] * 40, [65_504.0, -65_504.0] * 20], np.float16)
    back = decode(*encode(values))
    assert (back[0] == 0).all()
    assert np.isfinite(back).all() and np.allclose(back[1].astype(float), values[1].astype(float), rtol=0.009)

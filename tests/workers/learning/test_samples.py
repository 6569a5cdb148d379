"""Targets of voxels against dictionaries filled point by point."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workers.learning.samples import majority_by_row, mean_by_row


@given(st.integers(0, 2**16), st.integers(0, 80))
def test_mean_by_row(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(100, 6)).astype(np.float16)
    which = rng.choice(100, count, replace=False)
    row = rng.integers(0, 12, count)
    bags: dict[int, list[np.ndarray]] = defaultdict(list)
    for w, r in zip(which, row, strict=True):
        bags[int(r)].append(values[w].astype(np.float64))
    rows, means = mean_by_row(values, which, row)
    assert rows.tolist() == sorted(bags)
    for r, mean in zip(rows, means, strict=True):
        np.testing.assert_allclose(mean, np.mean(bags[int(r)], axis=0), atol=1e-5)


@given(st.integers(0, 2**16), st.integers(1, 80))
def test_majority_by_row(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count).astype(np.int16)
    row = rng.integers(0, 9, count)
    bags: dict[int, Counter[int]] = defaultdict(Counter)
    for label, r in zip(labels, row, strict=True):
        bags[int(r)][int(label)] += 1
    rows, winners = majority_by_row(labels, row, 9)
    assert rows.tolist() == sorted(bags)
    for r, winner in zip(rows, winners, strict=True):
        most = max(bags[int(r)].values())
        assert winner == min(label for label, votes in bags[int(r)].items() if votes == most)

"""A short load: many clients submit, read and follow; no request fails, no event is lost, no run is made twice."""

from __future__ import annotations

import pytest

from benchmarks import load

SECONDS = 20.0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_a_short_load_fails_loses_and_doubles_nothing(kind: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("postgres_url") if kind == "postgres" else ""
    measured, faults = load.measure(url, clients=16, rate=10.0, seconds=SECONDS)
    assert not faults, faults
    assert len(measured.submitted) > 100
    assert len(measured.heard[0]) >= 2 * len(measured.submitted)
    assert measured.drops >= 16


@pytest.mark.slow
def test_a_short_load_beside_runs_that_wait_and_are_followed() -> None:
    measured, faults = load.measure("", clients=8, rate=10.0, seconds=10.0, waiting=50)
    assert not faults, faults
    assert [len(ids) for ids in measured.heard[1::2]] == [1] * 4, "of a waiting run there is that it waits"
    assert len(measured.heard[0]) >= 52 + 2 * len(measured.submitted)

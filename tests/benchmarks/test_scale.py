"""The benchmark of a lab that has grown, on a small one: it runs and asks for everything. Nobody looks at its times."""

from __future__ import annotations

import pytest

from benchmarks import scale


@pytest.mark.slow
@pytest.mark.parametrize("where", [[], pytest.param(["--postgres"], marks=pytest.mark.postgres)])
def test_it_asks_for_every_kind_of_list(where: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert scale.main(["--runs", "2000", "--points", "20000", "--repeats", "2", *where]) in (0, 1)
    out = capsys.readouterr().out
    assert "2,000 runs of 200 experiments, 20,000 points" in out
    for kind in ("list, state=failed", "list, metric of few", "list, sort=finished, far on", "run, lineage", "compare"):
        assert f"  {kind}" in out

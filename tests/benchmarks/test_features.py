"""The benchmark of the list of feature stores, on a few: it runs and asks for everything. Nobody looks at its times."""

from __future__ import annotations

import pytest

from benchmarks import features


@pytest.mark.slow
@pytest.mark.parametrize("where", [[], pytest.param(["--postgres"], marks=pytest.mark.postgres)])
def test_it_reads_the_whole_list_and_each_filter(where: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert features.main(["--stores", "1100", "--scenes", "5", "--repeats", "2", *where]) in (0, 1)
    out = capsys.readouterr().out
    assert "1,100 feature stores of 5 scenes" in out and "3 pages of 500" in out
    for kind in ("page behind 500", "dataset and encoder", "text of none"):
        assert f"  {kind}" in out

"""The benchmark beside MLflow, our half of it on a service: it does what is timed. Nobody looks at its times."""

from __future__ import annotations

from pathlib import Path

from benchmarks import service
from benchmarks.service import Row, Took


def test_our_half_does_all_that_is_timed(tmp_path: Path) -> None:
    with service.vlglab(tmp_path) as ours:
        run = ours.create()
        ours.create_together(10)
        ours.log(run, "loss", range(100), [0.5] * 100)
        ours.with_parameters(service.LIST_PAGE + 5)
        ours.page()
        ours.log(run, "history", range(service.HISTORY), [1.0] * service.HISTORY)
        ours.chart(run, "history")
        made = len(ours.http("GET", f"{ours.api}/runs?limit=500&fields=id")["items"])
        assert made == ours.made == 1 + 10 + service.LIST_PAGE + 5
        seen = ours.http("GET", f"{ours.api}/runs/{run}/metrics?name=loss&buckets=10")["series"]
        assert [one["num_points"] for one in seen] == [100]
        assert ours.http.cpu_s() > 0


def test_a_row_tells_rates_ratios_and_what_is_missed() -> None:
    took = [Took(seconds, cpu_s) for seconds, cpu_s in ((0.25, 0.1), (0.5, 0.1), (0.125, 0.2))]
    row = Row("runs", "runs/s", -1, 5, took, [Took(4 * one.seconds, 2 * one.cpu_s) for one in took])
    assert (row.shown(row.ours), row.shown(row.theirs)) == (4.0, 1.0)
    assert (row.ratio, row.cpu_ratio, row.misses) == (4.0, 2.0, True)
    assert str(row).split()[-2:] == ["5x", "missed"]
    assert Row("page", "ms", 1e3, 4, took, row.theirs).shown(took) == 250.0

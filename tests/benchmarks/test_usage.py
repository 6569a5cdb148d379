"""The benchmark of quota and usage, on a few artifacts: it counts what it has made. Nobody looks at its times."""

from __future__ import annotations

import pytest

from benchmarks import usage
from storage.records import part_index
from storage.records.database import Database


def test_it_times_both_and_its_artifacts_share_parts(capsys: pytest.CaptureFixture[str]) -> None:
    assert usage.main(["--artifacts", "25", "--parts", "4", "--repeats", "1"]) == 0
    out = capsys.readouterr().out
    assert "SQLite: 25 artifacts of 4 parts" in out
    for kind in ("the quota's check", "the usage report"):
        assert f"  {kind}" in out


def test_one_artifact_in_ten_holds_the_parts_of_the_one_before(db: Database) -> None:
    usage.fill(db, 25, 4)
    assert part_index.update(db, usage.store_of(4)) == 25
    with db.read() as session:
        assert part_index.used_bytes(session) == (25 * 4 - 2 * 3) * 1_000_000

"""`vlglab db`: what it prints, writes and ends with, on the database that the settings name."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from migrations.upgrade import HEAD
from service.cli.local_service import command
from service.cli.scripting import Exit
from storage.records import datasets
from storage.records.database import Database
from storage.records.datasets import Dataset


def vlglab(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "VLGLAB_HOME": str(home), **variables}
    return subprocess.run(
        [*command(), *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.postgres
def test_a_lab_moves_from_sqlite_to_postgres_by_three_commands(
    tmp_path: Path, new_postgres_database: Callable[[], str]
) -> None:
    old, url, file = tmp_path / "old", new_postgres_database(), tmp_path / "lab.jsonl.gz"
    assert vlglab(old, "db", "upgrade").returncode == 0
    db = Database.open(f"sqlite:///{old / 'vlglab.db'}")
    datasets.add(db, Dataset("offices", "synthrooms", "/rooms", "s3dis13"))
    db.close()
    out = vlglab(old, "db", "export", str(file), "--json")
    assert json.loads(out.stdout)["rows"]["datasets"] == 1, out.stderr
    into = vlglab(tmp_path / "new", "db", "import", str(file), VLGLAB_DATABASE_URL=url)
    assert into.stdout == f"imported {file}: revision {HEAD}, 1 rows (1 datasets)\n", into.stderr
    again = vlglab(tmp_path / "new", "db", "import", str(file), VLGLAB_DATABASE_URL=url)
    assert again.returncode == Exit.CONFLICT and "rows already, in datasets" in again.stderr
    sound = vlglab(tmp_path / "new", "db", "check", "--store", VLGLAB_DATABASE_URL=url)
    assert (sound.returncode, sound.stdout) == (0, "the database is sound\n")


def test_check_says_what_is_wrong_by_its_status_too(tmp_path: Path) -> None:
    missing = vlglab(tmp_path, "db", "check")
    assert missing.returncode == Exit.UNREACHABLE and "there is no database" in missing.stderr
    assert not (tmp_path / "vlglab.db").exists(), "looking makes none"
    vlglab(tmp_path, "db", "upgrade")
    sound = vlglab(tmp_path, "db", "check", "--json")
    assert (sound.returncode, json.loads(sound.stdout)) == (0, [])
    db = Database.open(f"sqlite:///{tmp_path / 'vlglab.db'}")
    with db.write() as session:
        session.connection().exec_driver_sql("DROP INDEX ix_runs_key")
    db.close()
    faulty = vlglab(tmp_path, "db", "check")
    assert faulty.returncode == Exit.FAILED and "runs.ix_runs_key" in faulty.stdout
    listed = json.loads(vlglab(tmp_path, "db", "check", "--json").stdout)
    assert [item["subject"] for item in listed] == ["runs.ix_runs_key"]


def test_a_fault_ends_with_one_line_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("nothing")
    refused = vlglab(tmp_path / "home", "db", "import", str(tmp_path / "x"))
    assert refused.returncode == Exit.USAGE
    assert refused.stderr.count("\n") == 1 and "[export_invalid]" in refused.stderr

"""The same journey with PostgreSQL as the database: every stage, and what is computed once."""

from __future__ import annotations

from pathlib import Path

import pytest

from service import schemas
from service.cli.local_service import LocalService
from tests.journey.conftest import TINY_ROOMS, ended, submit

pytestmark = pytest.mark.postgres


def test_the_recipe_runs_on_postgres_and_is_cached_the_second_time(postgres_url: str, tmp_path: Path) -> None:
    variables = {"VLGLAB_DATABASE_URL": postgres_url, "VLGLAB_THREADS": "1"}
    with LocalService(tmp_path / "home", variables=variables) as service, service.client() as client:
        client.add_dataset(
            schemas.DatasetRequest(name="tiny", kind="synthrooms", path=None, label_set="s3dis13", options=TINY_ROOMS)
        )
        first = ended(client, submit(client, "tiny").id)
        assert {run.state for run in first.values()} == {"succeeded"}, [run.reason for run in first.values()]
        assert len(client.run_evaluations(first["evaluate"].id)) == 6
        again = ended(client, submit(client, "tiny").id)
        assert {run.state for run in again.values()} == {"cached"}
    assert not (tmp_path / "home" / "vlglab.db").exists()

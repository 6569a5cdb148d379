"""A lab whose store lies on object storage: every stage, also as from another machine."""

from __future__ import annotations

import shutil
from pathlib import Path

import obstore
import pytest

from service import schemas
from service.cli.local_service import LocalService
from tests.fixtures.object_storage import object_storage
from tests.journey.conftest import TINY_ROOMS, ended, submit

pytestmark = pytest.mark.slow


def test_an_experiment_on_object_storage(tmp_path: Path) -> None:
    with object_storage() as storage:
        bucket = storage.bucket()
        home, url = tmp_path / "home", f"s3://{bucket.config['bucket']}"
        variables = {**storage.environment, "VLGLAB_STORE_URL": url, "VLGLAB_THREADS": "1"}
        with LocalService(home, variables=variables) as service, service.client() as client:
            client.add_dataset(
                schemas.DatasetRequest(
                    name="tiny", kind="synthrooms", path=None, label_set="s3dis13", options=TINY_ROOMS
                )
            )
            runs = ended(client, submit(client, "tiny").id)
            assert {run.state for run in runs.values()} == {"succeeded"}
            names = {meta["path"] for page in obstore.list(bucket) for meta in page}
            for run in runs.values():
                assert {f"artifacts/{key}/manifest.json" for key in run.outputs.values()} <= names
            assert not any(name.startswith("staging/") for name in names)

            shutil.rmtree(home / "store" / "parts")  # as on another machine: no copies
            again = ended(client, submit(client, "tiny", predict__voxelisations=2).id)
            assert again["distill"].state == "cached"
            assert again["predict"].state == "succeeded"
            assert len(client.experiment_evaluations(again["evaluate"].experiment_id or "")) > 0

"""A lab whose store lies on object storage: every stage, also as from another machine."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import numpy as np
import obstore
import pytest
import zarr
from obstore.exceptions import NotFoundError
from obstore.store import S3Store

from service import schemas
from service.cli.local_service import LocalService
from tests.fixtures.object_storage import object_storage
from tests.fixtures.waiting import wait_until
from tests.journey.conftest import TINY_ROOMS, ended, submit

pytestmark = pytest.mark.slow


def part_of(url: str, key: str) -> str:
    """Shelf and key of an artifact's first part, as the service gives its manifest."""
    answer = httpx.get(f"{url}/api/v1/store/artifacts/{key}/manifest.json")
    answer.raise_for_status()
    part: str = answer.json()["parts"][0]["key"]
    return f"{part[:2]}/{part}"


def content_of(bucket: S3Store, name: str) -> bytes:
    """An object's bytes; none where there is no object."""
    try:
        return bytes(obstore.get(bucket, name).bytes())
    except (NotFoundError, FileNotFoundError):
        return b""


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
            assert not any(name.startswith(("staging/", "resume/")) for name in names)

            log = f"logs/{runs['distill'].id}/001.log"
            wait_until(lambda: b"has ended well" in content_of(bucket, log), within_s=20)
            shutil.rmtree(home / "store" / "logs")  # as the service sees what ran at another host
            assert "has ended well" in client.logs(runs["distill"].id)[0]

            shutil.rmtree(home / "store" / "parts")  # as on another machine: no copies
            key = runs["extract"].outputs["embeddings"]
            group = zarr.open_group(f"{service.url}/api/v1/store/parts/{part_of(service.url, key)}", mode="r")
            assert np.isfinite(np.asarray(group["embeddings"])).all()
            for shelf in sorted((home / "store" / "parts").iterdir()):
                shutil.rmtree(shelf)
            again = ended(client, submit(client, "tiny", predict__voxelisations=2).id)
            assert again["distill"].state == "cached"
            assert again["predict"].state == "succeeded"
            assert len(client.experiment_evaluations(again["evaluate"].experiment_id or "")) > 0

"""The real `vlglab serve`, as the demo starts it: spoken to by the client, with a worker host beside it."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from migrations.upgrade import current
from service import schemas
from service.cli import local_service
from service.cli.local_service import LocalService
from service.cli.watching import runs_of
from service.client import Client
from storage import errors
from tests.fixtures import waiting

eventually = partial(waiting.wait_until, within_s=60)

DATASET = schemas.DatasetRequest(
    name="tiny",
    kind="synthrooms",
    label_set="s3dis13",
    options={"train_rooms": 1, "test_rooms": 1, "points": 500, "views": {"count": 1, "width": 32, "height": 24}},
)

LABELS = {"stage": "embed_labels", "label_set": "s3dis13"}


def hosts_alive(client: Client) -> list[int]:
    return [host.pid for host in client.hosts() if host.alive]


def test_a_service_of_ones_own_works_over_http_and_leaves_no_process(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with LocalService(home, [tmp_path / "data"]) as service, service.client() as client:
        assert client.health().status == "ok"
        assert {recipe.name for recipe in client.recipes()} >= {"3dss-vlg", "supervised"}
        assert list(client.runs()) == []

        added = client.add_dataset(DATASET)
        assert [dataset.name for dataset in client.datasets()] == [added.name]
        with pytest.raises(errors.NameTaken):
            client.add_dataset(DATASET.model_copy(update={"options": {"seed": 5}}))
        (tmp_path / "outside").mkdir()
        with pytest.raises(errors.PathNotAllowed):
            client.add_dataset(schemas.DatasetRequest(name="x", kind="rgbd", path=str(tmp_path / "outside")))
        with pytest.raises(errors.UnknownName, match="3dss-vlg"):
            client.submit(schemas.ExperimentRequest(recipe="3dss-vgl", dataset="tiny"))
        bad = {"distill.training.optimiser.learning_rate": -1}
        with pytest.raises(errors.SpecInvalid, match="learning_rate"):
            client.submit(schemas.ExperimentRequest(recipe="3dss-vlg", dataset="tiny", overrides=bad))
        with pytest.raises(errors.NotFound):
            client.run("r-none")

        made = client.submit(schemas.ExperimentRequest(recipe="3dss-vlg", dataset="tiny", preset="demo"))
        eventually(lambda: client.run(made.runs[0].id).state == "succeeded")
        ingest = client.run(made.runs[0].id)
        assert set(ingest.outputs) == {"scenes", "ground_truth"}
        assert client.artifact(ingest.outputs["scenes"]).num_scenes == 2

        client.cancel_experiment(made.id)
        final = {"succeeded", "cached", "failed", "cancelled"}
        eventually(lambda: all(run.state in final for run in runs_of(client, made.id)))
        eventually(lambda: len(hosts_alive(client)) == 1)
        host = psutil.Process(hosts_alive(client)[0])
        assert host.environ()["VLGLAB_HOME"] == str(home)
    eventually(lambda: not host.is_running() or host.status() == psutil.STATUS_ZOMBIE, within_s=5)
    with Client(service.url, timeout_s=2) as client, pytest.raises(errors.ServiceUnreachable):
        client.health()


def test_the_next_service_of_a_home_finds_what_the_last_one_left(tmp_path: Path) -> None:
    with LocalService(tmp_path) as service, service.client() as client:
        client.add_dataset(DATASET)
    with LocalService(tmp_path) as service, service.client() as client:
        assert [dataset.name for dataset in client.datasets()] == ["tiny"]
        service.check()


def test_a_worker_host_that_dies_is_replaced_while_the_service_lives(tmp_path: Path) -> None:
    with LocalService(tmp_path) as service, service.client() as client:
        eventually(lambda: len(hosts_alive(client)) == 1)
        (first,) = hosts_alive(client)
        assert "workers" in psutil.Process(first).cmdline()
        os.kill(first, signal.SIGKILL)
        eventually(lambda: bool(set(hosts_alive(client)) - {first}))
        (second,) = set(hosts_alive(client)) - {first}
        body = schemas.RunListRequest.model_validate({"name": "x", "runs": [{"name": "labels", "spec": LABELS}]})
        made = client.submit(body)
        eventually(lambda: client.run(made.runs[0].id).state == "succeeded")
        service.check_hosts(client)
        log = service.log.read_text()
    assert f"(process {first}) has ended, with status -9" in log
    assert f"started the worker host, process {second}" in log
    eventually(lambda: not psutil.pid_exists(second), within_s=5)


def test_without_a_host_none_is_started_and_none_watched(tmp_path: Path) -> None:
    command = [*local_service.command(), "serve", "--no-host", "--port", "0"]
    environment = local_service.environment(os.environ, tmp_path, [])
    with (tmp_path / "serve.log").open("wb") as output:
        serving = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        eventually(lambda: local_service.ADDRESS_LINE.search((tmp_path / "serve.log").read_text()) is not None)
        found = local_service.ADDRESS_LINE.search((tmp_path / "serve.log").read_text())
        assert found is not None
        with Client(found.group(1)) as client:
            time.sleep(2)
            assert list(client.hosts()) == []
        assert not (tmp_path / "host.log").exists()
    finally:
        serving.terminate()
        assert serving.wait(30) == 0


def vlglab(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "VLGLAB_HOME": str(home), **variables}
    command = [*local_service.command(), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_an_address_that_is_taken_is_refused_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = vlglab(tmp_path, "serve", "--no-host", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "--port" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_an_address_that_others_reach_is_refused_before_anything_listens_while_no_admin_has_a_token(
    tmp_path: Path,
) -> None:
    """Asked for on an address of this machine's loopback network by another name, so that no test listens beyond it."""
    done = vlglab(tmp_path, "serve", "--no-host", "--port", "0", VLGLAB_REQUIRE_TOKENS="1")
    assert done.returncode == 2
    assert "vlglab db add-token" in done.stderr and "VLGLAB_ALLOW_ANYONE" in done.stderr
    assert "serving" not in done.stdout


def test_from_nothing_to_a_service_that_asks_for_tokens(tmp_path: Path) -> None:
    first = tmp_path / "secrets" / "first-token"
    variables = {"VLGLAB_REQUIRE_TOKENS": "1", "VLGLAB_FIRST_TOKEN": str(first)}
    command = [*local_service.command(), "serve", "--no-host", "--port", "0"]
    environment = {**os.environ, "VLGLAB_HOME": str(tmp_path), **variables}
    serving = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert serving.stdout is not None
    try:
        url = next(line.split()[-1] for line in serving.stdout if "serving at" in line)
        assert stat.S_IMODE(first.stat().st_mode) == 0o600
        admin = {"VLGLAB_URL": url, "VLGLAB_API_TOKEN": first.read_text().strip()}
        refused = vlglab(tmp_path, "runs", "list", VLGLAB_URL=url)
        assert refused.returncode == 4 and "VLGLAB_API_TOKEN" in refused.stderr
        made = vlglab(tmp_path, "tokens", "add", "ada", "--role", "reader", **admin)
        ada = {"VLGLAB_URL": url, "VLGLAB_API_TOKEN": made.stdout.strip()}
        assert vlglab(tmp_path, "tokens", "whoami", **ada).stdout.strip() == "ada (reader)"
        assert vlglab(tmp_path, "runs", "list", **ada).returncode == 0
        assert vlglab(tmp_path, "tokens", "list", **ada).returncode == 4
        by_hand = vlglab(tmp_path, "db", "add-token", "eve", "--role", "admin")
        listed = vlglab(tmp_path, "tokens", "list", "--json", VLGLAB_URL=url, VLGLAB_API_TOKEN=by_hand.stdout.strip())
        items = {item["owner"]: item for item in json.loads(listed.stdout)}
        assert set(items) == {"admin", "ada", "eve"}
        assert made.stdout.strip() not in listed.stdout
        assert vlglab(tmp_path, "tokens", "revoke", items["ada"]["id"], **admin).returncode == 0
        assert "was revoked" in vlglab(tmp_path, "runs", "list", **ada).stderr
    finally:
        serving.terminate()
        assert serving.wait(30) == 0
        serving.stdout.close()


def test_a_setting_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    done = vlglab(tmp_path, "serve", "--no-host", VLGLAB_SLOTS="many")
    assert done.returncode == 2
    assert "slots" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_database_is_made_and_brought_up_to_date_by_hand(tmp_path: Path) -> None:
    done = vlglab(tmp_path, "db", "upgrade")
    assert done.returncode == 0, done.stderr
    revision = current(f"sqlite:///{tmp_path}/vlglab.db")
    assert revision
    assert done.stdout.split()[-1] == revision

"""Logs and checkpoints of runs: on a disk that hosts share, and in a bucket, through which each has its own folder."""

from __future__ import annotations

from pathlib import Path

import obstore
import pytest
from obstore.store import MemoryStore as Bucket
from obstore.store import S3Store

from storage.artifacts.objects import Objects
from storage.artifacts.run_files import RunFiles
from storage.errors import StoreUnreachable


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def here(bucket: Bucket, tmp_path: Path) -> RunFiles:
    return RunFiles(tmp_path / "here", Objects(bucket))


@pytest.fixture
def there(bucket: Bucket, tmp_path: Path) -> RunFiles:
    return RunFiles(tmp_path / "there", Objects(bucket))


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def names(bucket: Bucket) -> set[str]:
    return {meta["path"] for page in obstore.list(bucket) for meta in page}


def test_on_a_shared_disk_files_are_where_they_were_written(tmp_path: Path) -> None:
    one, other = RunFiles(tmp_path), RunFiles(tmp_path)
    path = write(one.log("r1", 1), "hello")
    one.send(path)
    assert one.send_log(path, 0) == 0
    assert other.open_log("r1", 1).read(1, 3) == b"ell"
    assert not other.bring(path, tmp_path / "elsewhere")
    assert (other.log("r1", 1).read_text(), (tmp_path / "elsewhere").exists()) == ("hello", False)
    assert not other.are_sent


def test_what_a_host_sends_another_brings(here: RunFiles, there: RunFiles, tmp_path: Path, bucket: Bucket) -> None:
    path = write(here.resume("r1", 2) / "x.safetensors", "state")
    assert not there.bring(there.resume("r1", 2) / "x.safetensors", tmp_path / "got")
    here.send(path)
    assert there.bring(there.resume("r1", 2) / "x.safetensors", tmp_path / "deep" / "got")
    assert (tmp_path / "deep" / "got").read_text() == "state"
    assert names(bucket) == {"resume/r1/after-002/x.safetensors"}


def test_a_log_is_read_where_more_of_it_is(here: RunFiles, there: RunFiles) -> None:
    log, copy = here.log("r1", 1), there.log("r1", 1)
    assert (there.open_log("r1", 1).num_bytes, there.open_log("r1", 1).read(0, 10)) == (0, b"")
    num_sent = here.send_log(write(log, "one\n"), 0)
    assert (num_sent, there.open_log("r1", 1).read(0, 10)) == (4, b"one\n")
    assert here.send_log(write(log, "one\ntwo\n"), num_sent) == 8
    assert there.open_log("r1", 1).read(0, 10) == b"one\ntwo\n"
    assert not copy.parent.exists(), "no copy is kept"
    write(copy, "one\ntwo\nthree, which this host itself has written\n")
    assert there.open_log("r1", 1).read(8, 5) == b"three"


def test_forgetting_removes_a_runs_files_everywhere_and_no_others(
    here: RunFiles, there: RunFiles, bucket: Bucket
) -> None:
    for run in ("r1", "r10"):
        here.send(write(here.log(run, 1), "text"))
        here.send(write(here.resume(run, 0) / "x", "state"))
        here.send(write(here.resume(run, 3) / "x", "state"))
    there.forget_resume("r1")
    assert {name for name in names(bucket) if "/r1/" in name} == {"logs/r1/001.log"}
    there.forget("r1")
    here.forget("r1")
    assert names(bucket) == {"logs/r10/001.log", "resume/r10/x", "resume/r10/after-003/x"}
    assert not here.log("r1", 1).exists()
    assert here.log("r10", 1).exists()


def test_a_bucket_that_does_not_answer_is_named(tmp_path: Path) -> None:
    away = S3Store(
        "lab", endpoint="http://127.0.0.1:9", region="us-east-1", access_key_id="a", secret_access_key="b",
        client_options={"allow_http": True}, retry_config={"max_retries": 0},
    )  # fmt: skip
    files = RunFiles(tmp_path, Objects(away))
    with pytest.raises(StoreUnreachable, match=r"logs/r1/.*VLGLAB_STORE_URL"):
        files.open_log("r1", 1)
    with pytest.raises(StoreUnreachable):
        files.send_log(write(files.log("r1", 1), "text"), 0)

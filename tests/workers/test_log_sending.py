"""The logs of a host's runs reach a bucket while they grow, and whole when a run or the host ends."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import obstore
import pytest
from obstore.store import MemoryStore as Bucket

from storage.artifacts.objects import Objects
from storage.artifacts.run_files import RunFiles
from storage.errors import StoreUnreachable
from tests.fixtures import waiting
from workers import log_sending
from workers.log_sending import LogSender

wait_until = partial(waiting.wait_until, within_s=20)


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def files(bucket: Bucket, tmp_path: Path) -> RunFiles:
    return RunFiles(tmp_path, Objects(bucket))


@pytest.fixture
def sender(files: RunFiles, monkeypatch: pytest.MonkeyPatch) -> Iterator[LogSender]:
    monkeypatch.setattr(log_sending, "EVERY_S", 0.02)
    sender = LogSender(files)
    yield sender
    sender.close()


def say(files: RunFiles, text: str, attempt: int = 1) -> None:
    path = files.log("r1", attempt)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(text)


def sent(bucket: Bucket, attempt: int = 1) -> str:
    names = {meta["path"] for page in obstore.list(bucket) for meta in page}
    name = f"logs/r1/{attempt:03d}.log"
    return bytes(obstore.get(bucket, name).bytes()).decode() if name in names else ""


def test_a_log_is_sent_as_it_grows(files: RunFiles, sender: LogSender, bucket: Bucket) -> None:
    sender.begins("r1", 1)
    say(files, "one\n")
    wait_until(lambda: sent(bucket) == "one\n")
    say(files, "two\n")
    wait_until(lambda: sent(bucket) == "one\ntwo\n")
    say(files, "the end\n")
    sender.ended("r1", 1)
    wait_until(lambda: sent(bucket) == "one\ntwo\nthe end\n")


def test_the_end_of_the_host_sends_what_is_left(
    files: RunFiles, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_sending, "EVERY_S", 600.0)
    sender = LogSender(files)
    for attempt in (1, 2):
        sender.begins("r1", attempt)
        say(files, f"attempt {attempt}\n", attempt)
    sender.close()
    assert (sent(bucket, 1), sent(bucket, 2)) == ("attempt 1\n", "attempt 2\n")


def test_what_could_not_be_sent_is_sent_later(
    files: RunFiles, sender: LogSender, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[Path] = []
    real = RunFiles.send_log

    def fail_first(self: RunFiles, path: Path, num_sent: int) -> int:
        tries.append(path)
        if len(tries) < 3:
            raise StoreUnreachable("the bucket sleeps")
        return real(self, path, num_sent)

    monkeypatch.setattr(RunFiles, "send_log", fail_first)
    say(files, "one\n")
    sender.begins("r1", 1)
    sender.ended("r1", 1)
    wait_until(lambda: sent(bucket) == "one\n")


def test_the_log_of_a_run_that_was_deleted_is_no_matter(files: RunFiles, sender: LogSender, bucket: Bucket) -> None:
    sender.begins("r1", 1)
    sender.begins("r1", 2)
    say(files, "two\n", 2)
    wait_until(lambda: sent(bucket, 2) == "two\n")
    assert sent(bucket, 1) == ""


def test_on_a_shared_disk_nothing_is_done(tmp_path: Path) -> None:
    sender = LogSender(RunFiles(tmp_path))
    sender.begins("r1", 1)
    sender.ended("r1", 1)
    sender.close()
    assert list(tmp_path.iterdir()) == []

"""Long logs in a bucket: sent in segments, of which only the last is sent again, and read by pieces."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import S3Store

from service import log_reading
from storage.artifacts import run_logs
from storage.artifacts.objects import Objects
from storage.artifacts.run_files import RunFiles
from storage.artifacts.run_logs import SEGMENT_BYTES
from tests.fixtures.object_storage import ObjectStorage, object_storage


@dataclass
class Traffic:
    """What a server was asked."""

    storage: ObjectStorage
    sent: list[tuple[str, int]] = field(default_factory=list)
    """Name and bytes of each object that was put."""
    fetched: list[int] = field(default_factory=list)
    """Bytes of each answer to a request for an object."""

    def objects(self, bucket: S3Store) -> dict[str, bytes]:
        return self.storage.objects(str(bucket.config["bucket"]))


@pytest.fixture(scope="module")
def server() -> Iterator[Traffic]:
    """A server that notes what it is asked."""
    asked = list[Traffic]()

    def noting(application: Callable[..., Any]) -> Callable[..., Any]:
        def answer(environ: dict[str, Any], start: Any) -> Any:
            name = environ["PATH_INFO"].split("/", 2)[-1]
            if environ["REQUEST_METHOD"] == "PUT":
                asked[0].sent.append((name, int(environ["CONTENT_LENGTH"])))
            body = application(environ, start)
            if environ["REQUEST_METHOD"] != "GET" or not name.startswith("logs/"):
                return body
            pieces = list(body)
            asked[0].fetched.append(sum(map(len, pieces)))
            return pieces

        return answer

    with object_storage(noting) as storage:
        asked.append(Traffic(storage))
        yield asked[0]


@pytest.fixture
def traffic(server: Traffic) -> Traffic:
    server.sent.clear()
    server.fetched.clear()
    return server


@pytest.fixture
def bucket(traffic: Traffic) -> S3Store:
    made = traffic.storage.bucket()
    traffic.sent.clear()
    return made


@pytest.fixture
def here(bucket: S3Store, tmp_path: Path) -> RunFiles:
    return RunFiles(tmp_path / "here", Objects(bucket))


@pytest.fixture
def there(bucket: S3Store, tmp_path: Path) -> RunFiles:
    return RunFiles(tmp_path / "there", Objects(bucket))


def grow(files: RunFiles, text: bytes) -> Path:
    path = files.log("r1", 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as log:
        log.write(text)
    return path


def test_full_segments_are_sent_once_and_the_last_one_as_it_grows(
    here: RunFiles, bucket: S3Store, traffic: Traffic
) -> None:
    text = random.Random(1).randbytes(2 * SEGMENT_BYTES + 100)
    num_sent = here.send_log(grow(here, text), 0)
    assert num_sent == len(text)
    traffic.sent.clear()
    num_sent = here.send_log(grow(here, b"more"), num_sent)
    assert traffic.sent == [("logs/r1/001.log.0002", 104)]
    assert here.send_log(here.log("r1", 1), num_sent) == num_sent
    assert len(traffic.sent) == 1, "what has not grown is not sent"
    objects = traffic.objects(bucket)
    assert sorted(objects) == ["logs/r1/001.log", "logs/r1/001.log.0001", "logs/r1/001.log.0002"]
    assert b"".join(objects[name] for name in sorted(objects)) == text + b"more"


def test_only_what_is_read_is_fetched(here: RunFiles, there: RunFiles, bucket: S3Store, traffic: Traffic) -> None:
    text = b"".join(b"line %09d\n" % number for number in range(700_000))
    assert len(text) > 2 * SEGMENT_BYTES
    here.send_log(grow(here, text), 0)
    log = there.open_log("r1", 1)
    assert (log.num_bytes, sum(traffic.fetched)) == (len(text), 0)
    start = log_reading.tail_start(log, 50)
    assert log_reading.read(log, start) == text[-45:]
    assert log.read(SEGMENT_BYTES - 10, 20) == text[SEGMENT_BYTES - 10 : SEGMENT_BYTES + 10]
    assert sum(traffic.fetched) == 51 + 45 + 20
    assert log.read(len(text), 10) == log.read(2 * len(text), 10) == b""


@pytest.mark.parametrize("seed", range(20))
def test_any_piece_reads_as_it_was_written(
    here: RunFiles, there: RunFiles, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_logs, "SEGMENT_BYTES", 100)
    chance = random.Random(seed)
    text, num_sent = b"", 0
    for _ in range(6):
        added = chance.randbytes(chance.choice((0, 1, 50, 99, 100, 200, 330)))
        text += added
        path = grow(here, added)
        if chance.random() < 0.2:
            num_sent = 0  # another host of the machine goes on
        num_sent = here.send_log(path, num_sent)
        log = there.open_log("r1", 1)
        assert log.num_bytes == len(text)
        for _ in range(4):
            offset, num_bytes = chance.randint(0, len(text) + 10), chance.randint(0, 350)
            assert log.read(offset, num_bytes) == text[offset : offset + num_bytes]


def test_a_log_that_was_sent_whole_by_an_older_version_is_read_and_goes_on_in_segments(
    here: RunFiles, there: RunFiles, bucket: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_logs, "SEGMENT_BYTES", 100)
    text = random.Random(2).randbytes(350)
    obstore.put(bucket, "logs/r1/001.log", text)
    log = there.open_log("r1", 1)
    assert (log.num_bytes, log.read(90, 300)) == (350, text[90:])
    here.send_log(grow(here, text + b"more"), 0)
    assert there.open_log("r1", 1).read(0, 1000) == text + b"more"


def test_attempts_and_runs_are_kept_apart_and_forgotten_whole(
    here: RunFiles, there: RunFiles, bucket: S3Store, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_logs, "SEGMENT_BYTES", 10)
    for run_id, attempt, content in (("r1", 1, b"a" * 25), ("r1", 2, b"b" * 35), ("r10", 1, b"c" * 15)):
        path = here.log(run_id, attempt)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        here.send_log(path, 0)
    assert there.open_log("r1", 1).read(0, 99) == b"a" * 25
    assert there.open_log("r1", 2).read(0, 99) == b"b" * 35
    assert there.sizes() == {"r1": 60, "r10": 15}
    there.forget("r1")
    assert sorted(traffic.objects(bucket)) == ["logs/r10/001.log", "logs/r10/001.log.0001"]
    assert there.open_log("r1", 1).read(0, 99) == b""

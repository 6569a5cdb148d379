"""Log lines: JSON that says what it is about, and no secret in any of them."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from storage import log_format

SECRET = "vlglab_Kq3x0V7l5m1JYw2cT8bN4sRzHfE6uAoPdXgMiLtBvCk"


@pytest.fixture
def logger() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A logger that writes JSON lines to a text."""
    log, text = logging.getLogger("vlglab.test_log_format"), io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(log_format.JsonFormatter())
    log.addHandler(handler)
    log.propagate = False
    log.setLevel(logging.INFO)
    yield log, text
    log.removeHandler(handler)
    log.propagate = True


def lines(text: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.getvalue().splitlines()]


def test_a_line_is_one_json_object_that_says_when_where_and_what(logger: Any) -> None:
    log, text = logger
    log.info("got %d of\n%s", 3, "\u00e4")
    (line,) = lines(text)
    assert line["message"] == "got 3 of\n\u00e4"
    assert (line["level"], line["logger"]) == ("info", log.name)
    assert line["time"].endswith("+00:00") and isinstance(line["process"], int)
    assert not {"run_id", "request_id"} & set(line)


def test_half_a_character_is_written_too() -> None:
    """Not through a logger: pytest would report what was logged, and its workers cannot send it."""
    record = logging.makeLogRecord({"msg": "\ud800", "levelname": "INFO"})
    assert json.loads(log_format.JsonFormatter().format(record))["message"] == "\ud800"


def test_a_line_carries_what_the_thread_and_the_call_say_it_is_about(logger: Any) -> None:
    log, text = logger
    with log_format.about(request_id="q1", run_id="r1"):
        with log_format.about(run_id="r2"):
            log.info("inner")
        log.info("outer", extra={"run_id": "r3", "attempt": 2, "secret": "no field of ours"})
        elsewhere = threading.Thread(target=log.info, args=("elsewhere",))
        elsewhere.start()
        elsewhere.join()
    log.info("after")
    inner, outer, other, after = lines(text)
    assert (inner["request_id"], inner["run_id"]) == ("q1", "r2")
    assert (outer["request_id"], outer["run_id"], outer["attempt"]) == ("q1", "r3", 2)
    assert "secret" not in outer
    assert "request_id" not in other and "request_id" not in after


def test_an_error_s_traceback_stands_within_its_line(logger: Any) -> None:
    log, text = logger
    try:
        raise ValueError("a fault")
    except ValueError:
        log.exception("it failed")
    (line,) = lines(text)
    assert line["error"] == "ValueError" and "a fault" in line["traceback"]


@pytest.mark.parametrize(
    "said",
    [
        SECRET,
        f"Authorization: Bearer {SECRET}",
        "bearer abcdefgh.ijkl",
        "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD3c0H2BnV6nM=",
        "postgresql://ada:hush@db.lab/vlglab",
        "https://ada:hush@hooks.example.org/",
    ],
)
def test_what_looks_like_a_secret_is_in_no_line_of_either_kind(logger: Any, said: str) -> None:
    log, text = logger
    try:
        raise ValueError(f"got {said}")
    except ValueError:
        log.exception("asked with %s", said, extra={"path": f"/x?{said}"})
    record = logging.LogRecord("x", logging.INFO, "x", 1, "got %s", (said,), None)
    written = text.getvalue() + log_format.TextFormatter(log_format.TEXT).format(record)
    for secret in (SECRET, "abcdefgh.ijkl", "C2FVsBQIhrscChlQIMV", "hush"):
        assert secret not in written
    assert "***" in written


def test_a_process_writes_nothing_but_json_whatever_ends_it() -> None:
    code = (
        "import logging, warnings; from storage import log_format; log_format.configure('json');"
        " log_format.about_process(run_id='r1', attempt=2); logging.getLogger('x').info('hello');"
        " warnings.warn('careful'); raise ValueError('the end')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    found = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["level"] for line in found] == ["info", "warning", "critical"]
    assert {(line["run_id"], line["attempt"]) for line in found} == {("r1", 2)}
    assert "the end" in found[-1]["traceback"]

"""Pieces of logs: where they begin and end, in the middle of lines and characters too."""

from __future__ import annotations

from pathlib import Path

import pytest

from service import log_reading
from storage.artifacts.run_logs import LogHere

TEXT = "one\ntwo \u00e9\U0001f600\nthree\n".encode()


@pytest.mark.parametrize(
    ("tail", "read"),
    [
        (1, "\n"),  # no line starts within it
        (3, "ee\n"),
        (6, "three\n"),
        (7, "three\n"),  # the end of the line before is left out
        (9, "three\n"),
        (17, "two \u00e9\U0001f600\nthree\n"),
        (18, "two \u00e9\U0001f600\nthree\n"),
        (len(TEXT) - 1, "two \u00e9\U0001f600\nthree\n"),
        (len(TEXT), TEXT.decode()),
        (2**53, TEXT.decode()),
    ],
)
def test_a_tail_begins_at_a_line_where_one_starts_within_it(tmp_path: Path, tail: int, read: str) -> None:
    path = tmp_path / "1.log"
    path.write_bytes(TEXT)
    start = log_reading.tail_start(LogHere(path), tail)
    assert log_reading.read(LogHere(path), start).decode() == read


@pytest.mark.parametrize(
    ("tail", "read"), [(1, ""), (2, ""), (4, "\U0001f600"), (5, "\U0001f600"), (6, "\u00e9\U0001f600")]
)
def test_a_tail_of_one_long_line_begins_with_a_whole_character(tmp_path: Path, tail: int, read: str) -> None:
    path = tmp_path / "1.log"
    path.write_bytes("no end of it: \u00e9\U0001f600".encode())
    assert log_reading.read(LogHere(path), log_reading.tail_start(LogHere(path), tail)).decode() == read


def test_a_tail_that_is_longer_than_a_piece_begins_where_it_begins(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    path.write_bytes(b"x" * 9 + b"\n" + b"y" * (3 * log_reading.LOG_BYTES))
    start = log_reading.tail_start(LogHere(path), 2 * log_reading.LOG_BYTES)
    assert start == path.stat().st_size - 2 * log_reading.LOG_BYTES
    assert len(log_reading.read(LogHere(path), start)) == log_reading.LOG_BYTES


def test_no_log_has_no_tail(tmp_path: Path) -> None:
    assert log_reading.tail_start(LogHere(tmp_path / "1.log"), 10) == 0

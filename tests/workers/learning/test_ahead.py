"""Work done ahead: its order, how far ahead, and what happens to errors and to what nobody waits for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from workers.learning.ahead import ahead


def settle(reached: Callable[[], bool]) -> None:
    """Waits until something is so, or for as long as it plainly would have come to be so."""
    until = time.monotonic() + 5
    while not reached() and time.monotonic() < until:
        time.sleep(0.005)


@pytest.mark.parametrize(("count", "threads"), [(1, 0), (1, 1), (4, 1), (4, 3), (100, 4)])
def test_results_come_in_order(count: int, threads: int) -> None:
    def make(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number

    assert list(ahead([partial(make, i) for i in range(20)], count, threads)) == list(range(20))


def test_the_next_are_made_while_one_is_used_and_no_more_than_asked() -> None:
    made: list[int] = []
    results = ahead([partial(made.append, i) for i in range(50)], 3)
    next(results)
    settle(lambda: len(made) == 4)
    time.sleep(0.05)
    assert made == [0, 1, 2, 3]


def test_an_error_comes_where_its_result_would() -> None:
    def make(number: int) -> int:
        if number == 2:
            raise ValueError("two")
        return number

    results = ahead([partial(make, i) for i in range(5)], 4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)


def test_what_nobody_waits_for_is_not_begun() -> None:
    begun: list[int] = []
    gate = threading.Event()

    def make(number: int) -> int:
        begun.append(number)
        if number:
            gate.wait(5)
        return number

    results = ahead([partial(make, i) for i in range(20)], 10)
    assert next(results) == 0
    settle(lambda: 1 in begun)
    threading.Timer(0.05, gate.set).start()
    results.close()  # type: ignore[attr-defined]
    assert begun == [0, 1]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_without_threads_nothing_is_made_before_it_is_asked_for() -> None:
    made: list[int] = []
    results = ahead([partial(made.append, i) for i in range(3)], 3, threads=0)
    next(results)
    assert made == [0]

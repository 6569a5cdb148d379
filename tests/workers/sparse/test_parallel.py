from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial

import pytest
import torch

from workers.sparse.parallel import run_all

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 2, 4])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
def test_every_task_runs_once(threads: int, count: int) -> None:
    done: list[int] = []
    run_all([partial(done.append, i) for i in range(count)], CPU)
    assert sorted(done) == list(range(count))
    assert torch.get_num_threads() == threads


def test_two_threads_work_at_once() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    meeting = threading.Barrier(2, timeout=30)

    def meet() -> None:
        assert torch.get_num_threads() == 1
        meeting.wait()

    try:
        run_all([meet, meet], CPU)
    finally:
        torch.set_num_threads(before)


def test_other_devices_run_in_order_on_this_thread(threads: int) -> None:
    seen: list[tuple[int, int]] = []
    run_all([lambda i=i: seen.append((i, threading.get_ident())) for i in range(5)], torch.device("meta"))  # type: ignore[misc]
    assert seen == [(i, threading.get_ident()) for i in range(5)]


def test_an_error_comes_back_and_the_thread_count_with_it(threads: int) -> None:
    def fail() -> None:
        raise ArithmeticError("task three")

    done: list[int] = []
    with pytest.raises(ArithmeticError, match="task three"):
        run_all([partial(done.append, 0), partial(done.append, 1), fail, partial(done.append, 3)], CPU)
    assert torch.get_num_threads() == threads
    run_all([partial(done.append, 9)] * 4, CPU)
    assert done[-4:] == [9] * 4


def test_tasks_record_no_gradients_and_may_write_inference_tensors(threads: int) -> None:
    weight = torch.ones(3, requires_grad=True)
    results: list[torch.Tensor] = []
    with torch.no_grad():
        run_all([lambda: results.append(weight * 2)] * 4, CPU)
    assert not any(result.requires_grad for result in results)
    with torch.inference_mode():
        out = torch.zeros(8)
        run_all([partial(out[i : i + 1].add_, i) for i in range(8)], CPU)
    assert out.tolist() == list(range(8))

"""Runs independent tasks on as many threads as torch may use, each task on one thread of its own.

Many small operations that each fork and join cost more than a few large tasks that join once; and where cores are
shared with other processes, every join waits for a thread that is not running. Knows nothing of what the tasks do.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch


def run_all(tasks: Sequence[Callable[[], None]], device: torch.device) -> None:
    """Runs every task once, in any order, without recording gradients; returns when all are done.

    Tasks must not write to the same memory. With one torch thread, one task, or a device that queues its work (any but
    the CPU), they run here, in order.

    Raises:
        Exception: what a task raised, after all threads have stopped.
    """
    num_threads = torch.get_num_threads()
    num_helpers = min(num_threads, len(tasks)) - 1 if device.type == "cpu" else 0
    if num_helpers < 1:
        for task in tasks:
            task()
        return
    turn = itertools.count()
    inference = torch.is_inference_mode_enabled()

    def drain() -> None:
        with torch.inference_mode(inference), torch.no_grad():
            while (index := next(turn)) < len(tasks):
                tasks[index]()

    pool = _pool(num_helpers)
    helpers = [pool.submit(drain) for _ in range(num_helpers)]
    torch.set_num_threads(1)
    try:
        drain()
    finally:
        for helper in helpers:
            helper.exception()
        torch.set_num_threads(num_threads)
    for helper in helpers:
        helper.result()


@lru_cache(maxsize=1)
def _pool(num_helpers: int) -> ThreadPoolExecutor:
    """Threads that keep torch's operations to themselves."""
    return ThreadPoolExecutor(num_helpers, "sparse", initializer=torch.set_num_threads, initargs=(1,))

"""Makes what a training step needs while the step before it runs. Knows nothing of what that is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


def loader_threads(device: torch.device, threads: int) -> int:
    """Threads that make what a training on a device needs, of those that its run may use; 0: none but the step's own.

    On a CPU the step takes every core already, and a thread beside it only holds it up.
    """
    return 0 if device.type == "cpu" else threads


def ahead(makes: Sequence[Callable[[], T]], count: int, threads: int = 1) -> Iterator[T]:
    """What each of the calls returns, in their order, made by other threads before it is asked for.

    An error of a call is raised where its result would be given; calls that nobody waits for any more are not begun.

    Args:
        makes: the calls; several run at a time where there are several threads.
        count: how many results at most are kept or being made beyond the one that was given out last.
        threads: how many make them; 0 makes each when it is asked for, in the caller's thread.
    """
    if threads == 0:
        for make in makes:
            yield make()
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="ahead") as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for make in makes:
                waiting.append(pool.submit(make))
                if len(waiting) > count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

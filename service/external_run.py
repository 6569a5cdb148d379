"""A run whose trainer is this process: its metrics in batches, a sign of life while it works, its end. Knows no path.

Examples:
    with client.external_run("mine", {"learning_rate": 0.003}) as run:
        for step in range(1000):
            run.log({"loss": train_one_step()}, step)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from service.schemas import FinishRequest, MetricBatch, MetricEntry, Progress, Run
from storage.errors import RunCancelled, RunStopped, ServiceUnreachable

if TYPE_CHECKING:
    from service.training import Training

BATCH = 1000
"""Points that are sent at once."""
FLUSH_S = 2.0
"""Seconds after which fewer are sent too."""
BEATS_A_LEASE = 4
"""Signs of life in the time in which one is needed."""


class ExternalRun:
    """A started run. Use it as a context manager: it succeeds, or fails with what was raised.

    Where somebody cancelled it, or its lease was lost, the next call raises `RunCancelled` or `LeaseLost`; points are
    kept while the service is away, and sent when it answers again.
    """

    def __init__(self, client: Training, run: Run, lease_s: float) -> None:
        """Args: the client to speak through, a run that was started, and the length of its lease."""
        self.run = run
        self._client = client
        self._points: list[MetricEntry] = []
        self._progress: Progress | None = None
        self._steps: dict[str, int] = {}
        self._sent_at = time.monotonic()
        self._stopped: RunStopped | None = None
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._ended = threading.Event()
        every_s = min(FLUSH_S, lease_s / BEATS_A_LEASE)
        self._thread = threading.Thread(target=self._keep_alive, args=(every_s, lease_s), name="beat", daemon=True)
        self._thread.start()

    @property
    def id(self) -> str:
        """The run's id."""
        return self.run.id

    def log(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Logs metrics of one step; they are sent in batches.

        Args:
            values: name -> value.
            step: None takes the one after the last of each name.

        Raises:
            RunCancelled: somebody cancelled the run.
            LeaseLost: it was given up, or goes on as another attempt.
        """
        self._check()
        with self._lock:
            for name, value in values.items():
                at = self._steps.get(name, -1) + 1 if step is None else step
                self._steps[name] = at
                self._points.append(MetricEntry(name=name, step=at, value=float(value)))
            full = len(self._points) >= BATCH
        if full:
            self.flush()

    def progress(self, done: float, total: float | None = None, unit: str = "", message: str | None = None) -> None:
        """Says how far the trainer is; sent with the next sign of life.

        Raises:
            RunCancelled, LeaseLost: as `log`.
        """
        self._check()
        self._progress = Progress(done=done, total=total, unit=unit, message=message)

    def flush(self) -> None:
        """Sends what was logged; keeps it where the service is away.

        Raises:
            RunCancelled, LeaseLost: as `log`.
        """
        try:
            self._send()
        except ServiceUnreachable:
            return

    def __enter__(self) -> Self:
        """The run."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Sends what is left and ends the run: as succeeded, or as failed or cancelled with what was raised."""
        self._ended.set()
        self._thread.join()
        if isinstance(error, RunStopped):
            return
        self._send()
        body = FinishRequest(attempt=self.run.attempt, state="succeeded", reason=None)
        if error is not None:
            state = "cancelled" if isinstance(error, KeyboardInterrupt | RunCancelled) else "failed"
            reason = f"{type(error).__name__}: {error}"[:10_000]
            body = FinishRequest(attempt=self.run.attempt, state=state, reason=reason)
        self.run = self._client.finish_run(self.run.id, body)

    def _check(self) -> None:
        """Raises what stopped the run, if anything did."""
        if self._stopped is not None:
            raise self._stopped

    def _send(self) -> None:
        """Sends what was logged, batch by batch; what was not taken is kept."""
        with self._sending:
            while True:
                with self._lock:
                    points = self._points[:BATCH]
                if not points:
                    return
                try:
                    self._client.log_metrics(self.run.id, MetricBatch(attempt=self.run.attempt, points=points))
                except RunStopped as error:
                    self._stopped = error
                    raise
                with self._lock:
                    del self._points[: len(points)]
                self._sent_at = time.monotonic()

    def _keep_alive(self, every_s: float, lease_s: float) -> None:
        """Sends what was logged, and a sign of life where nothing was, until the run ends."""
        while not self._ended.wait(every_s):
            try:
                self._send()
                if self._progress is not None or time.monotonic() - self._sent_at > lease_s / BEATS_A_LEASE:
                    progress, self._progress = self._progress, None
                    self._client.beat_run(self.run.id, self.run.attempt, progress)
                    self._sent_at = time.monotonic()
            except RunStopped as error:
                self._stopped = error
                return
            except ServiceUnreachable:
                continue  # it may be back before the lease has run out

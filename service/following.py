"""What a client is told as it happens: events across lost connections, and the end of what it waits for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, overload

from service import schemas
from service.connection import Connection
from service.retrying import PASSING
from service.waiting import until_ended
from storage import errors

_Waited = TypeVar("_Waited", schemas.Run, schemas.ExperimentDetail)
_RECONNECT_S = 0.5
"""Seconds before a stream of events that was lost is asked for again."""


class Following(Connection):
    """A connection that follows runs and experiments."""

    def events(self, run_id: str, *, cursor: str = "0") -> Iterator[schemas.Event]:
        """What has happened to a run, oldest first, after the event whose id `cursor` is."""
        while True:
            page = self._get(f"/runs/{run_id}/events", schemas.EventPage, {"cursor": cursor})
            yield from page.items
            if not page.items:
                return
            cursor = page.next

    def follow_events(
        self, *, run: str | None = None, experiment: str | None = None, cursor: int = 0, patience_s: float = 30.0
    ) -> Iterator[schemas.Event]:
        """What happened after `cursor` and what happens, each event once, across lost connections.

        Args:
            run: only this run's; ends with the run.
            experiment: only those of an experiment's runs; goes on until the caller stops.
            cursor: id of the last event that is known; 0 for all.
            patience_s: how long the service may be away before this gives up.

        Raises:
            NotFound: no such run or experiment.
            ServiceUnreachable: the service was away for longer than `patience_s`.
        """
        lost: float | None = None
        while True:
            try:
                for kind, event in self._stream(run, experiment, cursor):
                    lost = None
                    if kind == "end":
                        return
                    if event is not None:
                        cursor = event.id
                        yield event
            except errors.VlglabError as error:
                if error.status not in PASSING:
                    raise
                lost = lost or time.monotonic()
                if time.monotonic() - lost > patience_s:
                    raise
            time.sleep(_RECONNECT_S)

    @overload
    def wait(
        self,
        what: schemas.Run,
        *,
        progress: Callable[[schemas.Run], None] | None = ...,
        timeout_s: float | None = ...,
        poll_s: float = ...,
    ) -> schemas.Run:
        """A run, once it has ended."""

    @overload
    def wait(
        self,
        what: schemas.Experiment,
        *,
        progress: Callable[[schemas.ExperimentDetail], None] | None = ...,
        timeout_s: float | None = ...,
        poll_s: float = ...,
    ) -> schemas.ExperimentDetail:
        """An experiment with its runs, once all have ended."""

    def wait(
        self,
        what: schemas.Run | schemas.Experiment,
        *,
        progress: Callable[[Any], None] | None = None,
        timeout_s: float | None = None,
        poll_s: float = 0.5,
    ) -> schemas.Run | schemas.ExperimentDetail:
        """A run, or an experiment with its runs, once it has ended, however it did; look at its `state`.

        Args:
            what: a run or an experiment, as any call gives it.
            progress: called with each reading that differs from the one before, the first and the last included.
            timeout_s: how long to wait at most; None for as long as it takes.
            poll_s: seconds between two readings.

        Raises:
            WaitedTooLong: it has not ended in time; it goes on.
            ServiceUnreachable: the service was away for longer than half a minute.
        """
        if isinstance(what, schemas.Run):
            return self._wait(f"/runs/{what.id}", schemas.Run, progress, timeout_s, poll_s)
        return self._wait(f"/experiments/{what.id}", schemas.ExperimentDetail, progress, timeout_s, poll_s)

    def _wait(
        self,
        path: str,
        model: type[_Waited],
        progress: Callable[[_Waited], None] | None,
        timeout_s: float | None,
        poll_s: float,
    ) -> _Waited:
        """What a path gives, once that has ended."""
        return until_ended(lambda: self._get(path, model), progress, timeout_s=timeout_s, poll_s=poll_s)

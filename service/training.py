"""The client's calls of external trainers, and for the charts of metrics. A part of `service.client.Client`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from service import schemas
from service.connection import API, Connection, new_key, parsed
from service.external_run import ExternalRun


class Training(Connection):
    """Calls of external trainers, and charts of what they and workers have logged."""

    def chart(
        self, run_id: str, name: str | None = None, *, buckets: int = 500, first: int | None = None,
        last: int | None = None,
    ) -> schemas.MetricChart:  # fmt: skip
        """A run's metrics in at most so many buckets, each with first, least, greatest and last value.

        Args:
            run_id: the run.
            name: only this metric.
            buckets: most buckets a metric, such as pixels of a chart.
            first: first step; None takes the first that there is.
            last: last step, included; None takes the last that there is.
        """
        wanted = given(name=name, buckets=buckets, first=first, last=last)
        return self._get(f"/runs/{run_id}/metrics", schemas.MetricChart, wanted)

    # -- runs of stage `external`, which their owners run

    def external_run(
        self,
        name: str,
        parameters: Mapping[str, object] | None = None,
        *,
        tags: Sequence[str] = (),
        notes: str = "",
        lease_s: float = 300,
    ) -> ExternalRun:
        """Makes and starts a run whose trainer is the caller; a context manager that ends it (`ExternalRun`).

        Args:
            name: the run's name.
            parameters: what the trainer was told: numbers, texts, booleans and lists of them.
            tags: words to find it by.
            notes: what people should know of it.
            lease_s: seconds of silence after which it fails.
        """
        body = schemas.RunRequest(
            name=name,
            spec={"stage": "external", "parameters": dict(parameters or {})},
            tags=list(tags),
            notes=notes,
            lease_s=lease_s,
        )
        return ExternalRun(self, self._post("/runs", schemas.Run, body, idempotency_key=new_key()), lease_s)

    def start_run(self, run_id: str, *, lease_s: float = 300) -> schemas.Run:
        """Starts a run of stage `external`, or starts it again after a retry; the answer has the attempt's number.

        Raises:
            IllegalMove: it runs, has ended, waits for an input, or is a worker's.
        """
        return self._post(f"/runs/{run_id}/start", schemas.Run, schemas.StartRequest(lease_s=lease_s))

    def beat_run(
        self, run_id: str, attempt: int | None = None, progress: schemas.Progress | None = None
    ) -> schemas.Held:
        """Shows that a run of stage `external` lives.

        Raises:
            RunCancelled: somebody cancelled it.
            LeaseLost: it was given up, has ended, or goes on as another attempt.
        """
        body = schemas.BeatRequest(attempt=attempt, progress=progress)
        return self._post(f"/runs/{run_id}/beat", schemas.Held, body, repeatable=True)

    def log_metrics(self, run_id: str, batch: schemas.MetricBatch) -> schemas.Held:
        """Logs metrics of a run of stage `external`; a batch may be sent again.

        Raises:
            RunCancelled, LeaseLost: as `beat_run`.
        """
        document = json.loads(batch.model_dump_json(exclude_none=True))  # so that what is not finite becomes null
        answer = self._send("POST", f"{API}/runs/{run_id}/metrics", json=document, repeatable=True)
        return parsed(answer, schemas.Held)

    def finish_run(self, run_id: str, body: schemas.FinishRequest) -> schemas.Run:
        """Ends a run of stage `external`.

        Raises:
            RunCancelled, LeaseLost: as `beat_run`.
        """
        return self._post(f"/runs/{run_id}/finish", schemas.Run, body, repeatable=True)


def given(**parameters: object) -> dict[str, str | None]:
    """Parameters of a query as text; None for those that are not given."""
    return {name: None if value is None else str(value) for name, value in parameters.items()}

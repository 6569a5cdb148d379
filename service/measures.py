"""What Prometheus reads: requests as they were answered, and the lab as it stands. Knows the records; no route."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from storage.artifacts.disks import disk_of
from storage.records import overview
from storage.records.database import Database
from storage.records.quotas import Room
from storage.records.states import STATES

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Measures:
    """A registry of this application's own: several in one process do not meet."""

    def __init__(self, db: Database, store_root: Path) -> None:
        """Args: the database and the folder of the store, both asked at every scrape."""
        self._registry = CollectorRegistry()
        self._registry.register(_Lab(db, store_root))
        self._seconds = Histogram(
            "vlglab_http_request_seconds", "Seconds to the end of an answer, by route.", ("method", "route"),
            registry=self._registry, buckets=BUCKETS_S,
        )  # fmt: skip
        self._answers = Counter(
            "vlglab_http_answers", "Answers by status.", ("method", "route", "status"), registry=self._registry
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts one answer. `route` is the template, such as /runs/{run_id}: ids would make a series each."""
        if not route.endswith("/stream"):  # lasts as long as somebody listens
            self._seconds.labels(method, route).observe(seconds)
        self._answers.labels(method, route, str(status)).inc()

    def text(self) -> bytes:
        """Everything, in Prometheus's text format."""
        return generate_latest(self._registry)


class _Lab(Collector):
    """The lab as the tables have it at the moment of the scrape."""

    def __init__(self, db: Database, store_root: Path) -> None:
        self._db = db
        self._store_root = store_root

    def collect(self) -> Iterator[Metric]:
        """Runs by state, what waits and for how long, hosts with their slots and memory, what is published, room."""
        seen = overview.of(self._db)
        runs = GaugeMetricFamily("vlglab_runs", "Runs by state.", labels=["state"])
        for state in STATES:
            runs.add_metric([state], seen.runs.get(state, 0))
        yield runs
        yield GaugeMetricFamily(
            "vlglab_oldest_ready_seconds", "How long the oldest ready run waits.", seen.oldest_ready_s
        )
        yield GaugeMetricFamily("vlglab_hosts", "Worker hosts that beat.", seen.hosts)
        yield GaugeMetricFamily("vlglab_slots", "Runs that they run at once.", seen.slots)
        yield GaugeMetricFamily("vlglab_workers_rss_bytes", "Resident memory of all worker processes.", seen.rss_bytes)
        yield GaugeMetricFamily("vlglab_artifacts", "Published artifacts.", seen.artifacts)
        yield GaugeMetricFamily("vlglab_artifact_bytes", "Bytes that they hold.", seen.artifact_bytes)
        yield CounterMetricFamily("vlglab_events", "Events of runs so far.", seen.num_events)
        yield CounterMetricFamily("vlglab_lost_attempts", "Attempts whose workers were lost.", seen.lost_attempts)
        yield GaugeMetricFamily(
            "vlglab_webhooks_waiting", "Messages to webhooks that are still to be delivered.", seen.webhooks_waiting
        )
        yield from self._room(seen.store)

    def _room(self, store: Room) -> Iterator[Metric]:
        """The room that the store has left, by its disk and by its quota; no number where there is none."""
        with contextlib.suppress(OSError):
            free_bytes = disk_of(self._store_root).free_bytes
            yield GaugeMetricFamily("vlglab_store_disk_free_bytes", "Free bytes of the store's disk.", free_bytes)
        if store.quota_bytes:
            free_bytes = max(0, store.quota_bytes - store.used_bytes)
            yield GaugeMetricFamily("vlglab_store_quota_bytes", "Bytes that the store may hold.", store.quota_bytes)
            yield GaugeMetricFamily("vlglab_store_quota_free_bytes", "Bytes that are left of them.", free_bytes)

    def describe(self) -> Iterator[Metric]:
        """Nothing: so that registering asks no database."""
        return iter(())

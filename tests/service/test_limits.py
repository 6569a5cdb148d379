"""The table of limits in docs/operating.md is the code's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from annotated_types import MaxLen

from service.dependencies import THREADS
from service.log_reading import LOG_BYTES
from service.routes.streams import STREAMS
from service.schemas import RunListRequest, RunRequest
from service.schemas.metrics import MAX_POINTS_A_CALL
from storage.records import charts, comparisons, metrics
from storage.records.idempotency import KEPT
from storage.records.pages import MAX_LIMIT
from storage.settings import Settings
from workers.host import START_S

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operating.md"


def default(name: str) -> Any:
    """A setting's default."""
    return Settings.model_fields[name].default


def longest(model: type[Any], field: str) -> int:
    """The most that a field of a request may hold."""
    (found,) = [rule.max_length for rule in model.model_fields[field].metadata if isinstance(rule, MaxLen)]
    return int(found)


def most(name: str) -> float:
    """The greatest value of a setting."""
    (found,) = [rule.le for rule in Settings.model_fields[name].metadata if hasattr(rule, "le")]
    return float(found)


def mib(number: int) -> str:
    assert number % (1 << 20) == 0
    return f"{number >> 20} MiB"


LIMITS = {
    "requests a second of a caller, in the long run (`VLGLAB_REQUESTS_PER_S`)": default("requests_per_s"),
    "body of a request (`VLGLAB_MAX_BODY_BYTES`)": mib(default("max_body_bytes")),
    "requests that are worked on at once": THREADS,
    "streams of events of a caller": STREAMS,
    "items of a page": MAX_LIMIT,
    "runs of a plan": longest(RunListRequest, "runs"),
    "tags of a run": longest(RunRequest, "tags"),
    "characters of notes": longest(RunRequest, "notes"),
    "runs side by side (`runs compare`)": comparisons.MOST,
    "bytes of a log a call": mib(LOG_BYTES),
    "points of metrics a call, logged": MAX_POINTS_A_CALL,
    "points of metrics a call, read": metrics.MAX_POINTS,
    "buckets of a chart, a metric": charts.MAX_BUCKETS,
    "seconds of a run's lease (`VLGLAB_LEASE_S`)": most("lease_s"),
    "seconds that a run's process may take to report itself": START_S,
    "attempts at a run whose workers are lost (`VLGLAB_MAX_ATTEMPTS`)": default("max_attempts"),
    "tries to tell a webhook (`VLGLAB_WEBHOOK_TRIES`)": default("webhook_tries"),
    "days that an Idempotency-Key is remembered": KEPT.days,
}
"""What the table lists -> what the code says."""


def test_the_table_of_limits_is_the_code_s() -> None:
    (section,) = re.findall(r"(?ms)^## Limits$(.*?)^## ", PAGE.read_text(encoding="utf-8"))
    rows = dict(re.findall(r"(?m)^\| (.+?) \| (.+?) \| .+ \|$", section))
    assert rows.pop("what") == "at most"
    assert rows == {what: limit if isinstance(limit, str) else f"{limit:,g}" for what, limit in LIMITS.items()}

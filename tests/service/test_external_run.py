"""`Client.external_run`: what it sends and when, and how it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service import examples
from service.client import Client
from storage import errors
from tests.fixtures.waiting import wait_until
from tests.service.fake_api import FakeApi, refusal

RUN = {**examples.RUN, "id": "r1", "stage": "external", "attempt": 1}
HELD = {**examples.HELD, "run_id": "r1"}


def fake(**answers: Any) -> FakeApi:
    calls = {"metrics": HELD, "beat": HELD, "finish": {**RUN, "state": "succeeded"}, **answers}
    paths = {("POST", f"/api/v1/runs/r1/{call}"): answer for call, answer in calls.items()}
    return FakeApi({("POST", "/api/v1/runs"): httpx.Response(201, json=RUN), **paths})


def sent(api: FakeApi, call: str) -> list[Any]:
    return [body for request, body in zip(api.requests, api.bodies(), strict=True) if request.url.path.endswith(call)]


def points(api: FakeApi) -> list[tuple[str, int, float | None]]:
    return [(p["name"], p["step"], p.get("value")) for body in sent(api, "/metrics") for p in body["points"]]


def test_metrics_go_in_batches_and_the_end_after_them() -> None:
    api = fake()
    with api.client() as client, client.external_run("mine", {"rate": 0.1}, tags=["a"], lease_s=600) as run:
        assert run.id == "r1"
        for step in range(2500):
            run.log({"loss": step / 7}, step)
    assert api.bodies()[0] == {
        "name": "mine",
        "spec": {"stage": "external", "parameters": {"rate": 0.1}},
        "tags": ["a"],
        "notes": "",
        "lease_s": 600,
    }
    assert "Idempotency-Key" in api.requests[0].headers
    batches = [len(body["points"]) for body in sent(api, "/metrics")]
    assert sum(batches) == 2500 and len(batches) <= 5
    assert points(api) == [("loss", step, step / 7) for step in range(2500)]
    assert api.requests[-1].url.path.endswith("/finish")
    assert sent(api, "/finish") == [{"attempt": 1, "state": "succeeded", "reason": None}]


def test_steps_count_on_by_themselves_and_what_is_not_finite_is_null() -> None:
    api = fake()
    with api.client() as client, client.external_run("mine") as run:
        run.log({"loss": 1.0, "lr": float("nan")})
        run.log({"loss": 2.0})
        run.log({"loss": 3.0}, 10)
        run.log({"loss": 4.0})
    assert points(api) == [
        ("loss", 0, 1.0), ("lr", 0, None), ("loss", 1, 2.0), ("loss", 10, 3.0), ("loss", 11, 4.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("raised", "state"), [(ZeroDivisionError("by zero"), "failed"), (KeyboardInterrupt(), "cancelled")]
)
def test_what_is_raised_ends_the_run(raised: BaseException, state: str) -> None:
    api = fake()

    def train(client: Client) -> None:
        with client.external_run("mine") as run:
            run.log({"loss": 1.0})
            raise raised

    with api.client() as client, pytest.raises(type(raised)):
        train(client)
    (end,) = sent(api, "/finish")
    assert end["state"] == state and end["reason"].startswith(type(raised).__name__)
    assert points(api) == [("loss", 0, 1.0)]


def test_a_cancelled_run_stops_its_trainer_and_is_not_ended_again() -> None:
    api = fake(metrics=refusal(409, "cancelled", "the run r1 was cancelled"))

    def train(client: Client) -> None:
        with client.external_run("mine", lease_s=1) as run:
            run.log({"loss": 1.0})
            wait_until(lambda: bool(sent(api, "/metrics")), 20)
            while True:
                run.log({"loss": 1.0})

    with api.client() as client, pytest.raises(errors.RunCancelled):
        train(client)
    assert sent(api, "/finish") == []


def test_points_are_kept_while_the_service_is_away() -> None:
    back = threading.Event()

    def answer(_: httpx.Request) -> httpx.Response:
        if not back.is_set():
            raise httpx.ConnectError("away")
        return httpx.Response(200, json=HELD)

    api = fake(metrics=answer)
    with api.client() as client, client.external_run("mine") as run:
        run.log({"loss": 1.0})
        run.flush()
        run.log({"loss": 2.0})
        run.flush()
        back.set()
    kept: Callable[[Any], list[float]] = lambda body: [p["value"] for p in body["points"]]  # noqa: E731
    assert kept(sent(api, "/metrics")[-1]) == [1.0, 2.0]


def test_a_silent_trainer_beats_with_its_progress() -> None:
    api = fake()
    with api.client() as client, client.external_run("mine", lease_s=1) as run:
        run.progress(3, 40, "epoch")
        wait_until(lambda: len(sent(api, "/beat")) >= 2, 20)
    first = sent(api, "/beat")[0]
    assert (first["progress"]["done"], first["progress"]["total"], first["progress"]["unit"]) == (3, 40, "epoch")

"""Waiting for a run or an experiment to end: what is called, what is raised, and how patient it is."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from service import examples, schemas
from service.client import NEVER, Client
from service.waiting import FINAL
from storage import errors
from storage.records import states
from tests.service.fake_api import FakeApi

RUN = schemas.Run.model_validate({**examples.RUN, "id": "r1"})
EXPERIMENT = schemas.Experiment.model_validate({**examples.EXPERIMENT, "id": "e1"})


def answers(*documents: dict[str, Any]) -> list[httpx.Response]:
    return [httpx.Response(200, json=document) for document in documents]


def run(state: str, **changes: Any) -> dict[str, Any]:
    return {**examples.RUN, "id": "r1", "state": state, **changes}


def test_the_final_states_are_those_of_the_records() -> None:
    assert states.FINAL == FINAL


@pytest.mark.parametrize("end", sorted(FINAL))
def test_a_run_is_waited_for_until_it_has_ended_and_each_change_is_told(end: str) -> None:
    steps = answers(run("queued"), run("queued"), run("running"), run(end))
    api, told = FakeApi({("GET", "/api/v1/runs/r1"): steps}), list[str]()
    with api.client() as client:
        found = client.wait(RUN, progress=lambda seen: told.append(seen.state), poll_s=0)
    assert found.state == end
    assert told == ["queued", "running", end]


def test_an_experiment_has_ended_when_each_of_its_runs_has() -> None:
    def detail(*ends: str) -> dict[str, Any]:
        return {**examples.EXPERIMENT, "id": "e1", "state": "failed", "runs": [run(state) for state in ends]}

    steps = answers(detail("failed", "running"), detail("failed", "succeeded"))
    api, told = FakeApi({("GET", "/api/v1/experiments/e1"): steps}), list[list[str]]()
    with api.client() as client:
        found = client.wait(EXPERIMENT, progress=lambda seen: told.append([one.state for one in seen.runs]), poll_s=0)
    assert [one.state for one in found.runs] == ["failed", "succeeded"]
    assert told == [["failed", "running"], ["failed", "succeeded"]]


def test_what_does_not_end_in_time_is_an_error_that_says_how_it_stands() -> None:
    api = FakeApi({("GET", "/api/v1/runs/r1"): run("running")})
    with api.client() as client, pytest.raises(errors.WaitedTooLong, match="0.05 s and goes on") as caught:
        client.wait(RUN, timeout_s=0.05, poll_s=0.01)
    assert isinstance(caught.value, TimeoutError)
    assert len(api.requests) > 1


def test_a_short_absence_of_the_service_is_forgiven_and_a_wrong_id_is_not() -> None:
    page = httpx.Response(502, text="a proxy")
    steps = [*answers(run("running")), page, *answers(run("succeeded"))]
    api = FakeApi({("GET", "/api/v1/runs/r1"): steps})
    with Client("http://lab.test", transport=httpx.MockTransport(api._answer), retries=NEVER) as client:
        assert client.wait(RUN, poll_s=0).state == "succeeded"
    with FakeApi({}).client() as client, pytest.raises(errors.NotFound):
        client.wait(RUN)

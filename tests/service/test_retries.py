"""A client against a service that drops, stalls and refuses: what is sent again, what is not, and with which key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from service import examples, schemas
from service.client import NEVER, Client, Retries
from service.retrying import PASSING, retry_after_s
from storage import errors
from tests.fixtures.canned_service import Canned, canned

RUN, EXPERIMENT = "/api/v1/runs/r1", "/api/v1/experiments"
DETAIL = {**examples.EXPERIMENT, "runs": [examples.RUN]}
PROBLEM = {**examples.PROBLEM, "status": 429, "code": "too_many_requests", "detail": "got too many"}
ASKED = schemas.ExperimentRequest(recipe="3dss-vlg", dataset="offices")
QUICK = Retries(first_s=0.01)
DROP, STALL = {"drop": True}, {"stall": True}
REFUSED = {"status": 429, "headers": {"Retry-After": "0"}, "body": PROBLEM}
Start = Callable[[dict[str, Any]], Canned]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a canned service; it is ended with the test."""
    with ExitStack() as stack:
        yield lambda answers: stack.enter_context(canned(tmp_path, answers))


def away(status: int) -> dict[str, Any]:
    return {"status": status, "body": "<html>the proxy found nobody</html>"}


@pytest.mark.parametrize(
    "faults",
    [[DROP], [DROP, DROP, DROP, DROP], [STALL], [REFUSED, REFUSED], [away(502), away(503), away(504), DROP]],
    ids=["dropped", "dropped four times", "stalled", "asked too often", "behind a proxy"],
)
def test_reading_is_tried_again_until_it_works(start: Start, faults: list[Any]) -> None:
    service = start({f"GET {RUN}": {"steps": [*faults, {"body": examples.RUN}]}})
    with Client(service.url, timeout_s=0.5, retries=QUICK) as client:
        assert client.run("r1").id == examples.RUN["id"]
    assert len(service.asked()) == len(faults) + 1


def test_a_fault_that_does_not_pass_is_raised_when_the_tries_are_used_up(start: Start) -> None:
    service = start({f"GET {RUN}": {"steps": [DROP]}, "GET /api/v1/runs/r2": {"steps": [REFUSED]}})
    with Client(service.url, retries=Retries(times=2, first_s=0.01)) as client:
        with pytest.raises(errors.ServiceUnreachable):
            client.run("r1")
        assert len(service.asked()) == 3
        with pytest.raises(errors.InvalidInput, match="got too many") as caught:
            client.run("r2")
        assert caught.value.code == "too_many_requests"
        assert len(service.asked()) == 6


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 500])
def test_what_another_try_would_not_change_is_not_tried_again(start: Start, status: int) -> None:
    assert status not in PASSING
    service = start({f"GET {RUN}": {"steps": [{"status": status, "body": {**PROBLEM, "status": status}}]}})
    with Client(service.url, retries=QUICK) as client, pytest.raises(errors.VlglabError):
        client.run("r1")
    assert len(service.asked()) == 1


def test_a_submission_is_sent_again_under_the_key_of_the_first_try(start: Start) -> None:
    made = {"status": 201, "body": DETAIL}
    service = start({f"POST {EXPERIMENT}": {"steps": [DROP, {**made, "half": True}, away(502), REFUSED, made]}})
    with Client(service.url, timeout_s=5, retries=QUICK) as client:
        assert client.submit(ASKED).id == examples.EXPERIMENT["id"]
        first = {request["headers"]["idempotency-key"] for request in service.asked()}
        assert len(service.asked()) == 5
        assert len(first) == 1
        assert len({request["body"] for request in service.asked()}) == 1
        client.submit(ASKED)
        assert service.asked()[-1]["headers"]["idempotency-key"] not in first, "a new call is a new submission"
        client.submit(ASKED, idempotency_key="mine")
        assert service.asked()[-1]["headers"]["idempotency-key"] == "mine"


def test_a_single_run_is_submitted_under_a_key_too(start: Start) -> None:
    service = start({"POST /api/v1/runs": {"steps": [DROP, {"status": 201, "body": examples.RUN}]}})
    with Client(service.url, retries=QUICK) as client:
        made = client.submit_run(schemas.RunRequest(spec={"stage": "embed_labels", "label_set": "s3dis13"}))
    assert made.id == examples.RUN["id"]
    keys = [request["headers"]["idempotency-key"] for request in service.asked()]
    assert len(keys) == 2
    assert len(set(keys)) == 1


@pytest.mark.parametrize("fault", [DROP, REFUSED, away(503)], ids=["dropped", "asked too often", "away"])
def test_what_may_have_been_done_is_not_sent_twice(start: Start, fault: dict[str, Any]) -> None:
    service = start({f"POST {RUN}/cancel": {"steps": [fault, {"body": examples.RUN}]}})
    with Client(service.url, retries=QUICK) as client, pytest.raises(errors.VlglabError):
        client.cancel_run("r1")
    assert len(service.asked()) == 1


def test_a_client_may_be_told_to_try_once(start: Start) -> None:
    service = start({f"GET {RUN}": {"steps": [DROP, {"body": examples.RUN}]}})
    with Client(service.url, retries=NEVER) as client, pytest.raises(errors.ServiceUnreachable):
        client.run("r1")
    assert len(service.asked()) == 1


def test_a_page_that_is_lost_is_asked_for_again_and_no_other(start: Start) -> None:
    page = {"items": [examples.RUN], "next": "c2"}
    last = {"items": [{**examples.RUN, "id": "r0"}], "next": None}
    service = start({"GET /api/v1/runs": {"steps": [{"body": page}, DROP, REFUSED, {"body": last}]}})
    with Client(service.url, retries=QUICK) as client:
        assert [run.id for run in client.runs()] == [examples.RUN["id"], "r0"]
    assert [request["path"].partition("?")[2] for request in service.asked()] == ["", *["cursor=c2"] * 3]


def test_all_events_of_a_run_come_page_by_page(start: Start) -> None:
    events = [{**examples.EVENT, "id": number} for number in (3, 4, 9)]
    pages = [{"items": events[:2], "next": "4"}, {"items": events[2:], "next": "9"}, {"items": [], "next": "9"}]
    service = start({f"GET {RUN}/events": {"steps": [{"body": page} for page in pages]}})
    with Client(service.url) as client:
        assert [event.id for event in client.events("r1", cursor="2")] == [3, 4, 9]
    assert [request["path"].partition("cursor=")[2] for request in service.asked()] == ["2", "4", "9"]


def test_events_go_on_after_the_last_one_that_came_whole(start: Start) -> None:
    first, second = ({**examples.EVENT, "id": number} for number in (7, 8))
    texts = [f"id: {e['id']}\nevent: state\ndata: {schemas.Event(**e).model_dump_json()}\n\n" for e in (first, second)]
    end = {"status": 200, "body": "id: 8\nevent: end\ndata: {}\n\n"}
    broken = {"body": texts[0] + texts[1][:-4] + " " * 2 * len(texts[0]), "half": True}
    service = start({"GET /api/v1/events/stream": {"steps": [broken, REFUSED, {"body": texts[1]}, STALL, end]}})
    with Client(service.url, timeout_s=0.5) as client:
        assert [event.id for event in client.follow_events(run="r1")] == [7, 8]
    assert [request["headers"]["last-event-id"] for request in service.asked()] == ["0", "7", "7", "8", "8"]


def test_a_download_that_breaks_off_is_fetched_again_whole(start: Start, tmp_path: Path) -> None:
    content = "x" * 100_000
    service = start(
        {"GET /api/v1/artifacts/k/files/a.txt": {"steps": [{"body": content, "half": True}, {"body": content}]}}
    )
    with Client(service.url, retries=QUICK) as client:
        assert client.download("k", "a.txt", tmp_path / "a.txt").read_text() == content
    assert sorted(path.name for path in tmp_path.iterdir() if "answers" not in path.name) == ["a.txt"]


def test_pauses_grow_are_drawn_and_give_way_to_the_service() -> None:
    retries = Retries(times=6, first_s=0.5, longest_s=4.0, patience_s=30.0)
    for number, whole in enumerate((0.5, 1, 2, 4, 4, 4)):
        drawn = [retries.pause_s(number, 0.0) for _ in range(200)]
        assert all(pause is not None and whole / 2 <= pause <= whole for pause in drawn)
        assert len(set(drawn)) > 100
    assert retries.pause_s(6, 0.0) is None
    assert retries.pause_s(0, 29.9) is None, "the last try begins within the patience"
    asked = retries.pause_s(0, 0.0, asked_s=12.0)
    assert asked is not None and 12.25 <= asked <= 12.5
    assert retries.pause_s(0, 0.0, asked_s=31.0) is None


def test_a_long_retry_after_is_an_error_at_once(start: Start) -> None:
    service = start({f"GET {RUN}": {"steps": [{**REFUSED, "headers": {"Retry-After": "3600"}}]}})
    with Client(service.url) as client, pytest.raises(errors.InvalidInput, match="got too many"):
        client.run("r1")
    assert len(service.asked()) == 1


@pytest.mark.parametrize("header", ["", "-1", "1.5", "soon", "\u0661", "Wed, 99 Foo 2015 07:28:00 GMT"])
def test_a_retry_after_that_says_nothing_is_none(header: str) -> None:
    assert retry_after_s(header) is None

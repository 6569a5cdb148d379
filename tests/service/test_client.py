"""The client: paths and bodies it sends, pages it follows, errors it raises."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service import examples, schemas
from service.client import Client
from service.connection import problem
from storage import errors
from tests.service.fake_api import FakeApi, refusal


def every_error(kind: type[errors.VlglabError] = errors.VlglabError) -> list[type[errors.VlglabError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in every_error(child))]


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_an_answer_with_a_code_is_raised_as_the_error_of_that_code(kind: type[errors.VlglabError]) -> None:
    api = FakeApi({("GET", "/api/v1/runs/r1"): refusal(kind.status, kind.code, "got x, expected y")})
    with api.client() as client, pytest.raises(errors.VlglabError) as caught:
        client.run("r1")
    assert type(caught.value) is kind
    assert caught.value.message == "got x, expected y"


def test_codes_that_the_tree_does_not_have_keep_their_name_and_get_a_fitting_class() -> None:
    error = problem(httpx.Response(422, json={"code": "request_invalid", "detail": "seed: too small"}))
    assert isinstance(error, errors.InvalidInput)
    assert error.code == "request_invalid"
    assert errors.InvalidInput.code == "invalid_input", "the class keeps its own code"


@pytest.mark.parametrize("body", [b"<html>proxy</html>", b"[]", b'{"error": "x"}'])
def test_an_error_that_is_not_vlglabs_says_so(body: bytes) -> None:
    response = httpx.Response(502, content=body, request=httpx.Request("GET", "http://lab.test/healthz"))
    error = problem(response)
    assert isinstance(error, errors.ServiceUnreachable)
    assert "502" in error.message


def test_an_answer_of_another_shape_is_refused() -> None:
    api = FakeApi({("GET", "/api/v1/runs/r1"): {"id": "r1"}})
    with api.client() as client, pytest.raises(errors.ServiceUnreachable, match="no Run"):
        client.run("r1")


def test_nobody_listening_is_unreachable_with_a_hint() -> None:
    with Client("http://127.0.0.1:9", timeout_s=2) as client, pytest.raises(errors.ServiceUnreachable) as caught:
        client.health()
    assert "vlglab serve" in caught.value.message
    assert "VLGLAB_URL" in caught.value.message


def test_lists_are_followed_page_by_page_and_no_further_than_needed() -> None:
    run = examples.RUN
    pages = {
        None: {"items": [{**run, "id": "r3"}, {**run, "id": "r2"}], "next": "r2"},
        "r2": {"items": [{**run, "id": "r1"}], "next": None},
    }
    api = FakeApi({("GET", "/api/v1/runs"): lambda request: pages[request.url.params.get("cursor")]})
    with api.client() as client:
        runs = client.runs(state="running")
        assert next(runs).id == "r3"
        assert len(api.requests) == 1
        assert [run.id for run in runs] == ["r2", "r1"]
    assert [dict(request.url.params) for request in api.requests] == [
        {"state": "running"},
        {"state": "running", "cursor": "r2"},
    ]


def test_a_dataset_is_asked_for_by_name_whatever_the_name() -> None:
    api = FakeApi({("GET", "/api/v1/datasets/offices"): examples.DATASET})
    with api.client() as client:
        assert client.dataset("offices").label_set == examples.DATASET["label_set"]
        for name in ("offices?", "offices#x", "a/offices"):
            with pytest.raises(errors.NotFound):
                client.dataset(name)


def test_an_experiment_is_sent_as_the_api_takes_it() -> None:
    api = FakeApi({("POST", "/api/v1/experiments"): {**examples.EXPERIMENT, "runs": [examples.RUN]}})
    with api.client() as client:
        made = client.submit(schemas.ExperimentRequest(recipe="3dss-vlg", dataset="offices", preset="demo", seed=7))
    assert api.bodies() == [{"recipe": "3dss-vlg", "dataset": "offices", "preset": "demo", "seed": 7}]
    assert made.runs[0].progress is not None


def test_what_a_run_does_not_say_is_left_to_its_plan() -> None:
    api = FakeApi({("POST", "/api/v1/experiments"): {**examples.EXPERIMENT, "runs": [examples.RUN]}})
    run = schemas.RunRequest(spec={"stage": "embed_labels"}, tags=["a"])
    with api.client() as client:
        client.submit(schemas.RunListRequest(name="x", runs=[run], priority=7))
    assert api.bodies() == [{"name": "x", "runs": [{"spec": {"stage": "embed_labels"}, "tags": ["a"]}], "priority": 7}]


def test_logs_go_on_from_where_the_service_says() -> None:
    log = "épochs\n"
    answer = httpx.Response(200, text=log, headers={"X-Next-Offset": str(len(log.encode()))})
    api = FakeApi({("GET", "/api/v1/runs/r1/logs"): answer})
    with api.client() as client:
        assert client.logs("r1", attempt=2, offset=3) == (log, 8)
    assert dict(api.requests[0].url.params) == {"attempt": "2", "offset": "3"}


def test_a_download_is_whole_or_not_there(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    api = FakeApi({("GET", "/api/v1/artifacts/k/files/a.png"): httpx.Response(200, content=content)})
    with api.client() as client:
        assert client.download("k", "a.png", tmp_path / "a.png").read_bytes() == content
        with pytest.raises(errors.NotFound):
            client.download("k", "b.png", tmp_path / "b.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.fixture
def broken_service() -> Iterator[str]:
    """A server that promises more bytes than it sends."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"x" * 1000)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_download_that_breaks_off_leaves_nothing_behind(broken_service: str, tmp_path: Path) -> None:
    with Client(broken_service) as client, pytest.raises(errors.ServiceUnreachable):
        client.download("k", "a.png", tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["http://[::1", "ftp://x", "lab:8765", ""])
def test_addresses_that_are_none_are_refused(url: str) -> None:
    with pytest.raises(errors.VlglabError), Client(url) as client:
        client.health()

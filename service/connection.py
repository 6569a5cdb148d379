"""One connection to a vlglab service: how requests are sent, and answers and errors read. Knows no route's meaning."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.client import NO_CONTENT
from typing import TYPE_CHECKING, Self, TypeVar

from pydantic import BaseModel, ValidationError

from service import schemas
from service.retrying import PASSING, USUAL, Retries, is_safe, retry_after_s
from storage import errors
from storage.settings import is_loopback

if TYPE_CHECKING:
    import httpx  # loaded when a connection is made: `vlglab serve` makes none, and shall answer soon

DEFAULT_URL = "http://127.0.0.1:8765"
"""Where `vlglab serve` listens unless told otherwise."""

API = "/api/v1"
KEY_HEADER = "Idempotency-Key"
_BY_STATUS = {422: errors.InvalidInput, 404: errors.NotFound, 409: errors.Conflict}
"""What an error is raised as whose code the tree does not have."""
_Model = TypeVar("_Model", bound=BaseModel)
_Item = TypeVar("_Item", bound=BaseModel)


class Connection:
    """Sends requests to one service. Close it, or use it as a context manager.

    Every call raises the error of `storage.errors` whose code the service's problem+json names (`UnknownName`,
    `NotFound`, `IllegalMove`, ...), or `ServiceUnreachable` where nothing that is vlglab answers.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        token: str | None = None,
        transport: httpx.BaseTransport | None = None,
        timeout_s: float = 30.0,
        connect_timeout_s: float = 5.0,
        retries: Retries = USUAL,
    ) -> None:
        """A connection to the service at `url`.

        Args:
            url: scheme, host and port, such as http://127.0.0.1:8765.
            token: secret of an access token; None shows none, as a service on this machine asks for none.
            transport: what carries the requests; None opens connections. Tests pass `httpx.MockTransport`.
            timeout_s: seconds that any one step of a request may take, such as the wait for the next bytes.
            connect_timeout_s: seconds that making a connection may take.
            retries: how often, and when, a safe call is sent again after a fault that passes.
        """
        import httpx

        self.url = url.rstrip("/")
        self.retries = retries
        self._faults = (httpx.TransportError, httpx.InvalidURL)
        self._passing_faults = (httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError)
        try:
            self._http = httpx.Client(
                base_url=self.url,
                transport=transport,
                timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, connect_timeout_s)),
                trust_env=not is_loopback(httpx.URL(self.url).host),  # no proxy stands between
                headers={"Accept": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})},
            )
        except httpx.InvalidURL as error:
            raise errors.InvalidInput(f"got the service's address {url!r}, expected one like {DEFAULT_URL}") from error

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes its connections."""
        self.close()

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

    def _get(
        self,
        path: str,
        model: type[_Model],
        params: Mapping[str, str | list[str] | None] | None = None,
        *,
        prefix: str = API,
    ) -> _Model:
        return parsed(self._send("GET", prefix + path, params=params), model)

    def _post(
        self,
        path: str,
        model: type[_Model],
        body: BaseModel | None = None,
        *,
        idempotency_key: str | None = None,
        repeatable: bool = False,
        params: Mapping[str, str | None] | None = None,
    ) -> _Model:
        document = None if body is None else body.model_dump(mode="json", exclude_unset=True)
        headers = None if idempotency_key is None else {KEY_HEADER: idempotency_key}
        answer = self._send("POST", API + path, params=params, json=document, headers=headers, repeatable=repeatable)
        return parsed(answer, model)

    def _delete(self, path: str, model: type[_Model], params: Mapping[str, str | None] | None = None) -> _Model:
        return parsed(self._send("DELETE", API + path, params=params), model)

    def _pages(
        self, path: str, model: type[schemas.Page[_Item]], params: Mapping[str, str | list[str] | None] | None = None
    ) -> Iterator[_Item]:
        """The items of a list, page by page; a page is asked for when the one before is used up."""
        cursor: str | None = None
        while True:
            page = self._get(path, model, {**(params or {}), "cursor": cursor})
            yield from page.items
            cursor = page.next
            if cursor is None:
                return

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int | list[str] | None] | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = False,
    ) -> httpx.Response:
        """The response to a request; one that says it failed is raised as the error that it names.

        `repeatable`: sent twice, it does what it does once, though its method does not say so.
        """
        given = {name: value for name, value in (params or {}).items() if value is not None}
        response = self._answer(
            lambda: self._http.request(method, path, params=given, json=json, headers=headers),
            safe=repeatable or is_safe(method, has_key=KEY_HEADER in (headers or {})),
        )
        if response.is_error:
            raise problem(response)
        return response

    def _answer(self, ask: Callable[[], httpx.Response], *, safe: bool) -> httpx.Response:
        """The response that `ask` gets; a safe request is sent again while its faults are of the kind that passes."""
        began = time.monotonic()
        for number in itertools.count():
            try:
                with self._translated():
                    response = ask()
            except errors.ServiceUnreachable as error:
                passes = isinstance(error.__cause__, self._passing_faults)
                pause_s = self.retries.pause_s(number, time.monotonic() - began)
                if not (safe and passes) or pause_s is None:
                    raise
            else:
                if not safe or response.status_code not in PASSING:
                    return response
                asked_s = retry_after_s(response.headers.get("Retry-After"))
                pause_s = self.retries.pause_s(number, time.monotonic() - began, asked_s)
                if pause_s is None:
                    return response
            time.sleep(pause_s)
        raise AssertionError("counting has no end")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turns faults of the connection into ServiceUnreachable."""
        try:
            yield
        except self._faults as error:
            raise errors.ServiceUnreachable(
                f"nothing answers at {self.url} ({str(error) or type(error).__name__}); "
                "start the service with `vlglab serve`, or name its address with --url or VLGLAB_URL"
            ) from error

    def _stream(
        self, run: str | None, experiment: str | None, cursor: int
    ) -> Iterator[tuple[str, schemas.Event | None]]:
        """Kind and content of what one connection brings, until it is lost; ("", None) for a sign of life."""
        given = {name: value for name, value in (("run", run), ("experiment", experiment)) if value is not None}
        headers = {"Last-Event-ID": str(cursor), "Accept": "text/event-stream"}
        with (
            self._translated(),
            self._http.stream("GET", f"{API}/events/stream", params=given, headers=headers) as response,
        ):
            if response.is_error:
                response.read()
                raise problem(response)
            if response.status_code == NO_CONTENT:
                yield "end", None
                return
            kind, data = "", ""
            for line in _lines(response.iter_text()):
                name, _, value = line.partition(": ")
                if name == "event":
                    kind = value
                elif name == "data":
                    data = value
                elif not line:
                    known = kind in ("state", "note")
                    yield kind, schemas.Event.model_validate_json(data) if known else None
                    kind, data = "", ""


def _lines(chunks: Iterable[str]) -> Iterator[str]:
    """Lines that end in a line feed, and in nothing else that Unicode knows: JSON may hold the others."""
    rest = ""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split("\n")
        yield from whole


def new_key() -> str:
    """An Idempotency-Key that nobody has used."""
    return uuid.uuid4().hex


def problem(response: httpx.Response) -> errors.VlglabError:
    """The error that a response with problem+json names; `ServiceUnreachable` where it is not vlglab that answered."""
    try:
        document = response.json()
        code, detail = str(document["code"]), str(document.get("detail") or document.get("title"))
    except (ValueError, KeyError, TypeError):
        return errors.ServiceUnreachable(
            f"{response.request.url} answered {response.status_code} without saying why; is it vlglab that answers?"
        )
    known = {kind.code: kind for kind in _tree(errors.VlglabError)}
    scene = document.get("scene")
    if code in known:
        return known[code](detail, scene=scene)
    error = _BY_STATUS.get(response.status_code, errors.VlglabError)(detail, scene=scene)
    error.code, error.status = code, response.status_code
    return error


def parsed(response: httpx.Response, model: type[_Model]) -> _Model:
    """The body of a response as a model."""
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        raise errors.ServiceUnreachable(
            f"{response.request.url} answered something that is no {model.__name__}; is it a vlglab of this version? "
            f"({error.error_count()} fields differ)"
        ) from error


def _tree(root: type[errors.VlglabError]) -> Iterator[type[errors.VlglabError]]:
    """A class and all below it."""
    yield root
    for kind in root.__subclasses__():
        yield from _tree(kind)

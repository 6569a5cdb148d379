"""The service's HTTP API as typed calls: what the command line, the demo and anybody's scripts speak through.

Knows the API's paths and its problem+json, nothing of the database, the store or the workers.

Examples:
    >>> client = Client("http://127.0.0.1:8765")  # opens no connection yet
    >>> client.url
    'http://127.0.0.1:8765'
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from service import schemas
from storage import errors

if TYPE_CHECKING:
    import httpx  # loaded when a client is made: `vlglab serve` makes none, and shall answer soon

DEFAULT_URL = "http://127.0.0.1:8765"
"""Where `vlglab serve` listens unless told otherwise."""

_API = "/api/v1"
_RECONNECT_S = 0.5
"""Seconds before a stream of events that was lost is asked for again."""
_BY_STATUS = {422: errors.InvalidInput, 404: errors.NotFound, 409: errors.Conflict}
"""What an error is raised as whose code the tree does not have."""
_Model = TypeVar("_Model", bound=BaseModel)
_Item = TypeVar("_Item", bound=BaseModel)


class Client:
    """A connection to one vlglab service. Close it, or use it as a context manager.

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
    ) -> None:
        """A client of the service at `url`.

        Args:
            url: scheme, host and port, such as http://127.0.0.1:8765.
            token: secret of an access token; None shows none, as a service on this machine asks for none.
            transport: what carries the requests; None opens connections. Tests pass `httpx.MockTransport`.
            timeout_s: seconds that any one step of a request may take.
        """
        import httpx

        self.url = url.rstrip("/")
        self._faults = (httpx.TransportError, httpx.InvalidURL)
        try:
            self._http = httpx.Client(
                base_url=self.url,
                transport=transport,
                timeout=timeout_s,
                trust_env=not _is_loopback(httpx.URL(self.url).host),
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

    # -- the service itself

    def health(self) -> schemas.Health:
        """Whether the service is up, and what it says of itself."""
        return self._get("/healthz", schemas.Health, prefix="")

    def version(self) -> schemas.Version:
        """Version, commit and API of the service."""
        return self._get("/version", schemas.Version)

    def hosts(self) -> Sequence[schemas.Host]:
        """Worker hosts, with what their processes take together."""
        return self._get("/hosts", schemas.HostPage).items

    def recipes(self) -> Sequence[schemas.Recipe]:
        """Recipes that experiments can be made from."""
        return self._get("/recipes", schemas.RecipePage).items

    # -- access

    def whoami(self) -> schemas.WhoAmI:
        """Whose token this client shows, and its role."""
        return self._get("/whoami", schemas.WhoAmI)

    def create_token(self, body: schemas.TokenRequest) -> schemas.NewToken:
        """Makes a token; its secret is in the answer and nowhere else.

        Raises:
            NotPermitted: the client's own token is no admin's.
        """
        return self._post("/tokens", schemas.NewToken, body)

    def tokens(self) -> Sequence[schemas.Token]:
        """Every token, newest first, without secrets."""
        return self._get("/tokens", schemas.TokenPage).items

    def revoke_token(self, token_id: str) -> schemas.Token:
        """Makes a token useless.

        Raises:
            NotFound: there is none of that id.
        """
        return self._post(f"/tokens/{quote(token_id, safe='')}/revoke", schemas.Token)

    # -- datasets and features

    def datasets(self) -> Iterator[schemas.Dataset]:
        """Registered datasets."""
        return self._pages("/datasets", schemas.DatasetPage)

    def dataset(self, name: str) -> schemas.Dataset:
        """One registered dataset.

        Raises:
            NotFound: there is none of that name; lists the nearest.
        """
        return self._get(f"/datasets/{quote(name, safe='')}", schemas.Dataset)

    def add_dataset(self, body: schemas.DatasetRequest) -> schemas.Dataset:
        """Registers a dataset.

        Raises:
            NameTaken: the name is in use.
            PathNotAllowed: the path lies outside the roots that the service allows.
            DatasetInvalid: the path is missing or empty.
        """
        return self._post("/datasets", schemas.Dataset, body)

    def features(self) -> Iterator[schemas.Feature]:
        """Published embeddings that training code can read."""
        return self._pages("/features", schemas.FeaturePage)

    # -- experiments

    def submit(self, body: schemas.ExperimentRequest | schemas.RunListRequest) -> schemas.ExperimentDetail:
        """Submits an experiment: its runs are queued when this returns.

        Raises:
            UnknownName: no such recipe, preset or dataset.
            SpecInvalid: an override names a field that does not exist, or a value out of range.
        """
        return self._post("/experiments", schemas.ExperimentDetail, body)

    def experiment(self, experiment_id: str) -> schemas.ExperimentDetail:
        """One experiment.

        Raises:
            NotFound: there is none of that id.
        """
        return self._get(f"/experiments/{experiment_id}", schemas.ExperimentDetail)

    def experiments(self) -> Iterator[schemas.Experiment]:
        """Experiments, newest first."""
        return self._pages("/experiments", schemas.ExperimentPage)

    def cancel_experiment(self, experiment_id: str) -> schemas.Experiment:
        """Asks every run of an experiment that has not ended to stop."""
        return self._post(f"/experiments/{experiment_id}/cancel", schemas.Experiment)

    def experiment_evaluations(self, experiment_id: str) -> Sequence[schemas.Evaluation]:
        """What an experiment's predictions scored."""
        return self._get(f"/experiments/{experiment_id}/evaluations", schemas.EvaluationPage).items

    # -- runs

    def run(self, run_id: str) -> schemas.Run:
        """One run.

        Raises:
            NotFound: there is none of that id.
        """
        return self._get(f"/runs/{run_id}", schemas.Run)

    def runs(
        self,
        *,
        state: str | None = None,
        stage: str | None = None,
        experiment: str | None = None,
        dataset: str | None = None,
    ) -> Iterator[schemas.Run]:
        """Runs, newest first; each argument that is given narrows the list."""
        wanted = {"state": state, "stage": stage, "experiment": experiment, "dataset": dataset}
        return self._pages("/runs", schemas.RunPage, wanted)

    def cancel_run(self, run_id: str) -> schemas.Run:
        """Asks a run to stop.

        Raises:
            IllegalMove: it has ended already.
        """
        return self._post(f"/runs/{run_id}/cancel", schemas.Run)

    def logs(self, run_id: str, *, attempt: int | None = None, offset: int = 0) -> tuple[str, int]:
        """A run's log from byte `offset` on, and the offset to ask from next; attempt None is the last one."""
        response = self._send("GET", f"{_API}/runs/{run_id}/logs", params={"attempt": attempt, "offset": offset})
        following = response.headers.get("X-Next-Offset", "")
        return response.text, int(following) if following.isdigit() else offset + len(response.content)

    def metrics(self, run_id: str, name: str | None = None) -> Sequence[schemas.Metric]:
        """The history of a run's metrics by rising step; `name` None gives all of them."""
        return self._get(f"/runs/{run_id}/metrics", schemas.MetricHistory, {"name": name}).items

    def events(self, run_id: str, *, cursor: str = "0") -> Sequence[schemas.Event]:
        """What happened to a run, oldest first, after the reading that `cursor` came from."""
        return self._get(f"/runs/{run_id}/events", schemas.EventPage, {"cursor": cursor}).items

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
        heard = time.monotonic()
        while True:
            try:
                for kind, event in self._stream(run, experiment, cursor):
                    heard = time.monotonic()
                    if kind == "end":
                        return
                    if event is not None:
                        cursor = event.id
                        yield event
            except errors.ServiceUnreachable:
                if time.monotonic() - heard > patience_s:
                    raise
            time.sleep(_RECONNECT_S)

    def _stream(
        self, run: str | None, experiment: str | None, cursor: int
    ) -> Iterator[tuple[str, schemas.Event | None]]:
        """Kind and content of what one connection brings, until it is lost; ("", None) for a sign of life."""
        given = {name: value for name, value in (("run", run), ("experiment", experiment)) if value is not None}
        headers = {"Last-Event-ID": str(cursor), "Accept": "text/event-stream"}
        with (
            self._translated(),
            self._http.stream("GET", f"{_API}/events/stream", params=given, headers=headers) as response,
        ):
            if response.is_error:
                response.read()
                raise problem(response)
            kind, data = "", ""
            for line in response.iter_lines():
                name, _, value = line.partition(": ")
                if name == "event":
                    kind = value
                elif name == "data":
                    data = value
                elif not line:
                    known = kind in ("state", "note")
                    yield kind, schemas.Event.model_validate_json(data) if known else None
                    kind, data = "", ""

    def run_evaluations(self, run_id: str) -> Sequence[schemas.Evaluation]:
        """What the predictions that a run evaluated scored."""
        return self._get(f"/runs/{run_id}/evaluations", schemas.EvaluationPage).items

    def run_files(self, run_id: str) -> Sequence[schemas.File]:
        """The plain files that a run wrote, such as pictures and coloured point clouds."""
        return self._get(f"/runs/{run_id}/files", schemas.FilePage).items

    def download(self, artifact_key: str, name: str, to: Path) -> Path:
        """Fetches one plain file of an artifact and returns `to`, which is complete or untouched.

        Raises:
            NotFound: no such artifact or file.
        """
        partial = to.with_name(f".{to.name}.part")
        url = f"{_API}/artifacts/{artifact_key}/files/{name}"
        try:
            with self._translated(), self._http.stream("GET", url) as response:
                if response.is_error:
                    response.read()
                    raise problem(response)
                with partial.open("wb") as file:
                    for chunk in response.iter_bytes():
                        file.write(chunk)
            return partial.replace(to)
        finally:
            partial.unlink(missing_ok=True)

    def artifact(self, key: str) -> schemas.ArtifactDetail:
        """One published artifact.

        Raises:
            NotFound: none of that key is published.
        """
        return self._get(f"/artifacts/{key}", schemas.ArtifactDetail)

    # -- how a request is sent

    def _get(
        self, path: str, model: type[_Model], params: Mapping[str, str | None] | None = None, *, prefix: str = _API
    ) -> _Model:
        return _parsed(self._send("GET", prefix + path, params=params), model)

    def _post(self, path: str, model: type[_Model], body: BaseModel | None = None) -> _Model:
        document = None if body is None else body.model_dump(mode="json", exclude_none=True)
        return _parsed(self._send("POST", _API + path, json=document), model)

    def _pages(
        self, path: str, model: type[schemas.Page[_Item]], params: Mapping[str, str | None] | None = None
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
        self, method: str, path: str, *, params: Mapping[str, str | int | None] | None = None, json: object = None
    ) -> httpx.Response:
        """The response to a request; one that says it failed is raised as the error that it names."""
        given = {name: value for name, value in (params or {}).items() if value is not None}
        with self._translated():
            response = self._http.request(method, path, params=given, json=json)
        if response.is_error:
            raise problem(response)
        return response

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


def _parsed(response: httpx.Response, model: type[_Model]) -> _Model:
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


def _is_loopback(host: str) -> bool:
    """Whether a host is this machine, so that no proxy stands between."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

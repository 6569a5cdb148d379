"""The service's HTTP API as typed calls: what the command line, the demo and anybody's scripts speak through.

Knows the API's paths and its problem+json, nothing of the database, the store or the workers.

Examples:
    >>> client = Client("http://127.0.0.1:8765")  # opens no connection yet
    >>> client.url
    'http://127.0.0.1:8765'
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from service import schemas
from service.acting import Acting
from service.connection import API, DEFAULT_URL, new_key, problem
from service.feature_reading import FeatureReading
from service.following import Following
from service.keeping import Keeping
from service.retrying import NEVER, Retries
from service.run_reading import RunReading
from service.store_reading import StoreReading
from service.training import Training, given

if TYPE_CHECKING:
    import httpx

__all__ = ["DEFAULT_URL", "NEVER", "Client", "Retries"]


class Client(Acting, FeatureReading, Following, Keeping, RunReading, StoreReading, Training):
    """A connection to one vlglab service. Close it, or use it as a context manager.

    Every call raises the error of `storage.errors` whose code the service's problem+json names (`UnknownName`,
    `NotFound`, `IllegalMove`, ...), or `ServiceUnreachable` where nothing that is vlglab answers. Calls that change
    nothing, and submissions, which carry a key, are sent again after faults that pass (`retries`). Lists are iterators
    over all their pages.
    """

    # -- the service itself

    def health(self) -> schemas.Health:
        """Whether the service is up, and what it says of itself."""
        return self._get("/healthz", schemas.Health, prefix="")

    def ready(self) -> schemas.Ready:
        """Whether the service can work: its database answers and has the tables of its version.

        Raises:
            DatabaseError: it cannot.
        """
        return self._get("/readyz", schemas.Ready, prefix="")

    def version(self) -> schemas.Version:
        """Version, commit and API of the service."""
        return self._get("/version", schemas.Version)

    def hosts(self, *, alive: bool | None = None) -> Iterator[schemas.Host]:
        """Worker hosts, newest first, with what their processes take together; only those that live, or do not."""
        return self._pages("/hosts", schemas.HostPage, {"alive": None if alive is None else str(alive).lower()})

    def recipes(self) -> Sequence[schemas.Recipe]:
        """Recipes that experiments can be made from."""
        return self._get("/recipes", schemas.RecipePage).items

    def stages(self) -> Sequence[schemas.Stage]:
        """Stages that runs carry, each with its inputs and outputs and the JSON schema of its spec."""
        return self._get("/specs", schemas.StagePage).items

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

    def tokens(self) -> Iterator[schemas.Token]:
        """Every token, newest first, without secrets."""
        return self._pages("/tokens", schemas.TokenPage)

    def revoke_token(self, token_id: str) -> schemas.Token:
        """Makes a token useless.

        Raises:
            NotFound: there is none of that id.
        """
        return self._post(f"/tokens/{quote(token_id, safe='')}/revoke", schemas.Token)

    # -- webhooks

    def webhooks(self) -> Iterator[schemas.Webhook]:
        """Every webhook, newest first, without secrets."""
        return self._pages("/webhooks", schemas.WebhookPage)

    def add_webhook(self, body: schemas.WebhookRequest) -> schemas.NewWebhook:
        """Allows an address to be told of the ends of runs; its secret is in the answer and nowhere else.

        Raises:
            InvalidInput: the address cannot be used, or its host is none that the service allows.
            NotPermitted: the client's own token is no admin's.
        """
        return self._post("/webhooks", schemas.NewWebhook, body)

    def remove_webhook(self, webhook_id: str) -> schemas.Webhook:
        """Tells an address nothing more.

        Raises:
            NotFound: there is none of that id.
        """
        return self._post(f"/webhooks/{quote(webhook_id, safe='')}/remove", schemas.Webhook)

    def webhook_deliveries(
        self, *, webhook: str | None = None, run: str | None = None, state: str | None = None
    ) -> Iterator[schemas.Delivery]:
        """What webhooks were told, newest first; each argument that is given narrows the list."""
        wanted = {"webhook": webhook, "run": run, "state": state}
        return self._pages("/webhooks/deliveries", schemas.DeliveryPage, wanted)

    # -- datasets

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

    # -- experiments

    def submit(
        self, body: schemas.ExperimentRequest | schemas.RunListRequest, *, idempotency_key: str | None = None
    ) -> schemas.ExperimentDetail:
        """Submits an experiment: its runs are queued when this returns.

        Args:
            body: a recipe on a dataset, or runs given one by one.
            idempotency_key: a name of this submission; sent again, it finds what the first made. None makes up one, so
                that a call whose answer was lost can be sent again.

        Raises:
            KeyReused: the key was used for another submission.
            UnknownName: no such recipe, preset or dataset.
            SpecInvalid: an override names a field that does not exist, or a value out of range.
        """
        return self._post("/experiments", schemas.ExperimentDetail, body, idempotency_key=idempotency_key or new_key())

    def experiment(self, experiment_id: str) -> schemas.ExperimentDetail:
        """One experiment.

        Raises:
            NotFound: there is none of that id.
        """
        return self._get(f"/experiments/{experiment_id}", schemas.ExperimentDetail)

    def cancel_experiment(self, experiment_id: str) -> schemas.Experiment:
        """Asks every run of an experiment that has not ended to stop."""
        return self._post(f"/experiments/{experiment_id}/cancel", schemas.Experiment)

    def retry_experiment(self, experiment_id: str, *, anew: bool = False) -> schemas.Experiment:
        """Queues an experiment's runs again that failed or were cancelled; `anew`: not from their last checkpoints.

        Raises:
            IllegalMove: none did, and none was.
        """
        return self._post(f"/experiments/{experiment_id}/retry", schemas.Experiment, params=_anew(anew))

    def experiment_evaluations(self, experiment_id: str) -> Sequence[schemas.Evaluation]:
        """What an experiment's predictions scored."""
        return self._get(f"/experiments/{experiment_id}/evaluations", schemas.EvaluationPage).items

    # -- runs

    def submit_run(self, body: schemas.RunRequest, *, idempotency_key: str | None = None) -> schemas.Run:
        """Submits one run, whose inputs are runs or artifacts that exist; it is queued when this returns.

        Args:
            body: its stage's spec and its inputs.
            idempotency_key: as of `submit`.

        Raises:
            KeyReused: the key was used for another submission.
            SpecInvalid: a field, or an input, that is wrong.
        """
        return self._post("/runs", schemas.Run, body, idempotency_key=idempotency_key or new_key())

    def run(self, run_id: str) -> schemas.Run:
        """One run.

        Raises:
            NotFound: there is none of that id.
        """
        return self._get(f"/runs/{run_id}", schemas.Run)

    def cancel_run(self, run_id: str) -> schemas.Run:
        """Asks a run to stop.

        Raises:
            IllegalMove: it has ended already.
        """
        return self._post(f"/runs/{run_id}/cancel", schemas.Run)

    def retry_run(self, run_id: str, *, anew: bool = False) -> schemas.Run:
        """Queues a run again that failed or was cancelled, and the runs that were given up because of it.

        It goes on from its last checkpoint, or with `anew` from nothing.

        Raises:
            IllegalMove: it has not failed and was not cancelled, or it was given up because of another run.
        """
        return self._post(f"/runs/{run_id}/retry", schemas.Run, params=_anew(anew))

    def logs(
        self, run_id: str, *, attempt: int | None = None, offset: int = 0, tail: int | None = None
    ) -> tuple[str, int]:
        """A piece of a run's log from byte `offset` on, and the offset to ask from next; attempt None is the last one.

        With `tail` it begins at a line's start within the log's last so many bytes, wherever that is.
        """
        asked = {"attempt": attempt, **({"offset": offset} if tail is None else {"tail": tail})}
        response = self._send("GET", f"{API}/runs/{run_id}/logs", params=asked)
        following = response.headers.get("X-Next-Offset", "")
        return response.text, int(following) if following.isdigit() else offset + len(response.content)

    def metrics(
        self, run_id: str, name: str | None = None, *, first: int | None = None, last: int | None = None
    ) -> Sequence[schemas.Metric]:
        """The history of a run's metrics by rising step, its last 1,000 points; `name` None gives all of them."""
        wanted = given(name=name, first=first, last=last)
        return self._get(f"/runs/{run_id}/metrics", schemas.MetricHistory, wanted).items

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

        def fetch() -> httpx.Response:
            with self._http.stream("GET", f"{API}/artifacts/{artifact_key}/files/{name}") as response:
                if response.is_error:
                    response.read()
                    return response
                with partial.open("wb") as file:
                    for chunk in response.iter_bytes():
                        file.write(chunk)
                return response

        try:
            response = self._answer(fetch, safe=True)
            if response.is_error:
                raise problem(response)
            return partial.replace(to)
        finally:
            partial.unlink(missing_ok=True)

    def artifacts(self, *, kind: str | None = None) -> Iterator[schemas.Artifact]:
        """Published artifacts, newest first, of one kind or of all."""
        return self._pages("/artifacts", schemas.ArtifactPage, {"kind": kind})

    def artifact(self, key: str) -> schemas.ArtifactDetail:
        """One published artifact.

        Raises:
            NotFound: none of that key is published.
        """
        return self._get(f"/artifacts/{key}", schemas.ArtifactDetail)


def _anew(anew: bool) -> dict[str, str | None]:
    """The parameter of a retry."""
    return {"anew": "true" if anew else None}

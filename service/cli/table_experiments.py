"""Experiments that a table needs: submitted, followed until they have ended, and never run beside themselves.

Knows the client's calls; nothing of rows and scores. What is printed comes from an experiment that the same command
submitted, never from one that had ended before: where nothing has changed since, its runs end as `cached` in seconds;
where a stage's algorithm, a preset or the raw data has, the service computes anew what depends on it. What an earlier
command left in progress is followed to its end first.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from pydantic import TypeAdapter, ValidationError

from service import schemas
from service.cli.console import Shell
from service.cli.watching import follow, runs_of
from service.client import Client

Request = schemas.ExperimentRequest | schemas.RunListRequest

_REQUEST: TypeAdapter[Request] = TypeAdapter(schemas.AnyExperimentRequest)
_LIVING = ("queued", "running")
_ENDED_BADLY = ("failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Ended:
    """An experiment that has ended."""

    id: str
    well: bool
    """False where a run failed or was cancelled; its runs say why."""


def completed(at: Shell, requests: Sequence[Request]) -> list[Ended]:
    """Experiments that have ended, one a request; equal requests share one, whatever their names.

    One that does not end well keeps no other from its end: which they are is said on stderr.
    """
    wanted = {asks_for(request): request for request in requests}
    left = in_progress(at.client)
    made = {asks: at.client.submit(request).id for asks, request in wanted.items() if asks not in left}
    ended = {asks: _ended(at, made[asks] if asks in made else left[asks]) for asks in wanted}
    again = {asks: at.client.submit(wanted[asks]).id for asks in wanted if asks not in made and ended[asks].well}
    ended |= {asks: _ended(at, experiment) for asks, experiment in again.items()}
    return [ended[asks_for(request)] for request in requests]


def in_progress(client: Client) -> dict[str, str]:
    """What is asked for by experiments that have not ended -> the newest one's id."""
    found: dict[str, str] = {}
    for one in client.experiments():
        if one.state not in _LIVING:
            continue
        try:
            asks = asks_for(_REQUEST.validate_python(one.request))
        except ValidationError:  # asked of a service of another version, in words that this one has not
            continue
        found.setdefault(asks, one.id)
    return found


def moved(client: Client, name: str, trained: str, native: str) -> schemas.RunListRequest:
    """Table 4: the held-out scenes of `native`, predicted by the network of `trained` and their own text; and scored.

    Its inputs are artifacts, so that equal inputs are an equal request, whichever experiments gave them.

    Args:
        client: reads both experiments, which have ended well.
        name: what it shall be called.
        trained: id of the experiment whose network is taken.
        native: id of the experiment on the other dataset.
    """
    network = {run.name: run for run in client.experiment(trained).runs}["distill"]
    runs = {run.name: run for run in client.experiment(native).runs}

    def of(run: schemas.Run, output: str) -> schemas.InputRequest:
        return schemas.InputRequest(artifact=run.outputs[output])

    scenes = of(runs["ingest"], "scenes")
    predict = schemas.RunRequest(
        name="predict",
        spec=runs["predict"].spec,
        inputs={
            "scenes": scenes,
            "network": of(network, "network"),
            "text_embeddings": of(runs["embed_labels"], "text_embeddings"),
        },
    )
    evaluate = schemas.RunRequest(
        name="evaluate",
        spec=runs["evaluate"].spec,
        inputs={
            "scenes": scenes,
            "ground_truth": of(runs["ingest"], "ground_truth"),
            "coverage": of(runs["extract"], "embeddings"),
            "predictions.moved": schemas.InputRequest(run="predict", output="labels"),
        },
    )
    return schemas.RunListRequest(name=name, runs=[predict, evaluate])


def asks_for(request: Request) -> str:
    """What a request asks for, so that equal ones can be told; its name is of no account."""
    document = request.model_dump(mode="json", exclude={"name"}, exclude_none=True)
    return json.dumps(document, sort_keys=True)


def _ended(at: Shell, experiment: str) -> Ended:
    """Follows an experiment to its end."""
    runs = follow(partial(runs_of, at.client, experiment), at.err)
    well = not any(run.state in _ENDED_BADLY for run in runs)
    if not well:
        at.err.print(f"the experiment {experiment} did not end well: vlglab experiments show {experiment}")
    return Ended(experiment, well)

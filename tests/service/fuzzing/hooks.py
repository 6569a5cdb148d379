"""What schemathesis is told beside `schemathesis.toml`: cases to leave out or to change, and a check of our own."""

from __future__ import annotations

import os
from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response
from schemathesis.generation import GenerationMode

OWN_TOKEN = "FUZZ_TOKEN_ID"
"""Variable with the id of the token that the requests show."""
NO_RUN = "r404"
NO_INTEGER = "Input should be a valid integer"
LENGTHS = "/metrics"
"""End of the path whose lists must be as long as each other, which JSON Schema has no word for."""


def endless(operation: Any) -> bool:
    """Whether an operation answers with a stream, which lasts until the client hangs up."""
    answers = operation.definition.raw.get("responses", {}).values()
    return any("text/event-stream" in answer.get("content", {}) for answer in answers)


@schemathesis.hook
def filter_case(context: HookContext, case: Case) -> bool:
    """Leaves the token alone that the requests themselves show: without it every other case would end in 401."""
    return os.environ.get(OWN_TOKEN) not in (case.path_parameters or {}).values()


@schemathesis.hook
def map_case(context: HookContext, case: Case) -> Case:
    """Asks streams only for a run that there is not: a stream of one that there is never ends."""
    if endless(case.operation):
        if case.path_parameters:
            case.path_parameters = dict.fromkeys(case.path_parameters, NO_RUN)
        else:
            case.query = {**(case.query or {}), "run": NO_RUN}
    return case


@schemathesis.check
def a_good_shape_is_no_shape_error(ctx: CheckContext, response: Response, case: Case) -> None:
    """A request that the document allows is never refused for its shape: `request_invalid` is for the others.

    But for 46.0 where an integer is expected: JSON Schema takes it for one, and requests, which are strict, do not; and
    for lists of metrics that are not as long as each other.
    """
    meta = case.meta
    if meta is None or meta.generation.mode is not GenerationMode.POSITIVE or response.status_code != 422:
        return
    answer = response.json()
    if answer["errors"] and all(error["message"] == NO_INTEGER for error in answer["errors"]):
        return
    across = all(error["message"].startswith("Value error, ") for error in answer["errors"])
    if case.operation.path.endswith(LENGTHS) and answer["errors"] and across:
        return
    assert answer["code"] != "request_invalid", response.text


@schemathesis.check
def errors_are_problems(ctx: CheckContext, response: Response, case: Case) -> None:
    """Every error is a problem+json that carries its own status."""
    if response.status_code >= 400 and case.method.upper() != "HEAD":
        assert response.headers["content-type"] == ["application/problem+json"], response.headers
        assert response.json()["status"] == response.status_code

"""Errors as problem+json (RFC 9457): one place turns an error's code into an answer. Knows no route.

Every answer that is an error has `type`, `title`, `status`, `code`, `detail`, `instance` and `errors`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from service import examples
from service.answer_headers import headers_for, request_id
from service.schemas import RECIPE_TAG, RUNS_TAG
from storage import log_format
from storage.errors import InvalidInput, VlglabError

MEDIA_TYPE = "application/problem+json"

log = logging.getLogger("vlglab.service")

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""Every method that a route may have."""

_HTTP_CODES = {404: "not_found", 405: "method_not_allowed"}
_HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "1"}}
"""What HTTP asks for beside the status."""
_NO_PLACES = {"body", "query", "path", "header", RECIPE_TAG, RUNS_TAG}


class FieldFault(BaseModel):
    """What is wrong with one field."""

    field: str
    """Dotted path, such as runs.0.spec."""
    message: str
    got: str | None = None


class Problem(BaseModel):
    """An error. `code` is stable and is what programs test; `detail` says what was got, expected, and what to do."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.PROBLEM]})

    type: str
    title: str
    status: int
    code: str
    detail: str
    instance: str
    scene: str | None = None
    errors: list[FieldFault] = []


RESPONSES: dict[int | str, dict[str, Any]] = {
    code: {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": examples.PROBLEM}},
    }
    for code, description in (("4XX", "What was asked for cannot be done."), ("5XX", "The service cannot do it now."))
}
"""The error answers of every route, for its documentation."""


class ForeignPage(InvalidInput):
    """A request that a web page of another site made a browser send."""

    code = "foreign_page"
    status = 403


class BehindProxy(InvalidInput):
    """A request by a proxy, or from another machine, to a service that asks nobody for a token."""

    code = "behind_proxy"
    status = 403


class TooManyRequests(InvalidInput):
    """A caller sends more requests than the settings allow."""

    code = "too_many_requests"
    status = 429


class BodyTooLarge(InvalidInput):
    """A request's body is larger than the settings allow."""

    code = "body_too_large"
    status = 413


def install(app: FastAPI) -> None:
    """Makes every error of an app a problem+json answer."""
    app.add_exception_handler(VlglabError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


def answer(
    request: Request,
    status: int,
    code: str,
    title: str,
    detail: str,
    errors: Sequence[FieldFault] = (),
    scene: str | None = None,
) -> JSONResponse:
    """A problem+json answer to a request."""
    problem = Problem(
        type=f"urn:vlglab:problem:{code}",
        title=title,
        status=status,
        code=code,
        detail=detail,
        instance=quote(request.scope["path"]),
        scene=scene,
        errors=list(errors),
    )
    return JSONResponse(problem.model_dump(), status_code=status, media_type=MEDIA_TYPE)


async def _known(request: Request, error: Exception) -> JSONResponse:
    """An error of the tree, with its own code and status."""
    assert isinstance(error, VlglabError)
    return refused(request, error)


def refused(request: Request, error: VlglabError) -> JSONResponse:
    """The answer that an error of the tree is."""
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("%s %s: %s: %s", request.method, request.url.path, error.code, error.message)
    cause = error.__cause__
    faults = _faults(cause.errors(include_url=False)) if isinstance(cause, ValidationError) else []
    title = (type(error).__doc__ or error.code).strip().splitlines()[0].rstrip(".")
    reply = answer(request, error.status, error.code, title, error.message, faults, error.scene)
    reply.headers.update(_HEADERS.get(error.status, {}))
    return reply


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """A request whose body or parameters have another shape."""
    assert isinstance(error, RequestValidationError)
    faults = _faults(error.errors())
    detail = "; ".join(f"{fault.field}: {fault.message}" for fault in faults)
    return answer(request, 422, "request_invalid", "The request has another shape than expected", detail, faults)


async def _http(request: Request, error: Exception) -> JSONResponse:
    """What the framework itself refuses: no such route, another method, a range outside the file."""
    assert isinstance(error, HTTPException)
    code = _HTTP_CODES.get(error.status_code, f"http_{error.status_code}")
    detail = f"{request.method} {request.url.path}: {error.detail}; /docs lists what there is"
    reply = answer(request, error.status_code, code, HTTPStatus(error.status_code).phrase, detail)
    reply.headers.update(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        reply.headers["Allow"] = ", ".join(_allowed(request))
    return reply


def _allowed(request: Request) -> list[str]:
    """The methods that a request's path takes: the framework names only those of the first route that fits."""
    scope, routes = request.scope, request.app.router.routes
    itself = request.app.openapi()["paths"].get(scope["path"])  # no other route's parameter: /runs/compare is no run
    if itself is not None:
        return [method for method in METHODS if method.lower() in itself]
    plain = {name: scope[name] for name in ("type", "path", "root_path", "headers")}
    return [
        method
        for method in METHODS
        if any(route.matches({**plain, "method": method})[0] is Match.FULL for route in routes)
    ]


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    """A fault of ours: logged whole, told in one sentence."""
    with log_format.about(request_id=request_id(request.scope)):
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    reply = answer(
        request,
        500,
        "internal_error",
        "The service failed",
        "the service met an error that it did not expect; its log has the details",
    )
    reply.headers.update(headers_for(request.scope))  # this answer is made outside `Guard`
    return reply


def _faults(errors: Sequence[Any]) -> list[FieldFault]:
    """Each fault of a validation error: where, what, and what was got."""
    found = []
    for fault in errors:
        where = ".".join(str(part) for part in fault["loc"] if part not in _NO_PLACES) or "(the whole)"
        message = "this field is not known here" if fault["type"] == "extra_forbidden" else str(fault["msg"])
        got = None if fault["type"] == "missing" else repr(fault.get("input"))[:200]
        found.append(FieldFault(field=where, message=message, got=got))
    return found

"""The documentation is whole: every route has a summary, an example and the shape of its errors."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from service import examples, problems, schemas
from service.app import create_app
from storage.settings import Settings

Json = dict[str, Any]
PROBLEM = {"$ref": "#/components/schemas/Problem"}


@pytest.fixture
def document(settings: Settings) -> Json:
    return create_app(settings).openapi()


def operations(document: Json) -> Iterator[tuple[str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def has_example(schema: Json, document: Json) -> bool:
    """Whether a schema, or the one that it points to, has an example; for a list, its items."""
    if "$ref" in schema:
        return has_example(document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]], document)
    if schema.get("examples") or "example" in schema:
        return True
    items = schema.get("properties", {}).get("items", {}).get("items")
    return items is not None and has_example(items, document)


def test_every_route_is_described(document: Json) -> None:
    for name, operation in operations(document):
        assert operation["summary"], name
        assert len(operation["description"]) > 10, name
        assert operation["tags"], name


def test_every_route_has_an_example_of_its_answer(document: Json) -> None:
    for name, operation in operations(document):
        good = [answer for code, answer in operation["responses"].items() if code in ("200", "201")]
        assert good, name
        for content in (content for answer in good for content in answer["content"].values()):
            assert "example" in content or has_example(content["schema"], document), name


def test_every_body_has_an_example(document: Json) -> None:
    for name, operation in operations(document):
        if "requestBody" not in operation:
            continue
        content = operation["requestBody"]["content"]["application/json"]
        assert content.get("examples") or has_example(content["schema"], document), name


def test_every_route_shows_the_shape_of_its_errors(document: Json) -> None:
    for name, operation in operations(document):
        for code in ("4XX", "5XX"):
            content = operation["responses"][code]["content"]["application/problem+json"]
            assert content["schema"] == PROBLEM, name
        assert "422" not in operation["responses"], f"{name} shows the framework's own error"
    assert "code" in document["components"]["schemas"]["Problem"]["properties"]


def test_every_reference_leads_somewhere(document: Json) -> None:
    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for inner in value.values():
                yield from references(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from references(inner)

    for reference in references(document):
        assert reference.rsplit("/", 1)[1] in document["components"]["schemas"], reference


def models() -> list[type[BaseModel]]:
    """Every model that has an example of its own; the others are parts of these, or pages."""
    found = [m for _, m in inspect.getmembers(schemas, inspect.isclass) if issubclass(m, BaseModel)]
    return [m for m in (*found, problems.Problem) if isinstance(m.model_config.get("json_schema_extra"), dict)]


@pytest.mark.parametrize("model", models(), ids=lambda m: m.__name__)
def test_examples_are_what_their_models_take(model: type[BaseModel]) -> None:
    extra: Any = model.model_config["json_schema_extra"]
    for example in extra["examples"]:
        assert set(example) <= set(model.model_fields)
        model.model_validate(example)


def test_the_examples_of_requests_are_accepted(api: Any) -> None:
    api.post("/datasets", examples.DATASET_REQUEST)
    for request in (examples.EXPERIMENT_REQUEST, examples.RUN_LIST_REQUEST):
        assert api.post("/experiments", request)["runs"]


def test_it_says_what_is_answered_without_a_token(document: Json) -> None:
    free = {name for name, operation in operations(document) if operation.get("security") == []}
    assert free == {"GET /healthz", "GET /readyz"}


@pytest.mark.parametrize(
    ("given", "good"),
    [
        ({"run": "ingest", "output": "scenes"}, True),
        ({"artifact": "ab12"}, True),
        ({"artifact": "ab12", "run": None, "output": None}, True),
        ({}, False),
        ({"run": "ingest"}, False),
        ({"run": "ingest", "output": None}, False),
        ({"run": "ingest", "output": "scenes", "artifact": "ab12"}, False),
    ],
)
def test_where_an_input_comes_from_is_documented_as_it_is_checked(document: Json, given: Json, good: bool) -> None:
    ways = document["components"]["schemas"]["InputRequest"]["oneOf"]
    types: dict[str, Any] = {"string": str, "null": type(None)}

    def fits(way: Json) -> bool:
        there = all(name in given for name in way["required"])
        return there and all(isinstance(given[n], types[way["properties"][n]["type"]]) for n in given)

    assert (sum(fits(way) for way in ways) == 1) is good
    try:
        schemas.InputRequest.model_validate(given)
    except ValidationError:
        assert not good
    else:
        assert good


def test_a_file_may_be_of_any_type(document: Json) -> None:
    answers = document["paths"]["/api/v1/artifacts/{key}/files/{name}"]["get"]["responses"]
    assert set(answers["200"]["content"]) == set(answers["206"]["content"]) == {"*/*"}


@pytest.mark.parametrize(
    "wrong",
    [{"priority": False}, {"priority": "3"}, {"gpus": True}, {"seed": 1.5}, {"time_limit_s": "9"}, {"notes": 3}],
)
def test_a_value_of_another_type_than_documented_is_refused(wrong: Json) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        schemas.ExperimentRequest.model_validate({**examples.EXPERIMENT_REQUEST, **wrong})
    for model, good in ((schemas.TokenRequest, examples.TOKEN_REQUEST), (schemas.RunRequest, examples.RUN_REQUEST)):
        bad = {"days": True} if model is schemas.TokenRequest else {"priority": True}
        with pytest.raises(ValidationError):
            model.model_validate({**good, **bad})


def test_names_that_a_document_does_not_allow_are_refused_and_said_to_be(document: Json, api: Any) -> None:
    columns = document["components"]["schemas"]["MetricBatch"]["properties"]["columns"]
    assert columns["additionalProperties"] is False
    (pattern,) = columns["patternProperties"]
    for name in ("", "a\0b"):
        assert re.search(pattern, name) is None
        answer = api.http.post("/api/v1/runs/r404/metrics", json={"steps": [1], "columns": {name: [0.5]}})
        assert answer.status_code == 422
        assert answer.json()["code"] == "request_invalid"

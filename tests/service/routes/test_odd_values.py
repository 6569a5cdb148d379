"""Whatever is put into a path or a query, the answer is no fault of the service."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

GETS = [
    "/runs", "/runs/{}", "/runs/{}/metrics", "/runs/{}/logs", "/runs/{}/events", "/runs/{}/evaluations",
    "/runs/{}/files", "/experiments", "/experiments/{}", "/experiments/{}/evaluations", "/datasets", "/datasets/{}",
    "/features", "/features/{}", "/features/{}/diff",
    "/artifacts", "/artifacts/{}", "/artifacts/{}/files/{}", "/hosts", "/recipes", "/specs", "/version",
]  # fmt: skip
PARAMETERS = [
    "cursor",
    "limit",
    "state",
    "stage",
    "experiment",
    "dataset",
    "name",
    "attempt",
    "offset",
    "kind",
    "with",
    "rows",
    "dimension",
    "text",
]
ODD = st.one_of(
    st.sampled_from(
        ["", "\0", "..", "%", "a/b", "-1", str(2**63), str(2**64), "1e999", "NaN", "null", "\ud7ff", "x" * 5000]
    ),
    st.integers().map(str),
    st.text(max_size=20),
)


@profile(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(GETS), value=ODD, query=st.dictionaries(st.sampled_from(PARAMETERS), ODD, max_size=3))
def test_reading(api: Any, path: str, value: str, query: dict[str, str]) -> None:
    answer = api.http.get("/api/v1" + path.replace("{}", _quoted(value)), params=query)
    assert answer.status_code < 500, answer.text
    if answer.is_error:
        api.problem(answer)


@profile(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(["/experiments", "/runs", "/datasets"]),
    body=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ODD,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["name", "kind", "path", "recipe", "dataset", "spec", "stage", "inputs", "runs", "options"]
                )
                | st.text(max_size=5),
                inner,
                max_size=6,
            )
        ),
        max_leaves=12,
    ),
)
def test_writing(api: Any, path: str, body: Any) -> None:
    answer = api.http.post("/api/v1" + path, json=body)
    assert answer.status_code < 500, answer.text
    if answer.is_error:
        api.problem(answer)


@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 100_000, b'{"recipe": NaN}', b"null", b'"\\ud800"'])
def test_bodies_that_are_hardly_json(api: Any, content: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = api.http.post("/api/v1/experiments", content=content, headers=headers)
    assert 400 <= answer.status_code < 500, answer.text
    api.problem(answer)


def _quoted(value: str) -> str:
    return quote(value, safe="")

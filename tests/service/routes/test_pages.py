"""Lists that are read by pages over HTTP: hosts, tokens and webhooks, by the client's iterators too."""

from __future__ import annotations

from typing import Any

import pytest

from service.client import Client
from storage.records import access_tokens, hosts, webhooks
from tests.service.conftest import ADDRESS

LISTS = ("hosts", "tokens", "webhooks")


def make(db: Any, what: str, number: int) -> str:
    """Makes one of what is listed and returns its id."""
    if what == "hosts":
        return hosts.register(db, "lab", number, 1, [])
    if what == "tokens":
        return access_tokens.create(db, f"ada{number}", "reader")[0].id
    return webhooks.add(db, f"https://hooks.example.org/{number}", ["failed"], "ada", "salt", "key").id


@pytest.mark.parametrize("what", LISTS)
def test_a_list_is_read_by_pages(api: Any, what: str) -> None:
    made = sorted((make(api.parts.db, what, number) for number in range(5)), reverse=True)
    first = api.get(f"/{what}", limit=2)
    assert [one["id"] for one in first["items"]] == made[:2]
    second = api.get(f"/{what}", limit=2, cursor=first["next"])
    last = api.get(f"/{what}", limit=2, cursor=second["next"])
    assert [one["id"] for page in (second, last) for one in page["items"]] == made[2:]
    assert last["next"] is None
    for wrong in (0, 501):
        assert api.get(f"/{what}", limit=wrong, status=422)["code"] == "request_invalid"


@pytest.mark.parametrize("what", LISTS)
def test_the_client_reads_all_pages(api: Any, what: str) -> None:
    made = sorted((make(api.parts.db, what, number) for number in range(103)), reverse=True)
    with Client(ADDRESS, transport=api.transport()) as client:
        assert [one.id for one in getattr(client, what)()] == made, "a page holds a hundred"


def test_hosts_that_live_can_be_asked_for(api: Any) -> None:
    gone, there = (hosts.register(api.parts.db, "lab", number, 1, []) for number in range(2))
    hosts.retire(api.parts.db, gone)
    assert [[one["id"] for one in api.get("/hosts", alive=alive)["items"]] for alive in ("true", "false")] == [
        [there], [gone],
    ]  # fmt: skip

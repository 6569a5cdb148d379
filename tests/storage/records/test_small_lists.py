"""Hosts, tokens and webhooks by pages, each list against all that a test has made."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from storage.records import access_tokens, hosts, webhooks
from storage.records.database import Database

LISTS: dict[str, tuple[Callable[[Database, int], str], Callable[..., Any]]] = {
    "hosts": (lambda db, n: hosts.register(db, f"m{n % 2}", n, 1, []), hosts.list_hosts),
    "tokens": (lambda db, n: access_tokens.create(db, f"ada{n}", "reader")[0].id, access_tokens.list_tokens),
    "webhooks": (
        lambda db, n: webhooks.add(db, f"https://x/{n}", ["failed"], "ada", "salt", "key").id,
        webhooks.list_webhooks,
    ),
}
"""What is listed -> how one is made, and the list."""


def made_apart(make: Callable[[int], str], number: int) -> list[str]:
    """Makes some, each in a later millisecond: ids within one are in no order."""
    made = []
    for each in range(number):
        made.append(make(each))
        time.sleep(0.002)
    return made


@pytest.mark.parametrize("what", LISTS)
@pytest.mark.parametrize("limit", [1, 3, 7, 500])
def test_pages_hold_each_once_newest_first_whatever_is_added_meanwhile(db: Database, what: str, limit: int) -> None:
    make, listed = LISTS[what]
    made = made_apart(lambda number: make(db, number), 7)
    pages = [listed(db, limit=limit)]
    make(db, 7)
    while pages[-1].next is not None:
        pages.append(listed(db, pages[-1].next, limit))
    assert [one.id for page in pages for one in page.items] == made[::-1]
    assert all(len(page.items) == limit for page in pages[:-1])
    assert len(listed(db, made[0]).items) == 0, "nothing is older"


def test_hosts_that_live_are_listed_apart_from_those_that_do_not(db: Database) -> None:
    made = made_apart(lambda number: hosts.register(db, f"m{number % 2}", number, 1, []), 6)
    for gone in made[::3]:
        hosts.retire(db, gone)
    living = [one for one in made[::-1] if one not in made[::3]]
    first = hosts.list_hosts(db, limit=3, alive=True)
    rest = hosts.list_hosts(db, first.next, 3, alive=True)
    assert [[one.id for one in page.items] for page in (first, rest)] == [living[:3], living[3:]]
    assert rest.next is None
    assert [one.id for one in hosts.list_hosts(db, alive=False).items] == made[::3][::-1]
    with db.read() as session:
        assert [one.id for one in hosts.living(session)] == living
    assert [one.id for one in hosts.of_machine(db, "m1")] == made[1::2][::-1]

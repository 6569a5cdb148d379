"""The outbox: filled by the transaction that ends a run, claimed by one sender at a time."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

import pytest

from storage.errors import NotFound
from storage.records import deliveries, runs, webhooks
from storage.records.claims import Claim
from storage.records.database import Database
from storage.records.deliveries import DeliveryFilter, Due
from storage.records.runs import Run
from storage.records.states import FINAL, RunState
from storage.records.webhooks import Webhook
from tests.fixtures.moving_runs import end

KEY = "k1"


@pytest.fixture
def hook(db: Database) -> Callable[..., Webhook]:
    """Adds a webhook that is told of every end."""

    def make(*states: RunState, key: str = KEY) -> Webhook:
        return webhooks.add(db, "https://hooks.example.org/x", states or sorted(FINAL), "ada", "salt", key)

    return make


def claim_due(db: Database, lasts_s: float = 60.0, most: int = 100, **room: int) -> list[Due]:
    return deliveries.claim_due(db, KEY, room, most, lasts_s)


def waiting(db: Database) -> list[tuple[str, str]]:
    """Run and state of every message, oldest first."""
    return [(one.run_id, one.run_state) for one in reversed(deliveries.list_deliveries(db).items)]


@pytest.mark.parametrize("how", ["succeeded", "failed", "cancelled"])
def test_the_end_of_a_run_and_its_message_are_one_transaction(
    db: Database, hook: Callable[..., Webhook], claimed: Callable[..., Claim], how: str
) -> None:
    target, claim = hook(), claimed()
    assert waiting(db) == [], "nothing but an end is told"
    end(db, claim.token, how)
    (due,) = claim_due(db)
    assert (due.webhook_id, due.url, due.salt, due.tries, due.run_id) == (
        target.id,
        target.url,
        "salt",
        1,
        claim.run_id,
    )
    run, body = runs.get(db, claim.run_id), json.loads(due.body)
    assert run.ended_at is not None
    assert body["type"] == f"run.{how}"
    told = body["data"]["run"]
    assert (told["id"], told["state"], told["attempt"], told["reason"]) == (run.id, how, 1, run.reason)
    assert told["ended_at"] == run.ended_at.isoformat(timespec="milliseconds") == body["timestamp"]
    assert claim.token not in due.body, "no fencing token leaves the lab"


def test_an_end_that_is_rolled_back_is_never_told(
    db: Database, hook: Callable[..., Webhook], new_run: Callable[..., Run]
) -> None:
    hook()
    run = new_run()

    def fault() -> None:
        with db.write() as session:
            runs.cancel_row(session, runs.row_of(session, run.id))
            session.flush()
            raise RuntimeError("a fault after it")

    with pytest.raises(RuntimeError):
        fault()
    assert runs.get(db, run.id).state == "queued"
    assert waiting(db) == []


def test_each_webhook_is_told_what_it_asked_for_from_when_it_was_added(
    db: Database, hook: Callable[..., Webhook], claimed: Callable[..., Claim]
) -> None:
    end(db, claimed().token, "failed")
    failures, all_ends = hook("failed"), hook()
    fails, succeeds = claimed(), claimed()
    end(db, fails.token, "failed")
    end(db, succeeds.token, "succeeded")
    told = {one.webhook_id: set() for one in deliveries.list_deliveries(db).items}  # type: ignore[var-annotated]
    for one in deliveries.list_deliveries(db).items:
        told[one.webhook_id].add(one.run_id)
    assert told == {failures.id: {fails.run_id}, all_ends.id: {fails.run_id, succeeds.run_id}}
    webhooks.remove(db, all_ends.id)
    end(db, claimed().token, "succeeded")
    assert len(deliveries.list_deliveries(db).items) == 3, "a removed one is told nothing more"
    given_up = deliveries.list_deliveries(db, DeliveryFilter(state="given_up")).items
    assert {(one.webhook_id, one.error) for one in given_up} == {(all_ends.id, "the webhook was removed")}
    assert [one.webhook_id for one in claim_due(db)] == [failures.id]
    with pytest.raises(NotFound, match="vlglab webhooks list"):
        webhooks.remove(db, "w404")


def test_a_claimed_message_is_nobody_else_s_until_its_claim_lapses(
    db: Database, hook: Callable[..., Webhook], claimed: Callable[..., Claim]
) -> None:
    hook()
    end(db, claimed().token, "failed")
    (first,) = claim_due(db, lasts_s=0.0)
    (second,) = claim_due(db)
    assert (second.id, second.tries) == (first.id, 2)
    assert second.claim != first.claim
    assert claim_due(db) == []
    assert not deliveries.delivered(db, first, 200), "whoever's claim has lapsed decides nothing"
    assert not deliveries.failed(db, first, None, "late", None)
    assert deliveries.delivered(db, second, 204)
    (done,) = deliveries.list_deliveries(db).items
    assert (done.state, done.status, done.tries, done.error) == ("delivered", 204, 2, None)
    assert done.ended_at is not None
    assert claim_due(db) == []


def test_a_failed_try_is_due_again_after_its_pause_or_given_up(
    db: Database, hook: Callable[..., Webhook], claimed: Callable[..., Claim]
) -> None:
    hook()
    end(db, claimed().token, "failed")
    (due,) = claim_due(db)
    assert deliveries.failed(db, due, 503, "it answered 503", 3600.0)
    assert claim_due(db) == []
    (one,) = deliveries.list_deliveries(db).items
    assert (one.state, one.status, one.error) == ("waiting", 503, "it answered 503")
    assert 3500 < (one.due_at - db.now()).total_seconds() <= 3600
    with db.write() as session:
        session.connection().exec_driver_sql("UPDATE webhook_deliveries SET due_at = created_at")
    (again,) = claim_due(db)
    assert again.tries == 2 and again.id == due.id
    assert deliveries.failed(db, again, None, "no answer", None)
    (one,) = deliveries.list_deliveries(db).items
    assert (one.state, one.status, one.error) == ("given_up", None, "no answer")


def test_a_webhook_without_room_waits_and_holds_up_no_other(
    db: Database, hook: Callable[..., Webhook], claimed: Callable[..., Claim]
) -> None:
    slow, quick = hook(), hook()
    for _ in range(3):
        end(db, claimed().token, "failed")
    assert [one.webhook_id for one in claim_due(db, most=2, **{slow.id: 0})] == [quick.id] * 2
    assert sorted(one.webhook_id for one in claim_due(db, most=5)) == sorted([slow.id] * 3 + [quick.id])


def test_messages_that_another_key_signs_are_left_alone(
    db: Database, hook: Callable[..., Webhook], claimed: Callable[..., Claim]
) -> None:
    hook(key="k2")
    end(db, claimed().token, "failed")
    assert claim_due(db) == []
    assert len(deliveries.claim_due(db, "k2", {}, 4, 60.0)) == 1


def test_many_senders_at_once_claim_each_message_once(
    db: Database, hook: Callable[..., Webhook], claimed: Callable[..., Claim]
) -> None:
    hook()
    for _ in range(20):
        end(db, claimed().token, "failed")
    found: list[Due] = []
    start = threading.Barrier(4)

    def send() -> None:
        start.wait()
        for _ in range(10):
            found.extend(claim_due(db, most=3))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20
    assert len({one.id for one in found}) == 20


def test_lists_are_narrowed_and_read_by_pages(
    db: Database, hook: Callable[..., Webhook], claimed: Callable[..., Claim]
) -> None:
    first, second = hook(), hook("failed")
    claims = [claimed() for _ in range(3)]
    for claim in claims:
        end(db, claim.token, "failed")
    whole = [one.id for one in deliveries.list_deliveries(db).items]
    assert whole == sorted(whole, reverse=True) and len(whole) == 6
    page = deliveries.list_deliveries(db, limit=4)
    rest = deliveries.list_deliveries(db, cursor=page.next, limit=4)
    assert [one.id for one in (*page.items, *rest.items)] == whole and rest.next is None
    of_run = deliveries.list_deliveries(db, DeliveryFilter(run=claims[1].run_id)).items
    assert {one.webhook_id for one in of_run} == {first.id, second.id}
    assert len(deliveries.list_deliveries(db, DeliveryFilter(webhook=second.id, state="waiting")).items) == 3

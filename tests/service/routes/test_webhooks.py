"""Webhooks over HTTP: added with a secret shown once, listed without, removed; and only where the settings allow."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from service import examples
from tests.service.fake_api import FakeApi
from tests.service.test_cli import page, vlglab

GOOD = {"url": "https://hooks.example.org/lab", "states": ["failed", "cancelled"]}


def test_a_webhook_is_added_listed_without_its_secret_and_removed(api: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        made = api.post("/webhooks", GOOD)
        again = api.post("/webhooks", {"url": GOOD["url"]})
    assert made["secret"].startswith("whsec_") and made["secret"] != again["secret"]
    assert again["states"] == ["succeeded", "cached", "failed", "cancelled"]
    listed = api.get("/webhooks")["items"]
    assert [one["id"] for one in listed] == [again["id"], made["id"]]
    assert listed[1] == {name: value for name, value in made.items() if name != "secret"}
    assert listed[1]["signable"] is True
    assert made["secret"] not in str(listed) + caplog.text
    gone = api.post(f"/webhooks/{made['id']}/remove", status=200)
    assert gone["removed_at"] is not None
    assert api.post(f"/webhooks/{made['id']}/remove", status=200) == gone
    assert api.post("/webhooks/w404/remove", status=404)["code"] == "not_found"
    assert api.get("/webhooks/deliveries") == {"items": [], "next": None}


def test_neither_secret_nor_key_is_in_the_database(api: Any) -> None:
    secret = api.post("/webhooks", GOOD)["secret"]
    key = api.parts.settings.webhook_key_path.read_text().strip()
    with api.parts.db.read() as session:
        rows = str(session.connection().exec_driver_sql("SELECT * FROM webhooks").fetchall())
    assert secret not in rows and secret.removeprefix("whsec_") not in rows and key not in rows


def test_another_key_signs_for_none_of_them(api: Any) -> None:
    api.post("/webhooks", GOOD)
    api.parts.settings.webhook_key_path.write_text("ab" * 32)
    assert [one["signable"] for one in api.get("/webhooks")["items"]] == [False]


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"url": "http://127.0.0.1:1/"}, "invalid_input"),
        ({"url": "http://[::ffff:10.0.0.1]/"}, "invalid_input"),
        ({"url": "ftp://hooks.example.org/"}, "invalid_input"),
        ({"url": "https://ada:secret@hooks.example.org/"}, "invalid_input"),
        ({"url": ""}, "request_invalid"),
        ({**GOOD, "states": []}, "request_invalid"),
        ({**GOOD, "states": ["running"]}, "request_invalid"),
        ({**GOOD, "secret": "mine"}, "request_invalid"),
    ],
)
def test_what_is_not_allowed_is_refused(api: Any, wrong: dict[str, Any], code: str) -> None:
    assert api.post("/webhooks", wrong, status=422)["code"] == code
    assert api.get("/webhooks")["items"] == []


def test_the_command_line_prints_the_secret_alone_and_lists_the_rest() -> None:
    webhook = examples.WEBHOOK
    api = FakeApi(
        {
            ("POST", "/api/v1/webhooks"): {**webhook, "secret": examples.WEBHOOK_SECRET},
            ("GET", "/api/v1/webhooks"): page({**webhook, "signable": False}),
            ("POST", f"/api/v1/webhooks/{webhook['id']}/remove"): webhook,
            ("GET", "/api/v1/webhooks/deliveries"): page(examples.DELIVERY),
        }
    )
    result, _ = vlglab(api, "webhooks", "add", webhook["url"], "--state", "failed")
    assert result.exit_code == 0 and result.stdout == examples.WEBHOOK_SECRET + "\n"
    assert api.bodies() == [{"url": webhook["url"], "states": ["failed"]}]
    _, listed = vlglab(api, "webhooks", "list")
    assert "another key" in listed and webhook["url"] in listed
    _, gone = vlglab(api, "webhooks", "remove", webhook["id"])
    assert "is removed" in gone
    _, told = vlglab(api, "webhooks", "deliveries", "--state", "waiting")
    assert examples.DELIVERY["id"] in told and "it answered 503" in told
    assert dict(api.requests[-1].url.params) == {"state": "waiting"}

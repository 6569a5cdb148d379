"""The page at `/docs` loads what it names, of one version, and a browser may run nothing else for it."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

from service import documentation


def test_the_page_may_load_and_run_what_it_names_and_nothing_else(api: Any) -> None:
    answer = api.http.get("/docs")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
    rules = dict(rule.strip().split(" ", 1) for rule in answer.headers["content-security-policy"].split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == rules["frame-ancestors"] == "'none'"
    assert rules["connect-src"] == "'self'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    (inline,) = re.findall(r"<script>(.*?)</script>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
    assert rules["script-src"].split() == [documentation.SCRIPT[0], f"'sha256-{digest}'"]
    assert rules["style-src"] == documentation.STYLE[0]


def test_what_the_page_loads_is_of_one_version_and_checked(api: Any) -> None:
    text = api.http.get("/docs").text
    loaded = re.findall(r'(?:src|href)="(https?:[^"]*)"([^>]*)>', text)
    assert {address for address, _ in loaded} == {documentation.SCRIPT[0], documentation.STYLE[0]}
    for address, rest in loaded:
        assert re.search(r"@\d+\.\d+\.\d+/", address), "a version as a whole"
        assert re.search(r'integrity="sha384-[A-Za-z0-9+/]{64}" crossorigin="anonymous"', rest)
    assert "/openapi.json" in text and api.http.get("/openapi.json").json()["openapi"].startswith("3.")


def test_no_other_page_of_documentation_is_served(api: Any) -> None:
    for path in ("/redoc", "/docs/oauth2-redirect"):
        assert api.http.get(path).status_code == 404

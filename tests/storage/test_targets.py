"""Which hosts may be reached: what is listed, and nothing private that is not."""

from __future__ import annotations

import ipaddress

import pytest

from storage import targets
from storage.errors import InvalidInput
from storage.targets import Allowed, Target

PRIVATE = (
    "127.0.0.1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
    "::1", "::", "fe80::1", "fd00::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
    "255.255.255.255",
)  # fmt: skip
PUBLIC = ("8.8.8.8", "93.184.215.14", "2606:4700::1111", "::ffff:8.8.8.8")


def made(patterns: list[str]) -> Allowed:
    return Allowed(patterns, "VLGLAB_WEBHOOK_HOSTS", "a webhook")


def target(url: str) -> Target:
    return targets.target_of(url, "a webhook's", "https://hooks.example.org/vlglab")


def allows(patterns: list[str], host: str, address: str) -> bool:
    """Whether a message to a host that has this address may be sent."""
    shown = f"[{host}]" if ":" in host else host
    where = target(f"https://{shown}/x")
    try:
        made(patterns).check_host(where)
        made(patterns).check_address(where, ipaddress.ip_address(address))
    except InvalidInput:
        return False
    return True


@pytest.mark.parametrize("address", PRIVATE)
def test_by_default_no_private_address_is_reached_by_name_or_by_number(address: str) -> None:
    assert not allows(["*"], "hooks.example.org", address)
    assert not allows(["*.example.org"], "hooks.example.org", address)
    assert not allows(["*"], address, address)


@pytest.mark.parametrize("address", PUBLIC)
def test_by_default_every_public_one_is(address: str) -> None:
    assert allows(["*"], "hooks.example.org", address)
    assert allows(["*"], address, address)


@pytest.mark.parametrize(
    ("patterns", "host", "address", "may"),
    [
        ([], "hooks.example.org", "8.8.8.8", False),
        (["hooks.example.org"], "hooks.example.org", "8.8.8.8", True),
        (["HOOKS.example.org"], "hooks.EXAMPLE.org.", "8.8.8.8", True),
        (["hooks.example.org"], "hooks.example.org", "10.0.0.1", True),
        (["hooks.example.org"], "other.example.org", "8.8.8.8", False),
        (["*.example.org"], "a.b.example.org", "8.8.8.8", True),
        (["*.example.org"], "example.org", "8.8.8.8", False),
        (["*.example.org"], "example.org.evil.net", "8.8.8.8", False),
        (["10.1.0.0/16"], "10.1.2.3", "10.1.2.3", True),
        (["10.1.0.0/16"], "10.2.2.3", "10.2.2.3", False),
        (["10.1.0.0/16"], "hooks.lab", "10.1.2.3", True),
        (["10.1.0.0/16"], "hooks.lab", "8.8.8.8", False),
        (["127.0.0.1"], "127.0.0.1", "127.0.0.1", True),
        (["127.0.0.1"], "127.0.0.2", "127.0.0.2", False),
        (["fd00::/8"], "fd00::5", "fd00::5", True),
        (["*", "10.1.0.0/16"], "hooks.lab", "10.1.2.3", True),
        (["*", "10.1.0.0/16"], "hooks.lab", "10.9.2.3", False),
    ],
)
def test_patterns_allow_what_they_name(patterns: list[str], host: str, address: str, may: bool) -> None:
    assert allows(patterns, host, address) == may


@pytest.mark.parametrize(
    "url",
    [
        "", "ftp://x.org/", "file:///etc/passwd", "javascript:alert(1)", "https://", "https:///x", "http://u:p@x.org/",
        "http://u@x.org/", "https://x.org/#a", "https://x.org/a b", "https://x.org:99999/", "http://[::1/",
        "https://x.org/\n", "https://ex\u00e4mple.org/", "https://x.org/" + "a" * 2000,
    ],
)  # fmt: skip
def test_what_is_no_plain_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"expected one like https://hooks\.example\.org") as caught:
        target(url)
    assert "u:p" not in caught.value.message


@pytest.mark.parametrize("pattern", ["https://x.org", "x.org:80", "x.org/path", ""])
def test_a_pattern_that_is_none_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidInput, match="VLGLAB_WEBHOOK_HOSTS"):
        made([pattern])

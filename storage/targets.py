"""Which hosts vlglab may reach of itself: the settings' patterns, and no private address that none of them names.

A name is looked up when something is sent, every address that it has is checked, and the connection goes to one of
those: a name that points elsewhere later reaches nothing.
"""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import urlsplit

from storage.errors import InvalidInput, SourceUnreachable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MOST_CHARACTERS = 2000
"""Longest URL."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes."""

    scheme: str
    host: str
    """A name in lower case, or an address without brackets."""
    port: int

    @property
    def authority(self) -> str:
        """The header Host: the port is left out where it is the scheme's own."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == {"http": 80, "https": 443}[self.scheme] else f"{name}:{self.port}"


def target_of(url: str, of: str, example: str) -> Target:
    """The parts of a URL.

    Args:
        url: the URL.
        of: whose address it is, for messages, such as "a webhook's".
        example: a good one.

    Raises:
        InvalidInput: it is none of http or https, or carries a password or a fragment.
    """
    wanted = f"expected one like {example}, without a user, a password or a fragment"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidInput(f"got {of} address that cannot be read ({error}); {wanted}") from error
    plain = url.isascii() and url.isprintable() and " " not in url and len(url) <= MOST_CHARACTERS
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
        raise InvalidInput(f"got {of} address that is none of http or https; {wanted}")
    if "@" in parts.netloc or parts.fragment:
        raise InvalidInput(f"got {of} address with a user, a password or a fragment; {wanted}")
    return Target(parts.scheme, parts.hostname.rstrip("."), port or (443 if parts.scheme == "https" else 80))


class Allowed:
    """What a setting's patterns allow."""

    def __init__(self, patterns: Sequence[str], setting: str, what: str) -> None:
        """What some patterns allow.

        Args:
            patterns: names such as hooks.example.org or *.example.org, addresses, networks such as 10.1.0.0/16.
            setting: the variable that holds them, for messages.
            what: what is to be reached, for messages, such as "a webhook".

        Raises:
            InvalidInput: a pattern with a scheme, a port or a path.
        """
        self._setting, self._what = setting, what
        self._names: list[str] = []
        self._networks: list[Network] = []
        for pattern in patterns:
            try:
                self._networks.append(ipaddress.ip_network(pattern))
            except ValueError as error:
                if "/" in pattern or ":" in pattern or not pattern:
                    raise InvalidInput(
                        f"got {pattern!r} in {setting}, expected a name such as hooks.example.org or"
                        " *.example.org, an address, or a network such as 10.1.0.0/16"
                    ) from error
                self._names.append(pattern.lower())

    def check_host(self, target: Target) -> None:
        """Checks what can be checked before a name is looked up.

        Raises:
            InvalidInput: no pattern allows the host.
        """
        literal = _literal(target.host)
        if literal is not None:
            self.check_address(target, literal)
        elif not self._names_host(target.host) and not self._networks:
            raise self._refused(target.host, "which no pattern allows")

    def check_address(self, target: Target, address: Address) -> None:
        """Checks an address that a host has.

        Raises:
            InvalidInput: no pattern allows it, or it is private and none names it.
        """
        if any(address in network for network in self._networks if network.version == address.version):
            return
        if target.host in self._names:
            return  # named in full: wherever it lies
        if not self._names_host(target.host):
            raise self._refused(target.host, "which no pattern allows")
        if not is_public(address):
            raise self._refused(target.host, f"whose address {address} is not public")

    def look_up(self, target: Target) -> Address:
        """The first address of a host, after all that it has were checked. It waits for name servers.

        Raises:
            InvalidInput: the host, or one of its addresses, is not allowed.
            OSError: nobody knows its name.
        """
        self.check_host(target)
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
        for address in addresses:
            self.check_address(target, address)
        return addresses[0]

    def _names_host(self, host: str) -> bool:
        return any(fnmatchcase(host, name) for name in self._names)

    def _refused(self, host: str, why: str) -> InvalidInput:
        listed = ", ".join([*self._names, *map(str, self._networks)]) or "none"
        return InvalidInput(
            f"got {self._what} on {host}, {why}; allowed are: {listed}; whoever runs the service may add it to"
            f" {self._setting}"
        )


def allowed_sources(patterns: Sequence[str]) -> Allowed:
    """What VLGLAB_PULL_HOSTS allows.

    Raises:
        InvalidInput: a pattern with a scheme, a port or a path.
    """
    return Allowed(patterns, "VLGLAB_PULL_HOSTS", "a source")


def source_target(url: str, patterns: Sequence[str]) -> Target:
    """The parts of the URL of a source of artifacts.

    Raises:
        InvalidInput: none of http or https, or a host that VLGLAB_PULL_HOSTS does not allow.
    """
    target = target_of(url, "a source's", "https://lab.example.org:8765")
    allowed_sources(patterns).check_host(target)
    return target


@dataclass(frozen=True, slots=True)
class Sources:
    """What a deployment says of sources."""

    hosts: tuple[str, ...] = ()
    """Patterns of hosts that may be reached (VLGLAB_PULL_HOSTS)."""
    tokens: Path | None = None
    """File with a JSON object: host and port as in the URL -> token (VLGLAB_PULL_TOKENS)."""

    def token(self, authority: str) -> str | None:
        """The token that a source is shown.

        Raises:
            InvalidInput: the file of tokens cannot be read.
        """
        if self.tokens is None or not self.tokens.exists():
            return None
        try:
            found = json.loads(self.tokens.read_text(encoding="utf-8"))
            token = found.get(authority)
        except (OSError, ValueError, AttributeError) as error:
            raise InvalidInput(
                f"got a file of tokens (VLGLAB_PULL_TOKENS) that cannot be read ({type(error).__name__}); expected a"
                ' JSON object such as {"lab.example.org:8765": "TOKEN"}'
            ) from error
        return None if token is None else str(token)

    def look_up(self, url: str) -> tuple[Target, Address]:
        """Where a source lies, and the address to connect to. It waits for name servers.

        Raises:
            InvalidInput: the URL or its host is not allowed.
            SourceUnreachable: nobody knows its host.
        """
        target = source_target(url, self.hosts)
        try:
            return target, allowed_sources(self.hosts).look_up(target)
        except OSError as error:
            raise SourceUnreachable(f"nobody knows the host {target.host} ({error}); check the source's URL") from error


def is_public(address: Address) -> bool:
    """Whether an address is one of the public internet's; an IPv4 address within an IPv6 one is looked at itself.

    Examples:
        >>> [is_public(ipaddress.ip_address(a)) for a in ("8.8.8.8", "10.0.0.1", "::ffff:127.0.0.1", "169.254.169.254")]
        [True, False, False, False]
    """
    if isinstance(address, ipaddress.IPv6Address):
        within = address.ipv4_mapped or address.sixtofour
        if within is not None:
            return is_public(within)
        if address in ipaddress.ip_network("64:ff9b::/96"):
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return address.is_global and not address.is_multicast


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None

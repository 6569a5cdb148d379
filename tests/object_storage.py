"""A server that speaks S3's protocol, in the tests' own process (moto)."""

from __future__ import annotations

import itertools
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from moto.server import ThreadedMotoServer
from obstore.store import S3Store

_numbers = itertools.count()


@dataclass(frozen=True)
class ObjectStorage:
    """A running server."""

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which a process reaches it."""
        return {
            "AWS_ENDPOINT": self.endpoint, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "secret",
        }  # fmt: skip

    def bucket(self, prefix: str | None = None) -> S3Store:
        """A new bucket, or a prefix of one."""
        name = f"lab-{next(_numbers)}"
        request = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")
        urllib.request.urlopen(request, timeout=10).close()
        return S3Store(
            name, prefix=prefix, endpoint=self.endpoint, region="us-east-1", access_key_id="lab",
            secret_access_key="secret", client_options={"allow_http": True},
        )  # fmt: skip


@contextmanager
def object_storage() -> Iterator[ObjectStorage]:
    """Starts a server on a free port of loopback, and stops it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield ObjectStorage(f"http://{host}:{port}")
    finally:
        server.stop()

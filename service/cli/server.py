"""`vlglab serve`: with `vlglab db` the only command that touches this machine's database instead of speaking HTTP.

Starts the service and, beside it, a worker host by its command line; imports no worker.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.console import read_settings
from service.cli.host_keeper import HostKeeper
from service.cli.scripting import Json, show_line
from service.cli.start import collector_at_rest
from storage import log_format
from storage.errors import InvalidInput
from storage.settings import Settings

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from service.feed import Feed

log = logging.getLogger("vlglab.serve")

STOP_LOOK_S = 0.1
"""Seconds between two looks whether the service was told to stop."""
KEEP_ALIVE_S = 75
"""Seconds that an idle connection stays open: longer than clients keep theirs (httpx: 5 s), or a request that is sent
just as the service hangs up is lost."""
SHUTDOWN_S = 5
"""Seconds that open requests get when the service stops."""


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; default VLGLAB_HOST.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = None,
    no_host: Annotated[bool, typer.Option("--no-host", help="Start no worker host.")] = False,
    stop_host: Annotated[bool, typer.Option("--stop-host", help="End the worker host with the service.")] = False,
    as_json: Json = False,
) -> None:
    """Serves the API, plans runs, and keeps a worker host, which outlives it. JSON is a line once it answers."""
    with collector_at_rest():
        from migrations.upgrade import upgrade
        from service.app import create_app

    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    config = read_settings().model_copy(update=given)
    log_format.configure(config.log_format)
    config.home_path.mkdir(parents=True, exist_ok=True)
    upgrade(config.resolved_database_url)
    if config.tokens_required and config.first_token is not None:
        _write_first_token(config, config.first_token, quiet=as_json)
    with collector_at_rest():
        application = create_app(config)
    listening = _bind(config)
    keeper = HostKeeper(config)

    def ready(address: str) -> None:
        if as_json:
            show_line({"url": address})
        else:
            typer.echo(f"vlglab serving at {address}")
        if not no_host:
            keeper.start()

    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _run(application, listening, ready)
    except KeyboardInterrupt:
        log.info("the service has stopped")
    finally:
        listening.close()
        keeper.stop(end_host=stop_host)


def _run(application: FastAPI, listening: socket.socket, ready: Callable[[str], None]) -> None:
    """Serves on an open socket until a signal; calls `ready` with its address once it answers."""
    import uvicorn

    name, port = listening.getsockname()[:2]
    shown = f"[{name}]" if ":" in name else name
    config = uvicorn.Config(
        application, log_config=None, access_log=False, timeout_graceful_shutdown=SHUTDOWN_S,
        timeout_keep_alive=KEEP_ALIVE_S,
    )  # fmt: skip
    feed: Feed = application.state.parts.feed
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:  # uvloop's, where it is installed
        server = uvicorn.Server(config)
        runner.run(_announced(server, listening, feed, lambda: ready(f"http://{shown}:{port}")))


async def _announced(
    server: uvicorn.Server, listening: socket.socket, feed: Feed, announce: Callable[[], None]
) -> None:
    """Runs the server; calls `announce` once it answers, and ends streams as soon as it is told to stop."""
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    if server.started:
        announce()
    while not server.should_exit and not serving.done():
        await asyncio.sleep(STOP_LOOK_S)
    feed.close()  # uvicorn waits for open connections, and streams would stay open
    await serving


def _bind(config: Settings) -> socket.socket:
    """A socket that listens where the settings say.

    Raises:
        InvalidInput: the address is taken, or no address of this machine.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    # With its protocol named, for else asyncio leaves Nagle's algorithm on: an answer is sent in two pieces, and the
    # second would wait 40 ms for the client to acknowledge the first.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((config.host, config.port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise InvalidInput(
            f"cannot listen on {config.host}:{config.port} ({error.strerror or error}); "
            "give another with --port (0 takes a free one), or stop what listens there"
        ) from error
    return listening


def _write_first_token(config: Settings, path: Path, *, quiet: bool) -> None:
    """Makes an admin's token where no admin has one, and writes it to a file that only this user can read."""
    from service.first_token import write_first_token

    if write_first_token(config, path):
        typer.echo(f"an admin's token stands in {path}; show it as VLGLAB_API_TOKEN", err=quiet)


def _interrupt(*_: object) -> None:
    """SIGTERM ends the service as Ctrl-C does."""
    raise KeyboardInterrupt

"""Run an ASGI application on a socket of ours: uvicorn on asyncio, hypercorn on trio."""

from __future__ import annotations

import signal
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio

from orchestra.errors import BadConfig

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from starlette.types import ASGIApp

__all__ = ["address_of", "bind", "serve_hypercorn", "serve_uvicorn", "wait_for_signal"]

BACKLOG = 1024
GRACE_SECONDS = 10
KEEP_ALIVE_SECONDS = 30


def bind(listen: str) -> socket.socket:
    """Open the socket to listen on: host:port, [ipv6]:port or unix:path."""
    if listen.startswith("unix:"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(listen.removeprefix("unix:"))
    else:
        host, _, port = listen.rpartition(":")
        if not host or not port.isdigit():
            raise BadConfig("listen", listen, "host:port, or unix:path")
        listener = socket.create_server(
            (host.strip("[]"), int(port)),
            family=socket.AF_INET6 if ":" in host else socket.AF_INET,
            backlog=BACKLOG,
        )
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def address_of(listener: socket.socket) -> str:
    """Return where clients find it."""
    if listener.family is socket.AF_UNIX:
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def serve_uvicorn(
    app: ASGIApp, listener: socket.socket, stop: Callable[[], Awaitable[None]]
) -> None:
    """Serve on the asyncio loop that runs, until `stop` returns; then finish what goes on."""
    import uvicorn

    config = uvicorn.Config(
        app,
        lifespan="on",
        access_log=False,
        log_level="warning",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )

    class Server(uvicorn.Server):
        """A server that leaves the program's signals alone."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    server = Server(config)

    async def wait() -> None:
        await stop()
        server.should_exit = True

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await server.serve(sockets=[listener])
        group.cancel_scope.cancel()
    if not server.started:
        raise BadConfig("applications", "one that cannot be opened", "all of them; see above")


async def serve_hypercorn(
    app: ASGIApp, listener: socket.socket, stop: Callable[[], Awaitable[None]]
) -> None:
    """Serve on the trio loop that runs, until `stop` returns; then finish what goes on."""
    from hypercorn.config import Config
    from hypercorn.trio import serve

    config = Config()
    config.bind = [f"fd://{listener.dup().detach()}"]  # which it closes
    config.graceful_timeout = GRACE_SECONDS
    config.keep_alive_timeout = KEEP_ALIVE_SECONDS
    config.errorlog = None
    wanted: Any = app
    await serve(wanted, config, shutdown_trigger=stop, mode="asgi")


async def wait_for_signal() -> None:
    """Return at the first SIGINT or SIGTERM."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            return

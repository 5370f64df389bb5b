"""Run an ASGI application on a socket of ours: uvicorn on asyncio, hypercorn on trio."""

from __future__ import annotations

import logging
import signal
import socket
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from orchestra.errors import BadConfig
from orchestra.http.app import House
from orchestra.http.config import DRAIN_SECONDS, UNIX, load_serve_config, read_address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from starlette.types import ASGIApp

    from orchestra.http.config import ServeConfig
    from orchestra.sched.events import Logger

    Server = Callable[
        [ASGIApp, socket.socket, Callable[[], Awaitable[None]], float], Awaitable[None]
    ]

__all__ = [
    "address_of",
    "listening",
    "reread_at_signal",
    "serve_applications",
    "serve_hypercorn",
    "serve_uvicorn",
    "wait_for_signal",
]

BACKLOG = 1024
LAST_SECONDS = 5  # for requests that are told that we do not wait for them
KEEP_ALIVE_SECONDS = 30


@contextmanager
def listening(listen: str) -> Iterator[socket.socket]:
    """Open the socket to listen on: host:port, [ipv6]:port or unix:path, which goes at the end.

    Raises BadConfig when it is none of these, OSError that names it when it cannot be had.
    """
    try:
        listener = _bind(listen)
    except OSError as error:
        raise OSError(error.errno, error.strerror, listen) from error
    try:
        listener.listen(BACKLOG)
        listener.setblocking(False)
        yield listener
    finally:
        listener.close()
        if listen.startswith(UNIX):
            Path(listen.removeprefix(UNIX)).unlink(missing_ok=True)


def _bind(listen: str) -> socket.socket:
    address = read_address(listen)
    if isinstance(address, Path):
        return _bind_path(address)
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    listener = socket.create_server(address, family=family)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # inherited; asyncio forgets
    return listener


def _bind_path(path: Path) -> socket.socket:
    """Bind it, also where a server that was killed has left its socket."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        if path.is_socket() and not _is_served(path):
            path.unlink()
        listener.bind(str(path))
    except BaseException:
        listener.close()
        raise
    return listener


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client, suppress(ConnectionRefusedError):
        client.connect(str(path))
        return True
    return False


def address_of(listener: socket.socket) -> str:
    """Return where clients find it."""
    if listener.family is socket.AF_UNIX:
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def serve_uvicorn(
    app: ASGIApp,
    listener: socket.socket,
    stop: Callable[[], Awaitable[None]],
    drain_seconds: float = DRAIN_SECONDS,
) -> None:
    """Serve on the asyncio loop that runs, until `stop` returns; then finish what goes on.

    What is not finished `LAST_SECONDS` after `drain_seconds` is cut.
    """
    import uvicorn

    last: Any = drain_seconds + LAST_SECONDS  # a float will do
    config = uvicorn.Config(
        app,
        lifespan="on",
        access_log=False,
        log_config=None,  # the program's is ours
        log_level="warning",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=last,
    )

    class Quiet(uvicorn.Server):
        """A server that leaves the program's signals alone."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    server = Quiet(config)

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
    app: ASGIApp,
    listener: socket.socket,
    stop: Callable[[], Awaitable[None]],
    drain_seconds: float = DRAIN_SECONDS,
) -> None:
    """Serve on the trio loop that runs, until `stop` returns; see `serve_uvicorn`."""
    from hypercorn.config import Config
    from hypercorn.trio import serve

    config = Config()
    config.bind = [f"fd://{listener.dup().detach()}"]  # which it closes
    config.graceful_timeout = drain_seconds + LAST_SECONDS
    config.keep_alive_timeout = KEEP_ALIVE_SECONDS
    config.errorlog = logging.getLogger("hypercorn.error")
    config.errorlog.setLevel(logging.WARNING)
    wanted: Any = app
    await serve(wanted, config, shutdown_trigger=stop, mode="asgi")


async def serve_applications(
    serve: Server,
    config: ServeConfig,
    listener: socket.socket,
    stop: Callable[[], Awaitable[None]],
    logger: Logger | None = None,
    reread: Callable[[], AsyncIterator[ServeConfig]] | None = None,
) -> None:
    """Answer at once whether we live, and all else when the applications are open.

    When `stop` returns, requests have the config's `drain_seconds` to end; then the applications
    are closed, which ends those that take longer; opening is given up. From the configs of
    `reread` it is taken who may ask and how much they may send.
    """
    house = House()
    served, failed = anyio.Event(), anyio.Event()

    async def stopped() -> None:
        async with anyio.create_task_group() as group:
            for event in (stop, failed.wait):
                group.start_soon(_cancel_after, event, group.cancel_scope)
        house.ending.set()
        if not house.ready:
            opening.cancel()

    async def answer() -> None:
        await serve(house.guarded(config, logger), listener, stopped, config.drain_seconds)
        served.set()
        house.ending.set()

    async def read_again() -> None:
        if reread is not None:
            async for changed in reread():
                house.admit(changed)

    async with anyio.create_task_group() as group:
        group.start_soon(answer)
        group.start_soon(read_again)
        with anyio.CancelScope() as opening:
            try:
                async with house.opened(config, logger):
                    await house.ending.wait()
                    with anyio.move_on_after(config.drain_seconds):
                        await served.wait()
            except Exception:  # the server leaves in order, rather than by a cancellation
                failed.set()
                with anyio.CancelScope(shield=True):
                    await served.wait()
                raise
        group.cancel_scope.cancel()


async def _cancel_after(event: Callable[[], Awaitable[None]], scope: anyio.CancelScope) -> None:
    await event()
    scope.cancel()


async def wait_for_signal() -> None:
    """Return at the first SIGINT or SIGTERM."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            return


async def reread_at_signal(path: Path, logger: Logger) -> AsyncIterator[ServeConfig]:
    """Yield the config in a file at each SIGHUP; one that cannot be is told, and passed over."""
    with anyio.open_signal_receiver(signal.SIGHUP) as signals:
        async for _ in signals:
            try:
                config = load_serve_config(path)
            except BadConfig as error:
                logger.warning("config.refused", file=str(path), error=str(error))
            else:
                logger.info("config.read", file=str(path))
                yield config

"""What every request is given: a number, a line in the log, a count, and a span to be within."""

from __future__ import annotations

import re
import time
from contextlib import nullcontext
from secrets import token_hex
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from structlog.contextvars import bound_contextvars

from orchestra.http.spans import serving
from orchestra.sched.statistics import Histogram

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from orchestra.sched.events import Logger
    from orchestra.sched.statistics import HistogramSnapshot
    from orchestra.sched.tracing import Tracer

__all__ = ["HTTP_EVENTS", "ROUTE", "Access", "Traffic"]

# Events of a server. A request is told at info; at warning when it is our failure, at debug when it
# is a machine that polls.
HTTP_EVENTS = MappingProxyType(
    {
        "request.ended": (
            *("request_id", "method", "path", "status", "duration"),
            *("received_bytes", "sent_bytes", "client"),
        ),
        "server.listening": ("address", "applications"),
        "server.stopped": ("duration",),
        "config.read": ("file",),  # again
        "config.refused": ("file", "error"),
    }
)
POLLED = ("/health", "/ready", "/metrics", "/statistics")
ROUTE = "orchestra.route"  # where a scope has the pattern of the path that was asked for
IDENTITY = re.compile(rb"[\w.:/+=-]{1,128}")
FAILED, GONE = 500, 499  # what is noted when nothing was sent, and when the client left before


class Traffic:
    """Requests by route and status, and how long they took by route; used on one loop."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}
        self._durations: dict[str, Histogram] = {}

    def add(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        key = route, str(status)
        self._counts[key] = self._counts.get(key, 0) + 1
        self._durations.setdefault(route, Histogram()).add(seconds)

    def counts(self) -> list[tuple[tuple[str, str], float]]:
        """Return how many there were."""
        return list(self._counts.items())

    def durations(self) -> Iterator[tuple[tuple[str], HistogramSnapshot]]:
        """Yield how long they took."""
        for route, histogram in self._durations.items():
            yield (route,), histogram.snapshot()


class Exchange:
    """One request and its answer, as far as it came."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        self.identity = given.decode() if IDENTITY.fullmatch(given) else token_hex(16)
        self.status = FAILED
        self.received_bytes = self.sent_bytes = 0
        self.began = time.perf_counter()
        self._receive = receive
        self._send = send

    @property
    def headers(self) -> dict[str, str]:
        """What came with it."""
        return {
            name.decode("latin-1"): value.decode("latin-1") for name, value in self.scope["headers"]
        }

    @property
    def route(self) -> str:
        """The pattern of its path; empty when there is none such."""
        return str(self.scope.get(ROUTE, ""))

    async def receive(self) -> Message:
        """Receive for the application."""
        message = await self._receive()
        self.received_bytes += len(message.get("body", b""))
        if message["type"] == "http.disconnect" and self.status == FAILED:
            self.status = GONE
        return message

    async def send(self, message: Message) -> None:
        """Send for the application, and the request's number."""
        if message["type"] == "http.response.start":
            if self.status != GONE:
                self.status = message["status"]
            number = (b"x-request-id", self.identity.encode())
            message = {**message, "headers": [*message.get("headers", ()), number]}
        self.sent_bytes += len(message.get("body", b""))
        await self._send(message)


class Access:
    """ASGI middleware around all else.

    The number is the client's `X-Request-ID` or a new one; it is sent back, and everything that is
    logged meanwhile has it, through structlog's context.
    """

    def __init__(
        self, app: ASGIApp, traffic: Traffic, logger: Logger | None, tracer: Tracer | None
    ) -> None:
        self.app = app
        self.traffic = traffic
        self._logger = logger
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send)
        span: Any = serving(self._tracer, exchange) if self._tracer is not None else nullcontext()
        logged: Any = nullcontext()
        if self._logger is not None:
            logged = bound_contextvars(request_id=exchange.identity)
        with logged:
            try:
                with span:
                    await self.app(scope, exchange.receive, exchange.send)
            finally:
                self._note(exchange)

    def _note(self, exchange: Exchange) -> None:
        seconds = time.perf_counter() - exchange.began
        self.traffic.add(exchange.route, exchange.status, seconds)
        if self._logger is None:
            return
        scope, client = exchange.scope, exchange.scope.get("client")
        tell = self._logger.debug if scope["path"] in POLLED else self._logger.info
        if exchange.status >= FAILED:
            tell = self._logger.warning
        tell(
            "request.ended",
            request_id=exchange.identity,
            method=scope["method"],
            path=scope["path"],
            status=exchange.status,
            duration=seconds,
            received_bytes=exchange.received_bytes,
            sent_bytes=exchange.sent_bytes,
            client=client[0] if client else "",
        )

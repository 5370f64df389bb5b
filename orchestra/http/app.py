"""The ASGI application: a fleet's applications under names, each advanced and inspected."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
from anyio import to_thread
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from orchestra.errors import MachineClosed, OrchestraError
from orchestra.http.guard import Guard
from orchestra.http.metrics import Metrics, disk_bytes, resident_bytes
from orchestra.http.openapi import describe
from orchestra.http.wire import (
    BodyTooLong,
    Parameters,
    as_json,
    error_response,
    event_text,
    outcome_body,
)
from orchestra.machine.request import Outcome
from orchestra.sched.fleet import open_fleet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from starlette.requests import Request
    from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

    from orchestra.http.config import ServeConfig
    from orchestra.machine.request import Event
    from orchestra.sched.application import Application
    from orchestra.sched.events import Call, Logger
    from orchestra.sched.fleet import Fleet

__all__ = ["create_app", "serving_app"]

EVENTS = "text/event-stream"
METRICS = "text/plain; version=0.0.4; charset=utf-8"
BAD_REQUEST, HOST_FAILED = 400, 500


def create_app(
    fleet: Fleet,
    applications: Mapping[str, Application],
    *,
    token: str | None = None,
    public_inspect: bool = False,
    max_body: int = 2 << 20,
) -> ASGIApp:
    """Make an ASGI application of what is open already, to mount in a program of one's own."""
    house = House()
    house.open(fleet, applications)
    return Guard(Starlette(routes=house.routes()), token, max_body, public_inspect=public_inspect)


def serving_app(config: ServeConfig, *, logger: Logger | None = None) -> ASGIApp:
    """Make an ASGI application that opens fleet and applications itself, in its lifespan."""
    house = House()
    return house.guarded(config, lambda _: house.opened(config, logger))


class House:
    """What the routes lead to."""

    def __init__(self) -> None:
        self.applications: Mapping[str, Application] = {}
        self.metrics: Metrics | None = None
        self.fleet: Fleet | None = None

    def open(self, fleet: Fleet, applications: Mapping[str, Application]) -> None:
        """Answer from now on."""
        self.applications, self.metrics, self.fleet = applications, Metrics(fleet), fleet

    def close(self) -> None:
        """Be there, but not ready."""
        self.applications, self.metrics, self.fleet = {}, None, None

    @property
    def ready(self) -> bool:
        """Whether the applications are open."""
        return self.fleet is not None

    @asynccontextmanager
    async def opened(self, config: ServeConfig, logger: Logger | None) -> AsyncIterator[None]:
        """Open the fleet and the applications of a config, and answer for them."""
        async with (
            open_fleet(config.workers, logger=logger) as fleet,
            AsyncExitStack() as stack,
        ):
            applications = {}
            for name, wanted in config.applications.items():
                opening = fleet.application(
                    wanted.directory, wanted.load_genesis(), wanted.settings, name=name
                )
                applications[name] = await stack.enter_async_context(opening)
            self.open(fleet, applications)
            try:
                yield
            finally:
                self.close()

    def guarded(self, config: ServeConfig, lifespan: Lifespan[Starlette] | None = None) -> ASGIApp:
        """Make the ASGI application of it."""
        inner = Starlette(routes=self.routes(), lifespan=lifespan)
        return Guard(inner, config.token, config.max_body, public_inspect=config.public_inspect)

    def routes(self) -> list[Route]:
        """List what can be asked."""
        one = "/applications/{name}"
        return [
            Route("/health", self._health),
            Route("/ready", self._ready),
            Route("/metrics", guarded(self._metrics)),
            Route("/openapi.json", self._openapi),
            Route("/statistics", guarded(self._statistics)),
            Route("/applications", guarded(self._list)),
            Route(one, guarded(self._show)),
            Route(f"{one}/advance", guarded(self._advance), methods=["POST"]),
            Route(f"{one}/inspect", guarded(self._inspect), methods=["POST"]),
            Route(f"{one}/snapshot", guarded(self._snapshot), methods=["POST"]),
            Route(f"{one}/inputs/{{number:int}}", guarded(self._input)),
        ]

    async def _health(self, _: Request) -> Response:
        return as_json({"status": "ok"})

    async def _ready(self, _: Request) -> Response:
        if self.metrics is None:
            return error_response(MachineClosed("not all applications are open"))
        return as_json({"status": "ready", "applications": sorted(self.applications)})

    async def _metrics(self, _: Request) -> Response:
        if self.metrics is None:
            raise MachineClosed("the fleet is not open")
        return Response(self.metrics.text(), media_type=METRICS)

    async def _statistics(self, _: Request) -> Response:
        if self.fleet is None:
            raise MachineClosed("the fleet is not open")
        now = self.fleet.statistics()
        folders = {name: app.directory for name, app in self.applications.items()}
        disk = await to_thread.run_sync(lambda: {n: disk_bytes(p) for n, p in folders.items()})
        return as_json({"fleet": now, "memory_bytes": resident_bytes(), "disk_bytes": disk})

    async def _openapi(self, _: Request) -> Response:
        return as_json(describe())

    async def _list(self, _: Request) -> Response:
        return as_json({name: _state(app) for name, app in self.applications.items()})

    async def _show(self, request: Request) -> Response:
        return as_json(_state(self._find(request)))

    async def _advance(self, request: Request) -> Response:
        app = self._find(request)
        wanted = Parameters.read(request.query_params)
        payload = await request.body()
        limits = wanted.limits(app.settings.limits)
        options: dict[str, Any] = {"number": wanted.number, "wait": wanted.wait}
        if _wants_events(request):
            return EventStream(app.advancing(payload, limits, **options), wanted)
        return _answer(await app.advance(payload, limits, **options), wanted)

    async def _inspect(self, request: Request) -> Response:
        app = self._find(request)
        wanted = Parameters.read(request.query_params)
        query = await request.body()
        limits = wanted.limits(app.settings.inspect_limits)
        if _wants_events(request):
            return EventStream(app.inspecting(query, limits, wait=wanted.wait), wanted)
        outcome: Outcome | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(_cancel_when_gone, request.receive, group.cancel_scope)
            outcome = await app.inspect(query, limits, wait=wanted.wait)
            group.cancel_scope.cancel()
        if outcome is None:  # nobody will read it
            return Response(status_code=204)
        return _answer(outcome, wanted)

    async def _snapshot(self, request: Request) -> Response:
        app = self._find(request)
        path = await app.snapshot()
        return as_json({"directory": str(path), "inputs": int(path.name)})

    async def _input(self, request: Request) -> Response:
        wanted = Parameters.read(request.query_params)
        outcome = await self._find(request).outcome(request.path_params["number"])
        return as_json(outcome_body(outcome, wanted.encoding))

    def _find(self, request: Request) -> Application:
        if self.metrics is None:
            raise MachineClosed("the applications are not open")
        return self.applications[request.path_params["name"]]


class EventStream(Response):
    """What a guest says as it comes, and how it ends; a client that goes away cancels the call.

    The status is sent with the first event, so that what never begins is an error like others.
    """

    media_type = EVENTS

    def __init__(self, calling: AbstractAsyncContextManager[Call], wanted: Parameters) -> None:
        super().__init__(headers={"Cache-Control": "no-store"})
        del self.headers["content-length"]
        self._calling = calling
        self._wanted = wanted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the connection."""
        try:
            async with self._calling as call, anyio.create_task_group() as group:
                group.start_soon(_cancel_when_gone, receive, group.cancel_scope)
                await self._tell(call, scope, receive, send)
                group.cancel_scope.cancel()
        except OrchestraError as error:  # it was not let in
            await error_response(error)(scope, receive, send)

    async def _tell(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        encoding = self._wanted.encoding
        first: Event | Outcome | None = await anext(call, None)
        try:
            if first is None:
                first = await call.outcome()
        except OrchestraError as error:
            await error_response(error)(scope, receive, send)
            return
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        body = {"type": "http.response.body", "more_body": True}
        await send(body | {"body": event_text(first, encoding)})
        try:
            if not isinstance(first, Outcome):
                async for event in call:
                    await send(body | {"body": event_text(event, encoding)})
                await send(body | {"body": event_text(await call.outcome(), encoding)})
        except OrchestraError as error:
            await send(body | {"body": event_text(error, encoding)})
        await send(body | {"body": b"", "more_body": False})


def guarded(
    handler: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    """Turn errors into responses."""

    async def guarded_handler(request: Request) -> Response:
        try:
            return await handler(request)
        except (OrchestraError, KeyError, BodyTooLong) as error:
            return error_response(error)
        except ValueError as error:  # a parameter, a payload
            return error_response(error, BAD_REQUEST)
        except BaseExceptionGroup as group:
            known, rest = group.split(OrchestraError)
            if known is None or rest is not None:
                raise
            return error_response(_first(known))

    return guarded_handler


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _answer(outcome: Outcome, wanted: Parameters) -> Response:
    status = HOST_FAILED if outcome.status == "failed" else 200
    return as_json(outcome_body(outcome, wanted.encoding), status)


def _wants_events(request: Request) -> bool:
    return EVENTS in request.headers.get("accept", "")


async def _cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    """Cancel what nobody waits for any more."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def _state(app: Application) -> dict[str, Any]:
    now = app.statistics()
    return {
        "inputs": now.inputs,
        "cycle": now.cycle,
        "state_hash": app.state_hash,
        "statuses": now.statuses,
        "waiting": now.waiting,
        "snapshot": now.snapshot,
        "inspects": {
            name: getattr(now.pool, name) for name in ("running", "waiting", "ended", "refused")
        },
    }

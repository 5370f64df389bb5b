"""The ASGI application: a fleet's applications under names, each advanced and inspected."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from orchestra.errors import MachineClosed, OrchestraError
from orchestra.http.access import ROUTE, Access, Traffic
from orchestra.http.guard import Guard
from orchestra.http.metrics import Metrics
from orchestra.http.occupation import Disks, resident_bytes
from orchestra.http.openapi import describe
from orchestra.http.stream import EVENTS, EventStream, gone, say_call, say_inputs
from orchestra.http.wire import (
    Advancing,
    BodyTooLong,
    Inspecting,
    Looking,
    NotFound,
    Reading,
    Tailing,
    as_json,
    error_response,
    input_body,
    outcome_body,
)
from orchestra.sched.fleet import open_fleet
from orchestra.sched.tracing import find_tracer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from starlette.requests import Request
    from starlette.types import ASGIApp, Lifespan

    from orchestra.http.config import ServeConfig
    from orchestra.machine.request import Outcome
    from orchestra.sched.application import Application
    from orchestra.sched.events import Logger
    from orchestra.sched.fleet import Fleet

__all__ = ["create_app", "serving_app"]

METRICS = "text/plain; version=0.0.4; charset=utf-8"
HOST_FAILED = 500


def create_app(
    fleet: Fleet,
    applications: Mapping[str, Application],
    *,
    token: str | None = None,
    public_inspect: bool = False,
    max_body: int = 2 << 20,
    logger: Logger | None = None,
) -> ASGIApp:
    """Make an ASGI application of what is open already, to mount in a program of one's own.

    The mapping is looked up at each request: put another application under a name, and it answers
    from then on, while the one before it finishes what it has begun.
    """
    house = House()
    house.open(fleet, applications)
    guard = Guard(house.site(), token, max_body, public_inspect=public_inspect)
    return Access(guard, house.traffic, logger, find_tracer())


def serving_app(config: ServeConfig, *, logger: Logger | None = None) -> ASGIApp:
    """Make an ASGI application that opens fleet and applications itself, in its lifespan."""
    house = House()
    return house.guarded(config, logger, lambda _: house.opened(config, logger))


class House:
    """What the routes lead to."""

    def __init__(self) -> None:
        self.applications: Mapping[str, Application] = {}
        self.metrics: Metrics | None = None
        self.fleet: Fleet | None = None
        self.traffic = Traffic()
        self._guards: list[Guard] = []
        self.ending = anyio.Event()  # streams without an end, end
        self._disks = Disks(
            lambda: {name: app.directory for name, app in self.applications.items()}
        )

    def open(self, fleet: Fleet, applications: Mapping[str, Application]) -> None:
        """Answer from now on."""
        self.applications, self.fleet = applications, fleet
        self.metrics = Metrics(fleet, self.traffic)

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

    def guarded(
        self,
        config: ServeConfig,
        logger: Logger | None,
        lifespan: Lifespan[Starlette] | None = None,
    ) -> ASGIApp:
        """Make the ASGI application of it."""
        inner = self.site(lifespan)
        guard = Guard(inner, config.token, config.max_body, public_inspect=config.public_inspect)
        self._guards.append(guard)
        return Access(guard, self.traffic, logger, find_tracer())

    def admit(self, config: ServeConfig) -> None:
        """Let in from now on whom a config lets in, with as much as it lets them send."""
        for guard in self._guards:
            guard.token, guard.max_body = config.token, config.max_body
            guard.public_inspect = config.public_inspect

    def site(self, lifespan: Lifespan[Starlette] | None = None) -> Starlette:
        """Make what answers, all errors in one shape."""
        errors: dict[Any, Any] = {HTTPException: _refused, Exception: _refused}
        site = Starlette(routes=self.routes(), lifespan=lifespan, exception_handlers=errors)
        site.router.redirect_slashes = False
        return site

    def routes(self) -> list[Route]:
        """List what can be asked."""
        one = "/applications/{name}"
        return [
            route(f"{one}/inspect", self._inspect, "POST"),
            route(f"{one}/advance", self._advance, "POST"),
            route("/health", self._health),
            route("/ready", self._ready),
            route("/metrics", self._metrics),
            route("/openapi.json", self._openapi),
            route("/statistics", self._statistics),
            route("/applications", self._list),
            route(one, self._show),
            route(f"{one}/snapshot", self._snapshot, "POST"),
            route(f"{one}/inputs", self._inputs),
            route(f"{one}/inputs/{{number:int}}", self._input),
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
        metrics, disks = self.metrics, await self._disks.look()
        return Response(metrics.text(disks), media_type=METRICS)

    async def _statistics(self, request: Request) -> Response:
        wanted = Looking.read(request.query_params)
        disks = await self._disks.look()
        if self.fleet is None:
            raise MachineClosed("the fleet is not open")
        now = self.fleet.statistics(busiest=wanted.busiest)
        return as_json({"fleet": now, "memory_bytes": resident_bytes(), "disks": disks})

    async def _openapi(self, _: Request) -> Response:
        return as_json(describe())

    async def _list(self, _: Request) -> Response:
        return as_json({name: _state(app) for name, app in self.applications.items()})

    async def _show(self, request: Request) -> Response:
        return as_json(_state(self._find(request)))

    async def _advance(self, request: Request) -> Response:
        app = self._find(request)
        wanted = Advancing.read(request.query_params)
        payload = await request.body()
        limits = wanted.limits(app.settings.limits)
        options: dict[str, Any] = {"number": wanted.number, "wait": wanted.wait}
        if _wants_events(request):
            return EventStream(app.advancing(payload, limits, **options), say_call(wanted))
        return _answer(await app.advance(payload, limits, **options), wanted)

    async def _inspect(self, request: Request) -> Response:
        app = self._find(request)
        wanted = Inspecting.read(request.query_params)
        query = await request.body()
        limits = wanted.limits(app.settings.inspect_limits)
        if _wants_events(request):
            return EventStream(app.inspecting(query, limits, wait=wanted.wait), say_call(wanted))
        left = partial(gone, request.receive)
        outcome = await app.pool.inspect_until(left, query, limits, wait=wanted.wait)
        return _answer(outcome, wanted)

    async def _snapshot(self, request: Request) -> Response:
        app = self._find(request)
        path = await app.snapshot()
        return as_json({"directory": str(path), "inputs": int(path.name)})

    async def _inputs(self, request: Request) -> Response:
        app = self._find(request)
        wanted = Tailing.read(request.query_params)
        after = request.headers.get("last-event-id", "")
        number = int(after) if after else wanted.after
        try:
            following = app.follow(number)
        except KeyError:
            has = f"the log has {app.first_input} to {app.inputs}"
            raise NotFound(f"no input {number} to go on after: {has}") from None
        return EventStream(nullcontext(following), say_inputs(wanted), self.ending)

    async def _input(self, request: Request) -> Response:
        app, number = self._find(request), request.path_params["number"]
        wanted = Reading.read(request.query_params)
        if not app.first_input <= number <= app.inputs:
            raise NotFound(f"no input {number}")
        payload, outcome = await anext(app.follow(number - 1))
        return as_json(input_body(payload, outcome, wanted.encoding))

    def _find(self, request: Request) -> Application:
        if self.metrics is None:
            raise MachineClosed("the applications are not open")
        name = request.path_params["name"]
        app = self.applications.get(name)
        if app is None:
            raise NotFound(f"no application {name!r}")
        return app


def route(
    path: str, handler: Callable[[Request], Awaitable[Response]], method: str = "GET"
) -> Route:
    """Lead a path to its handler; the errors that we know are responses."""

    async def guarded(request: Request) -> Response:
        request.scope[ROUTE] = path
        try:
            return await handler(request)
        except (OrchestraError, NotFound, BodyTooLong, ValueError) as error:
            return error_response(error)
        except BaseExceptionGroup as group:
            known, rest = group.split(OrchestraError)
            if known is None or rest is not None:
                raise
            return error_response(_first(known))

    return Route(path, guarded, methods=[method])


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _refused(_: Request, error: Exception) -> Response:
    return error_response(error)


def _answer(outcome: Outcome, wanted: Reading) -> Response:
    status = HOST_FAILED if outcome.status == "failed" else 200
    return as_json(outcome_body(outcome, wanted.encoding), status)


def _wants_events(request: Request) -> bool:
    return EVENTS in request.headers.get("accept", "")


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

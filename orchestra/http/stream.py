"""Answers that come bit by bit: what a guest says, what becomes of inputs (text/event-stream)."""

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import anyio
from starlette.responses import Response

from orchestra.errors import OrchestraError
from orchestra.http.wire import error_response, event_text, input_text

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from starlette.types import Receive, Scope, Send

    from orchestra.http.wire import Reading
    from orchestra.sched.events import Call
    from orchestra.sched.input_log import InputOutcome

__all__ = ["EVENTS", "EventStream", "gone", "say_call", "say_inputs"]

T = TypeVar("T")
EVENTS = "text/event-stream"
BEAT_SECONDS = 15
BODY = {"type": "http.response.body", "body": b"", "more_body": True}


class EventStream(Response):
    """What is said as it comes, until its end or `ending`; a client that goes away cancels it.

    The status is sent with the first event, so that what never begins is an error like others.
    While nothing is said after that, comments keep proxies and clients from giving up.
    """

    media_type = EVENTS

    def __init__(
        self,
        opening: AbstractAsyncContextManager[T],
        say: Callable[[T], AsyncGenerator[bytes]],
        ending: anyio.Event | None = None,
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store"})
        del self.headers["content-length"]
        self._opening = opening
        self._say = say
        self._ending = ending
        self._lasts = False  # it has begun, and not ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the connection."""
        try:
            async with (
                self._opening as source,
                aclosing(self._say(source)) as events,
                anyio.create_task_group() as group,
            ):
                group.start_soon(_cancel_after, partial(gone, receive), group.cancel_scope)
                if self._ending is not None:
                    group.start_soon(_cancel_after, self._ending.wait, group.cancel_scope)
                group.start_soon(self._beat, send)
                await self._tell(events, scope, receive, send)
                group.cancel_scope.cancel()
        except OrchestraError as error:  # it was not let in
            await error_response(error)(scope, receive, send)
        if self._ending is not None and self._ending.is_set():
            await send(BODY | {"more_body": False})

    async def _tell(
        self, events: AsyncIterator[bytes], scope: Scope, receive: Receive, send: Send
    ) -> None:
        try:
            first = await anext(events)
        except OrchestraError as error:
            await error_response(error)(scope, receive, send)
            return
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        await send(BODY | {"body": first})
        self._lasts = True
        try:
            async for event in events:
                await send(BODY | {"body": event})
        except OrchestraError as error:
            await send(BODY | {"body": event_text(error)})
        self._lasts = False
        await send(BODY | {"more_body": False})

    async def _beat(self, send: Send) -> None:
        while True:
            await anyio.sleep(BEAT_SECONDS)
            if self._lasts:
                await send(BODY | {"body": b":\n\n"})


def say_call(wanted: Reading) -> Callable[[Call], AsyncGenerator[bytes]]:
    """Tell what a guest says, and how it ended."""

    async def say(call: Call) -> AsyncGenerator[bytes]:
        async for event in call:
            yield event_text(event, wanted.encoding)
        yield event_text(await call.outcome(), wanted.encoding)

    return say


def say_inputs(
    wanted: Reading,
) -> Callable[[AsyncIterator[tuple[bytes, InputOutcome]]], AsyncGenerator[bytes]]:
    """Tell inputs and what became of them; and at once, that there may be none yet."""

    async def say(inputs: AsyncIterator[tuple[bytes, InputOutcome]]) -> AsyncGenerator[bytes]:
        yield b": following\n\n"
        async for payload, outcome in inputs:
            yield input_text(payload, outcome, wanted.encoding)

    return say


async def gone(receive: Receive) -> None:
    """Return when the client is not there any more."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancel_after(event: Callable[[], Awaitable[object]], scope: anyio.CancelScope) -> None:
    await event()
    scope.cancel()

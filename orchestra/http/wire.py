"""What goes over the wire: parameters in, outcomes and events out, errors as statuses."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from starlette.responses import Response

from orchestra.errors import (
    AtCapacity,
    BackingFault,
    BadConfig,
    InputConflict,
    LogFault,
    MachineBusy,
    MachineClosed,
)
from orchestra.machine.request import Limits, Outcome, Output, Progress
from orchestra.sched.input_log import InputOutcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestra.machine.request import Event

__all__ = [
    "BodyTooLong",
    "ErrorBody",
    "EventBody",
    "OutcomeBody",
    "Parameters",
    "as_json",
    "error_response",
    "event_text",
    "outcome_body",
]


class BodyTooLong(Exception):
    """More was sent than is read."""

    def __init__(self, most: int) -> None:
        super().__init__(f"send at most {most} bytes")


Encoding = Literal["base64", "hex", "text"]
JSON = "application/json"
STATUSES: dict[type[BaseException], int] = {
    AtCapacity: 429,
    BadConfig: 409,
    InputConflict: 409,
    MachineBusy: 409,
    KeyError: 404,
    BackingFault: 503,
    LogFault: 503,
    MachineClosed: 503,
    BodyTooLong: 413,
}
RETRY = {429: "1", 503: "5"}  # seconds
Whole = Annotated[int, Meta(ge=0)]


class Parameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The query of a request: limits, encoding of bytes in the answer, the input's number."""

    max_cycles: Whole | None = None
    max_seconds: Annotated[float, Meta(gt=0)] | None = None
    max_output_bytes: Whole | None = None
    encoding: Encoding = "base64"
    wait: bool = False
    number: Annotated[int, Meta(ge=1)] | None = None

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Parameters:
        """Read them from a query string's items; ValueError says what is wrong."""
        return msgspec.convert(dict(query), cls, strict=False)

    def limits(self, usual: Limits) -> Limits:
        """Return the limits of this request: its own where it has some."""
        return Limits(
            max_cycles=usual.max_cycles if self.max_cycles is None else self.max_cycles,
            max_output_bytes=(
                usual.max_output_bytes if self.max_output_bytes is None else self.max_output_bytes
            ),
            max_seconds=usual.max_seconds if self.max_seconds is None else self.max_seconds,
        )


class OutcomeBody(Struct, frozen=True, omit_defaults=True):
    """How a request ended; number, cycle and state_hash are an input's."""

    status: str
    outputs: list[str]
    reports: list[str]
    cycles: int
    seconds: float
    exception: str | None = None
    error: str | None = None
    number: int | None = None
    cycle: int | None = None
    state_hash: str | None = None


class EventBody(Struct, frozen=True, omit_defaults=True):
    """What a guest said on the way."""

    cycle: int
    data: str | None = None
    per_mille: int | None = None


class ErrorBody(Struct, frozen=True):
    """Why there is no answer."""

    error: str
    detail: str


def encode(data: bytes, encoding: Encoding) -> str:
    """Write bytes as text."""
    if encoding == "hex":
        return "0x" + data.hex()
    if encoding == "text":
        return data.decode(errors="backslashreplace")
    return b64encode(data).decode()


def outcome_body(outcome: Outcome, encoding: Encoding) -> OutcomeBody:
    """Say an outcome."""
    exception = outcome.exception
    extra: dict[str, Any] = {}
    if isinstance(outcome, InputOutcome):
        extra = {name: getattr(outcome, name) for name in ("number", "cycle", "state_hash")}
    return OutcomeBody(
        status=outcome.status,
        outputs=[encode(data, encoding) for data in outcome.outputs],
        reports=[encode(data, encoding) for data in outcome.reports],
        cycles=outcome.cycles,
        seconds=outcome.seconds,
        exception=None if exception is None else encode(exception, encoding),
        error=None if outcome.error is None else str(outcome.error),
        **extra,
    )


def event_text(event: Event | Outcome | BaseException, encoding: Encoding) -> bytes:
    """Write an event for a text/event-stream."""
    body: Struct
    if isinstance(event, BaseException):
        name, body = "error", ErrorBody(type(event).__name__, str(event))
    elif isinstance(event, Outcome):
        name, body = "outcome", outcome_body(event, encoding)
    elif isinstance(event, Progress):
        name, body = "progress", EventBody(event.cycle, per_mille=event.per_mille)
    else:
        name = "output" if isinstance(event, Output) else "report"
        body = EventBody(event.cycle, encode(event.data, encoding))
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(body))


def as_json(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Make a response of a body."""
    return Response(msgspec.json.encode(body), status, headers, media_type=JSON)


def error_response(error: BaseException, status: int | None = None) -> Response:
    """Make the response for an error; those that pass say when to come again."""
    if status is None:
        status = next((code for kind, code in STATUSES.items() if isinstance(error, kind)), 500)
    detail = str(error) if not isinstance(error, KeyError) else "there is no such thing here"
    headers = {"Retry-After": RETRY[status]} if status in RETRY else {}
    if isinstance(error, BodyTooLong):  # the rest of it is not read
        headers["Connection"] = "close"
    return as_json(ErrorBody(type(error).__name__, detail), status, headers)

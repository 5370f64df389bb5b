"""What goes over the wire: parameters in, outcomes and events out, errors as statuses."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import msgspec
from msgspec import Meta, Struct
from starlette.exceptions import HTTPException
from starlette.responses import Response

from orchestra.errors import (
    AtCapacity,
    BackingFault,
    BadConfig,
    InputConflict,
    LogFault,
    MachineBusy,
    MachineClosed,
    OrchestraError,
)
from orchestra.machine.request import Limits, Outcome, Output, Progress
from orchestra.sched.input_log import InputOutcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestra.machine.request import Event

__all__ = [
    "RETRY",
    "Advancing",
    "BodyTooLong",
    "ErrorBody",
    "EventBody",
    "InputBody",
    "Inspecting",
    "Looking",
    "NotFound",
    "OutcomeBody",
    "Reading",
    "Tailing",
    "as_json",
    "error_response",
    "event_text",
    "input_body",
    "input_text",
    "outcome_body",
]


class BodyTooLong(Exception):
    """More was sent than is read."""

    def __init__(self, most: int) -> None:
        super().__init__(f"send at most {most} bytes")


class NotFound(Exception):
    """What was asked for is not there."""


Encoding = Literal["base64", "hex", "text"]
JSON = "application/json"
STATUSES: dict[type[BaseException], int] = {
    AtCapacity: 429,
    BadConfig: 409,
    InputConflict: 409,
    MachineBusy: 409,
    NotFound: 404,
    BackingFault: 503,
    LogFault: 503,
    MachineClosed: 503,
    BodyTooLong: 413,
    ValueError: 400,  # a parameter, a payload
}
NAMES = {400: "BadRequest", 404: "NotFound", 405: "MethodNotAllowed", 500: "InternalError"}
ONCE = (
    "The input is taken once under this number: sent again, it is answered from the log. 409 when "
    "it is not the next one, or was another payload."
)
RETRY = {429: "1", 503: "5"}  # seconds
MOST_MACHINES = 1000


def _said(text: str, **bounds: Any) -> Meta:
    return Meta(description=text, **bounds)


class Query(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may stand behind the question mark."""

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Self:
        """Read it from a query string's items; ValueError says what is wrong."""
        return msgspec.convert(dict(query), cls, strict=False)


class Reading(Query, frozen=True, kw_only=True):
    """The query of whoever reads: how bytes are written in the answer."""

    encoding: Annotated[Encoding, _said("How bytes are written in the answer.")] = "base64"


class Tailing(Reading, frozen=True, kw_only=True):
    """The query of whoever follows: the number of the last input it has seen."""

    after: Annotated[int, _said("Begin after this one; Last-Event-ID goes before it.", ge=0)] = 0


class Inspecting(Reading, frozen=True, kw_only=True):
    """The query of an inspect: limits, and whether to wait when there is no room."""

    max_cycles: Annotated[int, _said("Exact, and part of the result.", ge=0)] | None = None
    max_seconds: Annotated[float, _said("Of the host, spent running.", gt=0)] | None = None
    max_output_bytes: Annotated[int, _said("Of outputs and reports together.", ge=0)] | None = None
    wait: Annotated[bool, _said("Wait when there is no room, rather than get 429.")] = False

    def limits(self, usual: Limits) -> Limits:
        """Return the limits of this request: its own where it has some."""
        return Limits(
            max_cycles=usual.max_cycles if self.max_cycles is None else self.max_cycles,
            max_output_bytes=(
                usual.max_output_bytes if self.max_output_bytes is None else self.max_output_bytes
            ),
            max_seconds=usual.max_seconds if self.max_seconds is None else self.max_seconds,
        )


class Advancing(Inspecting, frozen=True, kw_only=True):
    """The query of an advance: the input's number, with which it is taken once."""

    number: Annotated[int, _said(ONCE, ge=1)] | None = None


class Looking(Query, frozen=True, kw_only=True):
    """The query of a look at the statistics: how many machines are told one by one."""

    busiest: Annotated[
        int, _said("How many machines are told one by one.", ge=0, le=MOST_MACHINES)
    ] = 100


class OutcomeBody(Struct, frozen=True, omit_defaults=True, kw_only=True):
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


class InputBody(OutcomeBody, frozen=True, omit_defaults=True, kw_only=True):
    """An input of the log, and how it ended."""

    payload: str


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
    return OutcomeBody(**_outcome(outcome, encoding))


def input_body(payload: bytes, outcome: InputOutcome, encoding: Encoding) -> InputBody:
    """Say an input and its outcome."""
    return InputBody(payload=encode(payload, encoding), **_outcome(outcome, encoding))


def _outcome(outcome: Outcome, encoding: Encoding) -> dict[str, Any]:
    exception = outcome.exception
    found = {
        "status": outcome.status,
        "outputs": [encode(data, encoding) for data in outcome.outputs],
        "reports": [encode(data, encoding) for data in outcome.reports],
        "cycles": outcome.cycles,
        "seconds": outcome.seconds,
        "exception": None if exception is None else encode(exception, encoding),
        "error": None if outcome.error is None else str(outcome.error),
    }
    if isinstance(outcome, InputOutcome):
        found |= {name: getattr(outcome, name) for name in ("number", "cycle", "state_hash")}
    return found


def event_text(event: Event | Outcome | BaseException, encoding: Encoding = "base64") -> bytes:
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


def input_text(payload: bytes, outcome: InputOutcome, encoding: Encoding) -> bytes:
    """Write an input of the log for a text/event-stream: its id is where to go on."""
    body = input_body(payload, outcome, encoding)
    return b"event: input\nid: %d\ndata: %s\n\n" % (body.number or 0, msgspec.json.encode(body))


def as_json(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Make a response of a body."""
    return Response(msgspec.json.encode(body), status, headers, media_type=JSON)


def error_response(error: BaseException) -> Response:
    """Make the response for an error; those that pass say when to come again."""
    if isinstance(error, HTTPException):  # Starlette's: no such path, no such method
        body = ErrorBody(NAMES.get(error.status_code, error.detail), error.detail)
        return as_json(body, error.status_code, dict(error.headers or {}))
    status = next((code for kind, code in STATUSES.items() if isinstance(error, kind)), 500)
    headers = {"Retry-After": RETRY[status]} if status in RETRY else {}
    if isinstance(error, BodyTooLong):  # the rest of it is not read
        headers["Connection"] = "close"
    if isinstance(error, (OrchestraError, BodyTooLong)):
        return as_json(ErrorBody(type(error).__name__, str(error)), status, headers)
    detail = str(error) if status in (400, 404) else "unforeseen; the server's log says more"
    return as_json(ErrorBody(NAMES[status], detail), status, headers)

"""The description of the HTTP interface, for whoever generates clients (OpenAPI 3.1)."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import msgspec

from orchestra.http.wire import (
    RETRY,
    Advancing,
    ErrorBody,
    EventBody,
    InputBody,
    Inspecting,
    Looking,
    OutcomeBody,
    Reading,
    Tailing,
)

__all__ = ["describe", "version"]

BODIES = (OutcomeBody, InputBody, EventBody, ErrorBody)
QUERIES = (Reading, Tailing, Inspecting, Advancing, Looking)
TEXTS = {
    400: "a parameter is wrong",
    401: "no token, or a wrong one",
    404: "no such application or input",
    409: "another input has that number, or this cannot be done now",
    413: "the body is too long",
    429: "too many wait: come again after Retry-After seconds",
    500: "the host failed; status is failed if the guest had begun",
    503: "not open, or the storage failed: come again after Retry-After seconds",
}
NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
LAST = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "The id of the last event seen, as clients send that were cut off.",
    "schema": {"type": "integer"},
}
NUMBER = {"name": "number", "in": "path", "required": True, "schema": {"type": "integer"}}


def describe() -> dict[str, Any]:
    """Return the document."""
    _, bodies = msgspec.json.schema_components(BODIES, ref_template="#/components/schemas/{name}")
    return {
        "openapi": "3.1.0",
        "info": {"title": "orchestra", "version": version()},
        "paths": dict(_paths()),
        "components": {
            "schemas": bodies,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _paths() -> Any:
    one = "/applications/{name}"
    reading, tailing, inspecting, advancing, looking = map(_parameters, QUERIES)
    yield "/health", {"get": _operation("Whether the process lives.", security=[])}
    ready = _operation("Whether all applications are open.", 503, security=[])
    yield "/ready", {"get": ready}
    yield "/metrics", {"get": _operation("Statistics for Prometheus.", 503, content="text/plain")}
    seen = _operation("What the fleet does, for orchestra top.", 400, 503)
    yield "/statistics", {"parameters": looking, "get": seen}
    yield "/openapi.json", {"get": _operation("This description.")}
    yield "/applications", {"get": _operation("What all applications do.")}
    shown = _operation("What an application does.", 404, 503)
    yield one, {"parameters": [NAME], "get": shown}
    errors = (400, 404, 409, 413, 429, 500, 503)
    yield (
        f"{one}/advance",
        {
            "parameters": [NAME, *advancing],
            "post": _request("Give an input; it is in the log when this answers.", *errors),
        },
    )
    yield (
        f"{one}/inspect",
        {
            "parameters": [NAME, *inspecting],
            "post": _request("Ask a copy of the state after the last input.", *errors),
        },
    )
    stored = _operation("Store the state after the last input.", 404, 409, 503)
    yield f"{one}/snapshot", {"parameters": [NAME], "post": stored}
    summary = "Inputs after a number, in order and as they come: events with an InputBody as data."
    tail = _operation(summary, 400, 404, 503, content="text/event-stream")
    yield f"{one}/inputs", {"parameters": [NAME, LAST, *tailing], "get": tail}
    known = _operation("An input and what became of it.", 400, 404, 503, schema="InputBody")
    yield f"{one}/inputs/{{number}}", {"parameters": [NAME, NUMBER, *reading], "get": known}


def _parameters(query: type) -> list[dict[str, Any]]:
    (reference,), components = msgspec.json.schema_components([query])
    properties = components[reference["$ref"].rpartition("/")[2]]["properties"]
    return [{"name": name, "in": "query", "schema": properties[name]} for name in properties]


def _operation(
    summary: str,
    *errors: int,
    schema: str | None = None,
    content: str = "application/json",
    security: list[Any] | None = None,
) -> dict[str, Any]:
    body = {"schema": _reference(schema) if schema else {}}
    responses: dict[str, Any] = {"200": {"description": "so it is", "content": {content: body}}}
    codes = errors if security is not None else (401, *errors)
    responses |= {str(code): _error(code) for code in codes}
    found: dict[str, Any] = {"summary": summary, "responses": responses}
    return found if security is None else found | {"security": security}


def _request(summary: str, *errors: int) -> dict[str, Any]:
    """Describe an operation that takes bytes, and answers as JSON or as events on the way."""
    found = _operation(summary, *errors, schema="OutcomeBody")
    found["responses"]["200"]["description"] = "how it ended, whatever the guest said to it"
    found["responses"]["200"]["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    body = {"schema": {"type": "string", "format": "binary"}}
    return found | {"requestBody": {"content": {"application/octet-stream": body}}}


def _error(code: int) -> dict[str, Any]:
    body = {"application/json": {"schema": _reference("ErrorBody")}}
    found: dict[str, Any] = {"description": TEXTS[code], "content": body}
    if code in RETRY:
        found["headers"] = {"Retry-After": {"schema": {"type": "integer", "minimum": 0}}}
    return found


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def version() -> str:
    """Return the version of the package."""
    try:
        return importlib.metadata.version("orchestra")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "0"

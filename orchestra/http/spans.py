"""A request's span for OpenTelemetry, which the spans of its calls are within."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestra.http.access import Exchange
    from orchestra.sched.tracing import Tracer

__all__ = ["serving"]

FAILED = 500  # and above: it was us


@contextmanager
def serving(tracer: Tracer, exchange: Exchange) -> Iterator[None]:
    """Be in a request's span, whose parent is the span we are in, or the client's traceparent.

    Name and attributes are those of OpenTelemetry's conventions for HTTP servers.
    """
    from opentelemetry import propagate

    api, method = tracer.api, exchange.scope["method"]
    inside = api.get_current_span().get_span_context().is_valid
    attributes = {
        "http.request.method": method,
        "url.path": exchange.scope["path"],
        "orchestra.request_id": exchange.identity,
    }
    with tracer.tracer.start_as_current_span(
        method,
        context=None if inside else propagate.extract(exchange.headers),
        kind=api.SpanKind.SERVER,
        attributes=attributes,
    ) as span:
        try:
            yield
        finally:
            if exchange.route:
                span.update_name(f"{method} {exchange.route}")
                span.set_attribute("http.route", exchange.route)
            span.set_attribute("http.response.status_code", exchange.status)
            if exchange.status >= FAILED:
                span.set_status(api.StatusCode.ERROR)

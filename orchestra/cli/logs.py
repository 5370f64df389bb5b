"""Where a server's log goes: to stderr, line by line, as JSON or for people."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LogFormat", "LogLevel", "logging_to_stderr"]


class LogFormat(StrEnum):
    """How a line is written."""

    CONSOLE = "console"
    JSON = "json"


class LogLevel(StrEnum):
    """What is written: that and what is worse."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@contextmanager
def logging_to_stderr(form: LogFormat, level: LogLevel) -> Iterator[Any]:
    """Have a structlog logger, and what libraries tell the standard one, come out alike."""
    number = logging.getLevelNamesMapping()[level.upper()]
    said: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
    ]
    written = _renderers(form)
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(number)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=said,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *written],
        )
    )
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield structlog.wrap_logger(
            structlog.PrintLogger(sys.stderr),
            processors=[*said, *written],
            wrapper_class=structlog.make_filtering_bound_logger(number),
        )
    finally:
        root.removeHandler(handler)


def _renderers(form: LogFormat) -> list[Any]:
    if form is LogFormat.JSON:
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    colors = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]

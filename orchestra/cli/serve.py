"""`orchestra serve`: applications over HTTP, from a TOML file, until a signal."""

import sys
from pathlib import Path
from typing import Annotated, Any

import anyio
import structlog
import typer

from orchestra.cli.options import Json, examples
from orchestra.cli.output import emit, note
from orchestra.errors import BadConfig

__all__ = ["EXAMPLES", "serve"]

EXAMPLES = examples(
    "orchestra serve node.toml",
    "orchestra serve node.toml --listen 0.0.0.0:9000 --json",
)


def serve(
    file: Annotated[Path, typer.Argument(help="What to serve, in TOML.", metavar="FILE")],
    listen: Annotated[
        str | None,
        typer.Option(help="Listen there instead: host:port or unix:path.", metavar="ADDRESS"),
    ] = None,
    json: Json = False,
) -> None:
    r"""Serve applications over HTTP: advance, inspect, events, metrics.

    The file has a table for each application, and what they have in common before:

    \b
      listen = "127.0.0.1:8000"
      token_file = "token"
      [applications.ledger]
      directory = "app"              # made when it is not there
      genesis = "machine"            # of a machine's folder, or a config
      snapshots = 100                # or never, every_input, on_demand

    SIGINT and SIGTERM let requests finish, close the applications and exit with 0.
    """
    try:
        from orchestra.http import load_serve_config, serving_app
        from orchestra.http.server import (
            address_of,
            bind,
            serve_hypercorn,
            serve_uvicorn,
            wait_for_signal,
        )
    except ImportError as error:
        raise BadConfig("serve", error.name, "pip install 'orchestra[http]'") from None
    config = load_serve_config(file)
    app = serving_app(config, logger=_logger() if json else None)
    listener = bind(listen or config.listen)
    note(f"listening on {address_of(listener)}")
    if json:
        emit({"address": address_of(listener), "applications": sorted(config.applications)})
    run: Any = serve_hypercorn if config.loop == "trio" else serve_uvicorn
    with listener:
        if config.loop == "trio":
            anyio.run(run, app, listener, wait_for_signal, backend="trio")
        else:
            options = {"use_uvloop": config.loop == "uvloop"}
            anyio.run(run, app, listener, wait_for_signal, backend_options=options)
    note("stopped")


def _logger() -> Any:
    """Write one JSON object a line."""
    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ],
    )

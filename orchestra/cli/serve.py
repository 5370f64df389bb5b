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
    "",
    "node.toml:",
    'listen = "127.0.0.1:8000"',
    'token_file = "token"',
    "[applications.ledger]",
    'directory = "app"     # made when it is not there',
    'genesis = "machine"   # of a machine\'s folder, or a config',
    "snapshots = 100       # or never, every_input, on_demand",
)


def serve(
    file: Annotated[Path, typer.Argument(help="What to serve, in TOML.", metavar="FILE")],
    listen: Annotated[
        str | None,
        typer.Option(help="Listen there instead: host:port or unix:path.", metavar="ADDRESS"),
    ] = None,
    json: Json = False,
) -> None:
    """Serve applications over HTTP: advance, inspect, events, metrics.

    The file has a table for each application, below what they have in common; --help ends with
    one. Health is answered at once, the rest when all applications are open.

    SIGINT and SIGTERM let requests finish, close the applications and exit with 0.
    """
    try:
        from orchestra.http import load_serve_config
        from orchestra.http.server import (
            address_of,
            listening,
            serve_applications,
            serve_hypercorn,
            serve_uvicorn,
            wait_for_signal,
        )
    except ImportError as error:
        raise BadConfig("serve", error.name, "pip install 'orchestra[http]'") from None
    config = load_serve_config(file)
    serve: Any = serve_hypercorn if config.loop == "trio" else serve_uvicorn
    options = {} if config.loop == "trio" else {"use_uvloop": config.loop == "uvloop"}
    logger = _logger() if json else None
    with listening(listen or config.listen) as listener:
        note(f"listening on {address_of(listener)}")
        if json:
            emit({"address": address_of(listener), "applications": sorted(config.applications)})

        async def main() -> None:
            await serve_applications(serve, config, listener, wait_for_signal, logger)

        backend = "trio" if config.loop == "trio" else "asyncio"
        anyio.run(main, backend=backend, backend_options=options)
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

"""`orchestra serve`: applications over HTTP, from a TOML file, until a signal."""

import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer

from orchestra.cli.logs import LogFormat, LogLevel, logging_to_stderr
from orchestra.cli.options import Json, examples
from orchestra.cli.output import emit, note
from orchestra.errors import BadConfig

__all__ = ["EXAMPLES", "serve"]

EXAMPLES = examples(
    "orchestra image ledger machine             # something to serve",
    "orchestra serve --example > node.toml    # a file with every key explained",
    "orchestra serve node.toml --check",
    "orchestra serve node.toml",
    "orchestra serve node.toml --listen 0.0.0.0:9000 --json",
)
NEEDS = "pip install 'orchestra[http]'"


def _print_example(*, value: bool) -> None:
    if value:
        try:
            from orchestra.http.config import EXAMPLE
        except ImportError as error:
            raise BadConfig("serve", error.name, NEEDS) from None
        typer.echo(EXAMPLE.read_text(), nl=False)
        raise typer.Exit


def serve(
    file: Annotated[Path, typer.Argument(help="What to serve, in TOML.", metavar="FILE")],
    listen: Annotated[
        str | None,
        typer.Option(help="Listen there instead: host:port or unix:path.", metavar="ADDRESS"),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Read the file, say what is wrong with it, and end.")
    ] = False,
    example: Annotated[  # noqa: ARG001 - its callback ends the command
        bool,
        typer.Option(
            "--example", callback=_print_example, is_eager=True, help="Print a file, and end."
        ),
    ] = False,
    log_format: Annotated[
        LogFormat | None,
        typer.Option(help="Of the log on stderr; json with --json.", show_default="console"),
    ] = None,
    log_level: Annotated[
        LogLevel, typer.Option(help="Log that and what is worse.")
    ] = LogLevel.INFO,
    json: Json = False,
) -> None:
    """Serve applications over HTTP: advance, inspect, events, metrics.

    The file has a table for each application, below what they have in common; --example prints
    one. Health is answered at once, the rest when all applications are open.

    SIGINT and SIGTERM let requests finish for drain_seconds, cancel what is left, close the
    applications and exit with 0; a second one ends it at once. SIGHUP reads the file again, for who
    may ask. Events, requests among them, are logged on stderr.
    """
    try:
        from orchestra.http.config import check_serve_config, load_serve_config, read_address
        from orchestra.http.server import (
            address_of,
            listening,
            reread_at_signal,
            serve_applications,
            serve_hypercorn,
            serve_uvicorn,
            wait_for_signal,
        )
    except ImportError as error:
        raise BadConfig("serve", error.name, NEEDS) from None
    config = load_serve_config(file)
    check_serve_config(config)
    listen, names = listen or config.listen, sorted(config.applications)
    if check:
        read_address(listen)
        if json:
            emit({"listen": listen, "applications": names})
        else:
            note(f"{file}: {', '.join(names)} on {listen}")
        return
    serve: Any = serve_hypercorn if config.loop == "trio" else serve_uvicorn
    options = {} if config.loop == "trio" else {"use_uvloop": config.loop == "uvloop"}
    form = log_format or (LogFormat.JSON if json else LogFormat.CONSOLE)
    began = time.monotonic()
    with (
        logging_to_stderr(form, log_level) as logger,
        listening(listen) as listener,
    ):
        about = {"address": address_of(listener), "applications": names}
        logger.info("server.listening", **about)
        if json:
            emit(about)

        async def main() -> None:
            reread = partial(reread_at_signal, file, logger)
            await serve_applications(serve, config, listener, wait_for_signal, logger, reread)

        backend = "trio" if config.loop == "trio" else "asyncio"
        anyio.run(main, backend=backend, backend_options=options)
        logger.info("server.stopped", duration=time.monotonic() - began)

"""The command `orchestra top` itself: its options, and which of its faces is shown."""

import os
import sys
from functools import partial
from typing import Annotated, Any

import typer

from orchestra.cli.bench import FILE_COLUMNS
from orchestra.cli.options import Json, examples
from orchestra.cli.output import emit
from orchestra.cli.top.figures import compare
from orchestra.cli.top.look import look
from orchestra.errors import BadConfig

__all__ = ["EXAMPLES", "top"]

EXAMPLES = examples(
    "orchestra top                                     of orchestra serve on this host",
    "orchestra top http://node:8000 --token SECRET --interval 2",
    "orchestra top --once                              one look, then exit",
)


def top(
    address: Annotated[
        str, typer.Argument(help="Where it is served.", metavar="URL")
    ] = "http://127.0.0.1:8000",
    token: Annotated[
        str | None,
        typer.Option(help="The server's token.", metavar="TOKEN", envvar="ORCHESTRA_TOKEN"),
    ] = None,
    interval: Annotated[
        float, typer.Option(help="Time between two looks.", metavar="SECONDS", min=0.1)
    ] = 1.0,
    machines: Annotated[
        int,
        typer.Option(help="Tell of so many machines, the busiest.", min=0, max=1000),
    ] = 100,
    once: Annotated[bool, typer.Option("--once", help="Look once, print, and exit.")] = False,
    json: Json = False,
) -> None:
    """Watch a fleet: machines, applications and inspect pools, and what they cost.

    Keys sort, filter, pause and show details; ? lists them. When the server goes away it is asked
    until it answers again. Rates are of the time between two looks, or since the server began when
    there was only one. The live view needs the extra `top` (textual); --once and --json do not.
    """
    ask = partial(look, address, token, machines)
    now = ask()
    if json:
        emit(now)
    elif once:
        _print(now)
    else:
        _watch(ask, now, address, interval)


def _print(now: dict[str, Any]) -> None:
    from rich.console import Console

    from orchestra.cli.top.plain import print_sight

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = FILE_COLUMNS
    print_sight(console, compare(now, None))


def _watch(ask: Any, now: dict[str, Any], address: str, interval: float) -> None:
    streams = sys.stdin, sys.stdout, sys.stderr  # textual draws on the last
    if os.environ.get("TERM") == "dumb" or not all(stream.isatty() for stream in streams):
        raise BadConfig("--once", "neither it nor a terminal", "one of the two, or --json")
    try:
        from orchestra.cli.top.screen import Top
    except ImportError as error:
        wanted = "pip install 'orchestra[top]', or --once"
        raise BadConfig("top", f"no package {error.name}", wanted) from None
    Top(ask, now, address, interval).run()

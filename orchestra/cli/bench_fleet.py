"""`orchestra bench fleet`: inspects, latencies, overhead, fairness, cancellation, density."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orchestra.cli.bench import announce, finish, signals
from orchestra.cli.options import Json, examples
from orchestra.errors import BadConfig

__all__ = ["EXAMPLES", "fleet"]

EXAMPLES = examples(
    "orchestra bench fleet",
    "orchestra bench fleet --loop trio --rows 'inspects/*' --plot chart.png",
    "orchestra bench fleet --rows overhead --rows 'cancel-*' --json",
)


class LoopKind(StrEnum):
    """Whose event loop."""

    ASYNCIO = "asyncio"
    UVLOOP = "uvloop"
    TRIO = "trio"


def fleet(
    directory: Annotated[
        Path, typer.Option("--dir", help="Store what is stored in this folder.", metavar="DIR")
    ] = Path(),
    loop: Annotated[LoopKind, typer.Option(help="Whose event loop.")] = LoopKind.ASYNCIO,
    workers: Annotated[int, typer.Option(help="Threads that run machines.", min=1)] = 2,
    rows: Annotated[
        list[str] | None,
        typer.Option(help="Only rows with such a name. Repeat for more.", metavar="PATTERN"),
    ] = None,
    seconds: Annotated[float, typer.Option(help="Length of a run.", min=0.01)] = 2.0,
    runs: Annotated[int, typer.Option(help="Runs of each row.", min=1)] = 3,
    machines: Annotated[int, typer.Option(help="Machines runnable at once.", min=2)] = 1000,
    debian: Annotated[int, typer.Option(help="Debian machines open at once.", min=1)] = 10_000,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw inspects and latencies against concurrency.", metavar="FILE"),
    ] = None,
    json: Json = False,
) -> int:
    """Measure what a fleet costs and how soon it answers.

    Questions are the embedded guest's shortest one, collected through the async API from 1 to
    10,000 tasks in this process. Advances are those of an application with a log that is not
    synced, with and without a saturated pool beside it. The density rows download Debian once, and
    boot it. Exits with 1 when a row is not at its line.
    """
    from orchestra.bench.chart import draw_fleet, require_plotting
    from orchestra.bench.fleet import FleetOptions, bench_fleet

    options = FleetOptions(
        loop=loop.value,
        workers=workers,
        seconds=seconds,
        runs=runs,
        machines=machines,
        debian=debian,
        rows=tuple(rows or ["*"]),
    )
    if not directory.is_dir():
        raise BadConfig("--dir", str(directory), "a folder that exists")
    if plot is not None:
        require_plotting()
    with signals():
        report = bench_fleet(directory, options, announce)
    if plot is not None:
        draw_fleet(report, plot)
    return finish(report, json=json)

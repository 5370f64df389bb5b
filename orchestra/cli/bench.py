"""`orchestra bench`: measure this machine, and compare with the lines that orchestra draws."""

import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from orchestra.cli.attend import Stopped
from orchestra.cli.options import EngineKind, Json, examples
from orchestra.cli.output import emit, note
from orchestra.cli.progress import on_terminal
from orchestra.errors import BadConfig
from orchestra.machine.config import parse_size

if TYPE_CHECKING:
    from orchestra.bench.report import Report

__all__ = ["EXAMPLES", "announce", "bench_app", "finish", "signals"]

EXAMPLES = examples(
    "orchestra bench storage --dir /var/tmp          storage, on the file system of this folder",
    "orchestra bench storage --dir /var/tmp --json   the same, as one JSON document",
    "orchestra bench cpu --against qemu              executing guests, beside QEMU",
    "orchestra bench fleet                           scheduling, inspects, latencies, density",
)
BELOW_LINE = 1
FILE_COLUMNS = 200  # of a table that goes to a file or a pipe


class ClockKind(StrEnum):
    """Whose seconds count."""

    WALL = "wall"
    CPU = "cpu"


bench_app = typer.Typer(rich_markup_mode=None)


@bench_app.callback(invoke_without_command=True)
def bench(context: typer.Context) -> None:
    """Measure how fast orchestra is here."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@bench_app.command(
    epilog=examples(
        "orchestra bench storage --dir /var/tmp",
        "orchestra bench storage --dir /var/tmp --rows 'roll-*' --rows lease --seconds 1",
        "orchestra bench storage --dir /var/tmp --filesystems ext4,btrfs,xfs --plot chart.png",
    )
)
def storage(
    directory: Annotated[
        Path, typer.Option("--dir", help="Measure in this folder.", metavar="DIR")
    ],
    ram: Annotated[str, typer.Option(help="Length of RAM.", metavar="SIZE")] = "64MiB",
    drive: Annotated[str, typer.Option(help="Length of the drive.", metavar="SIZE")] = "512MiB",
    filesystems: Annotated[
        str | None,
        typer.Option(
            help="Make these there and mount them, as root: ext4, btrfs, xfs, tmpfs.",
            metavar="KIND,...",
        ),
    ] = None,
    rows: Annotated[
        list[str] | None,
        typer.Option(help="Only rows with such a name. Repeat for more.", metavar="PATTERN"),
    ] = None,
    seconds: Annotated[float, typer.Option(help="Length of a run.", min=0.001)] = 0.25,
    clock: Annotated[
        ClockKind,
        typer.Option(help="Whose seconds count: cpu where others work too."),
    ] = ClockKind.WALL,
    runs: Annotated[int, typer.Option(help="Runs of each row.", min=1)] = 5,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw a chart, beside the seed's figures.", metavar="FILE"),
    ] = None,
    json: Json = False,
) -> int:
    """Measure how fast machines are made, loaded, rolled on, stored, leased, forked and cloned.

    The machine has 60 MB of data on its drive. Each operation advances it 1000 cycles, in which it
    writes to 8 pages. Rows that end in `store` leave a snapshot in the page cache, durable ones on
    the disk; `floor/publish` is what the system calls of one cost alone. Exits with 1 when a row is
    not at its line.
    """
    from orchestra.bench.chart import draw_storage, require_plotting
    from orchestra.bench.storage import StorageOptions, bench_storage

    options = StorageOptions(
        ram_length=parse_size(ram, "--ram"),
        drive_length=parse_size(drive, "--drive"),
        seconds=seconds,
        runs=runs,
        clock=clock.value,
        rows=tuple(rows or ["*"]),
    )
    kinds = _kinds(filesystems)
    if not directory.is_dir():
        raise BadConfig("--dir", str(directory), "a folder that exists")
    if plot is not None:
        require_plotting()
    with signals():
        report = bench_storage(directory, options, announce, kinds)
    if plot is not None:
        draw_storage(report, plot)
    return finish(report, json=json)


class PeerKind(StrEnum):
    """Whom to compare with."""

    QEMU = "qemu"


@bench_app.command(
    epilog=examples(
        "orchestra bench cpu",
        "orchestra bench cpu --against qemu --plot chart.png",
        "orchestra bench cpu --rows fib --rows 'matmul*' --json",
    )
)
def cpu(
    engine: Annotated[EngineKind, typer.Option(help="What executes the guests.")] = EngineKind.AUTO,
    against: Annotated[
        PeerKind | None, typer.Option(help="Run the same guests there, in turns.")
    ] = None,
    rows: Annotated[
        list[str] | None,
        typer.Option(help="Only kernels and loads so named. Repeat for more.", metavar="PATTERN"),
    ] = None,
    runs: Annotated[int, typer.Option(help="Runs of each guest.", min=1)] = 5,
    scale: Annotated[
        float, typer.Option(help="How much longer than usual a kernel works.", min=0.0001)
    ] = 1.0,
    plot: Annotated[
        Path | None, typer.Option(help="Draw a chart, beside the peer's figures.", metavar="FILE")
    ] = None,
    json: Json = False,
) -> int:
    """Measure how fast guests execute: bare-metal kernels under Sv39, and Debian at work.

    MIPS are millions of instructions retired per second of processor time. Debian's loads (boot,
    shell-loop, sha256sum, gzip, fork-exec, fork-exec-static, python-loop) download Debian once.
    Exits with 1 when a row is not at its line; only comparisons have one.
    """
    from orchestra.bench.chart import draw_cpu, require_plotting
    from orchestra.bench.cpu import CpuOptions, bench_cpu

    options = CpuOptions(
        engine=engine.value,
        peer=against.value if against else None,
        rows=tuple(rows or ["*"]),
        runs=runs,
        scale=scale,
    )
    if plot is not None:
        require_plotting()
    with signals():
        report = bench_cpu(options, announce)
    if plot is not None:
        draw_cpu(report, plot)
    return finish(report, json=json)


def finish(report: "Report", *, json: bool) -> int:
    """Print the report; return the command's status."""
    if json:
        emit(report.as_json())
    else:
        _print(report)
    below = [f"{row.filesystem or ''} {row.name}".strip() for row in report.rows if not row.ok]
    if below:
        note(f"below their lines: {', '.join(below)}")
    return BELOW_LINE if below else 0


def announce(text: str) -> AbstractContextManager[object]:
    """Say what is measured now."""
    if on_terminal():
        from rich.console import Console

        return Console(stderr=True).status(text)
    note(f"{text} ...")
    return nullcontext()


@contextmanager
def signals() -> Iterator[None]:
    """Let SIGTERM unwind too, that nothing stays mounted."""

    def stop(number: int, _: FrameType | None) -> None:
        raise Stopped(number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print(report: "Report") -> None:
    from rich.console import Console

    from orchestra.bench.report import print_tables

    console = Console()
    if not console.is_terminal:
        console.width = FILE_COLUMNS
    print_tables(report, console)


def _kinds(text: str | None) -> tuple[str, ...]:
    from orchestra.bench.filesystems import KINDS

    kinds = tuple(text.split(",")) if text else ()
    for kind in kinds:
        if kind not in KINDS:
            raise BadConfig("--filesystems", kind, f"some of {', '.join(KINDS)}")
    if kinds and os.geteuid():
        raise BadConfig("--filesystems", text, "nothing: only root can mount them")
    return kinds

"""`orchestra image debian | ledger`: machines made of well-known parts."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from orchestra.cli.machines import report_created
from orchestra.cli.options import Bootargs, Durable, Json, RamSize, Seed, examples
from orchestra.cli.progress import Steps
from orchestra.guest import LEDGER
from orchestra.guest.debian import (
    BOOTARGS,
    RAM_LENGTH,
    debian_config,
    fetch,
    make_initramfs,
)
from orchestra.machine.config import Boot, MachineConfig, Ram, parse_size
from orchestra.machine.machine import Machine

__all__ = ["EXAMPLES", "LEDGER", "app", "make_debian"]

EXAMPLES = examples(
    "orchestra image ledger app         a small ledger, for a first try",
    "orchestra image debian debian      Debian, whose agent runs shell commands",
)
app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def image(context: typer.Context) -> None:
    """Make a machine's folder of a guest that orchestra knows."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(
    epilog=examples(
        "orchestra image ledger app",
        "orchestra advance app 'mint alice 100' 'transfer alice bob 30'",
        "orchestra inspect app accounts 'history 10'",
    )
)
def ledger(
    directory: Annotated[Path, typer.Argument(help="The folder to make.", metavar="DIR")],
    ram: RamSize = None,
    seed: Seed = None,
    durable: Durable = False,
    json: Json = False,
) -> None:
    """Make a machine with a ledger: a bare-metal program that comes with orchestra.

    Inputs: mint NAME AMOUNT, transfer FROM TO AMOUNT, burn NAME AMOUNT. Questions: balance NAME,
    total, count, accounts, history N.
    """
    config = MachineConfig(
        ram=Ram(length=parse_size(ram, "--ram")) if ram else Ram(),
        boot=Boot(elf=LEDGER),
        seed=seed or 0,
    )
    Machine.create(config, directory, storage="memory", durable=durable).close()
    report_created(directory, json=json)


@app.command(
    epilog=examples(
        "orchestra image debian debian",
        "orchestra run debian                            boot it: until its agent waits",
        "orchestra inspect debian 'uname -a; free -m'    run a command in a copy of it",
        "orchestra image debian debian --mirror http://mirror.example/debian --suite trixie",
    )
)
def debian(
    directory: Annotated[Path, typer.Argument(help="The folder to make.", metavar="DIR")],
    mirror: Annotated[
        str | None,
        typer.Option(help="A mirror of Debian (default: that of the host's apt).", metavar="URI"),
    ] = None,
    suite: Annotated[str, typer.Option(help="Debian's release.", metavar="NAME")] = "trixie",
    keyring: Annotated[
        Path | None, typer.Option(help="Trust the keys in this file.", metavar="FILE")
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Keep downloads here (default: orchestra/debian in XDG_CACHE_HOME or ~/.cache).",
            metavar="DIR",
        ),
    ] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Download again.")] = False,
    ram: RamSize = None,
    bootargs: Bootargs = None,
    seed: Seed = None,
    durable: Durable = False,
    json: Json = False,
) -> None:
    """Make a machine that boots an unmodified Debian kernel to an agent that runs commands.

    Kernel, firmware (OpenSBI) and busybox come from a mirror through the host's apt, without root,
    and are cached. `orchestra run DIR` boots it in about 293 million cycles.
    """
    length = parse_size(ram, "--ram") if ram else RAM_LENGTH
    with Steps() as steps:
        make_debian(
            directory,
            steps,
            mirror=mirror,
            suite=suite,
            keyring=keyring,
            cache=cache,
            refresh=refresh,
            ram_length=length,
            bootargs=BOOTARGS if bootargs is None else bootargs,
            seed=seed or 0,
            durable=durable,
        )
    report_created(directory, json=json)


def make_debian(
    directory: Path,
    steps: Steps,
    *,
    mirror: str | None = None,
    suite: str = "trixie",
    keyring: Path | None = None,
    cache: Path | None = None,
    refresh: bool = False,
    ram_length: int = RAM_LENGTH,
    bootargs: str = BOOTARGS,
    seed: int = 0,
    durable: bool = False,
) -> None:
    """Fetch Debian's files, unless they are cached, and make a machine's folder of them."""
    with steps.step("fetching Debian", 1.0) as update:
        files = fetch(
            cache,
            mirror=mirror,
            suite=suite,
            keyring=keyring,
            refresh=refresh,
            progress=lambda what, done: update(done, what),
        )
    with steps.step("making the machine"), tempfile.TemporaryDirectory(prefix="orchestra-") as work:
        initramfs = make_initramfs(files, Path(work) / "initramfs.cpio")
        config = debian_config(
            files, initramfs, ram_length=ram_length, bootargs=bootargs, seed=seed
        )
        Machine.create(config, directory, storage="memory", durable=durable).close()

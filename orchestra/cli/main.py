"""The command `orchestra`: its commands, and how an error becomes a line and a status."""

import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from orchestra.cli import (
    bench,
    bench_fleet,
    demo,
    image,
    layers,
    machines,
    requests,
    run,
    serve,
    top,
    verify,
)
from orchestra.cli.attend import Stopped
from orchestra.cli.options import examples
from orchestra.cli.streams import give_up_output, mend_streams
from orchestra.errors import BadConfig, BadImage, OrchestraError

__all__ = ["app", "main"]

RUNTIME_ERROR = 1
USAGE_ERROR = 2
SIGNALLED = 128  # and the signal's number, as shells have it
# typer brings a click of its own, or, until 0.25, needs the package
ClickError: Any = typer.BadParameter.__mro__[2]


class Commands(TyperGroup):
    """All commands; Ctrl-C, where a command does not handle it, is the same everywhere."""

    def invoke(self, ctx: Any) -> Any:
        """Invoke a command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Stopped(signal.SIGINT) from None


app = typer.Typer(
    cls=Commands,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
COMMANDS = (  # what does it, its examples, and a line for the list
    (machines.create, machines.CREATE_EXAMPLES, "Make a machine: a folder with all it needs."),
    (run.run, run.EXAMPLES, "Run a machine until it halts or waits for a request."),
    (requests.advance, requests.ADVANCE_EXAMPLES, "Give inputs; accepted ones change the machine."),
    (requests.inspect, requests.INSPECT_EXAMPLES, "Ask questions, each of a copy of its own."),
    (machines.snapshot, machines.SNAPSHOT_EXAMPLES, "Keep its state as a folder of its own."),
    (machines.clone, machines.CLONE_EXAMPLES, "Make a second machine of one, or of a snapshot."),
    (
        layers.compact,
        layers.COMPACT_EXAMPLES,
        "Merge its layers into one; it stays the same machine.",
    ),
    (layers.export, layers.EXPORT_EXAMPLES, "Make a plain file of a drive, or RAM."),
    (machines.info, machines.INFO_EXAMPLES, "Say what it is made of and what it occupies."),
    (verify.verify, verify.EXAMPLES, "Compare all of its folder with its checksums."),
    (serve.serve, serve.EXAMPLES, "Serve applications over HTTP."),
    (top.top, top.EXAMPLES, "Watch a fleet that is served."),
    (demo.demo, demo.EXAMPLES, "See all of it at work, in a few seconds."),
)
for command, epilog, line in COMMANDS:
    app.command(command.__name__, epilog=epilog, short_help=line)(command)
app.add_typer(image.app, name="image", epilog=image.EXAMPLES)
bench.bench_app.command("fleet", epilog=bench_fleet.EXAMPLES)(bench_fleet.fleet)
app.add_typer(bench.bench_app, name="bench", epilog=bench.EXAMPLES)


def _print_version(*, value: bool) -> None:
    if value:
        from importlib.metadata import PackageNotFoundError, version

        try:
            text = version("orchestra")
        except PackageNotFoundError:  # run from a checkout
            text = "(not installed)"
        typer.echo(f"orchestra {text}")
        raise typer.Exit


@app.callback(
    invoke_without_command=True,
    epilog=examples(
        "orchestra run hello.elf                  run a program until it halts",
        "orchestra image ledger app               make a machine that serves requests",
        "orchestra advance app 'mint alice 100'   give it an input; it changes",
        "orchestra inspect app 'balance alice'    ask it; it does not change",
        "orchestra snapshot app monday            keep this state, in a folder of its own",
        "orchestra demo                           see all of it at work",
    ),
)
def orchestra(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Run fleets of deterministic RISC-V machines straight out of their files.

    A machine is a folder. It runs in its own files, is snapshotted and forked for the cost of what
    changed, and answers questions from copies while it goes on.

    Every command takes --json, and --help with examples. It exits with 0; with 1 when it failed or
    the guest refused; with 2 when it was not told properly what to do; `run` as the guest says.
    With 1 as well when standard output cannot be written, and with 141 when nobody reads it.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry a command line out and return its exit status; errors are one line on stderr."""
    mend_streams()
    try:
        status = app(args=arguments, prog_name="orchestra", standalone_mode=False)
        sys.stdout.flush()
    except Stopped as stopped:
        if stopped.number == signal.SIGPIPE:  # there is nobody to tell
            give_up_output()
            return SIGNALLED + stopped.number
        return _failed(str(stopped), SIGNALLED + stopped.number)
    except BaseExceptionGroup as group:
        error = _only_known(group)
        if error is None:
            raise
        return _report(error)
    except (OrchestraError, OSError, MemoryError, ClickError) as error:
        return _report(error)
    return status if isinstance(status, int) else 0


def _report(error: BaseException) -> int:
    if isinstance(error, ClickError):
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "orchestra"
        text = str(error.format_message()).rstrip(".")
        return _failed(f"{text} (try {path} --help)", USAGE_ERROR)
    if isinstance(error, OSError) and not isinstance(error, OrchestraError) and error.filename:
        return _failed(f"{error.filename}: {error.strerror}", RUNTIME_ERROR)
    if isinstance(error, BadConfig) and error.field.startswith("--"):
        return _failed(
            f"{error.field}: found {error.found!r}, expected {error.expected}", USAGE_ERROR
        )
    status = USAGE_ERROR if isinstance(error, BadConfig | BadImage) else RUNTIME_ERROR
    return _failed(str(error) or type(error).__name__, status)


def _failed(text: str, status: int) -> int:
    give_up_output()
    sys.stderr.write(f"error: {' '.join(text.split())}\n")
    return status


def _only_known(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """Find the error to report in a group, when nothing in it is a mistake of ours."""
    known = (OrchestraError, OSError, MemoryError)
    expected, rest = group.split(known)
    if rest is not None or expected is None:
        return None
    error: BaseException = expected
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

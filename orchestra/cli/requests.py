"""`orchestra advance | inspect`: inputs and questions for the application in a machine."""

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestra.cli.attend import Attendant
from orchestra.cli.options import (
    Directory,
    DiscardTorn,
    Hex,
    Json,
    MaxCycles,
    MaxOutput,
    MaxSeconds,
    Reserve,
    Wait,
    examples,
    limits_of,
    reserved,
    torn_choice,
)
from orchestra.cli.output import as_text, emit, note, write_bytes
from orchestra.cli.progress import cycles_bar
from orchestra.errors import BadConfig
from orchestra.machine.machine import Machine
from orchestra.machine.request import Event, Limits, Outcome, Output, Progress, Report, RequestKind

__all__ = ["ADVANCE_EXAMPLES", "INSPECT_EXAMPLES", "advance", "inspect"]

ADVANCE_EXAMPLES = examples(
    "orchestra advance app 'mint alice 100'          one input",
    "orchestra advance app 'mint a 1' 'mint b 2'     two, one after the other",
    "orchestra advance app --file input.bin          the bytes of a file",
    "generate | orchestra advance app -              those of standard input",
    "orchestra advance app --hex 6d696e7420612031",
    "orchestra advance debian 'echo hi > /tmp/note'  Debian's agent runs commands",
)
INSPECT_EXAMPLES = examples(
    "orchestra inspect app 'balance alice'           the answer, on standard output",
    "orchestra inspect app 'balance alice' total     two questions, each asked of a new copy",
    "orchestra inspect debian 'uname -a; free -m'    Debian's agent runs commands",
    "orchestra inspect app 'history 5' --json --max-cycles 1000000",
)

Files = Annotated[
    list[Path] | None,
    typer.Option("--file", help="Send the bytes of a file. Repeat for more.", metavar="FILE"),
]


def advance(
    directory: Directory,
    inputs: Annotated[
        list[str] | None, typer.Argument(help="Texts; - is standard input.", metavar="INPUT...")
    ] = None,
    file: Files = None,
    hexadecimal: Hex = False,
    max_cycles: MaxCycles = None,
    max_output: MaxOutput = None,
    max_seconds: MaxSeconds = None,
    wait: Wait = 0,
    discard_torn: DiscardTorn = False,
    reserve: Reserve = None,
    json: Json = False,
) -> None:
    """Give inputs to the application in a machine's folder; accepted ones change it.

    The application's outputs are printed on standard output, reports and the status of what was
    not accepted on stderr. A machine that was never run is first run until it waits for a request.

    Exits with 1 when an input was not accepted; the machine is then as it was before that input.
    """
    payloads = _payloads(inputs or [], file or [], hexadecimal=hexadecimal)
    limits = limits_of(max_cycles, max_output, max_seconds)
    with contextlib.ExitStack() as stack:
        machine = stack.enter_context(
            Machine.open(
                directory,
                storage="backing",
                wait_seconds=wait,
                torn=torn_choice(discard=discard_torn),
                reserve=reserved(reserve),
            )
        )
        desk = stack.enter_context(_Desk.open(machine, json=json, hexadecimal=hexadecimal))
        results = [desk.ask(machine, "advance", payload, limits) for payload in payloads]
        cycle = machine.cycle
    _finish(directory, cycle, results, json=json)


def inspect(
    directory: Directory,
    queries: Annotated[
        list[str] | None, typer.Argument(help="Texts; - is standard input.", metavar="QUERY...")
    ] = None,
    file: Files = None,
    hexadecimal: Hex = False,
    max_cycles: MaxCycles = None,
    max_output: MaxOutput = None,
    max_seconds: MaxSeconds = None,
    wait: Wait = 0,
    discard_torn: DiscardTorn = False,
    json: Json = False,
) -> None:
    """Ask the application in a machine or a snapshot; each question goes to a copy of its own.

    Nothing changes in the folder, and others may ask it meanwhile. Reports, the answers, are
    printed on standard output as they come. A machine that was never run is run, in memory, until
    it waits for a request.

    Exits with 1 when a question was not accepted.
    """
    payloads = _payloads(queries or [], file or [], hexadecimal=hexadecimal)
    limits = limits_of(max_cycles, max_output, max_seconds)
    with contextlib.ExitStack() as stack:
        machine = stack.enter_context(
            Machine.open(directory, wait_seconds=wait, torn=torn_choice(discard=discard_torn))
        )
        desk = stack.enter_context(_Desk.open(machine, json=json, hexadecimal=hexadecimal))
        results = []
        for payload in payloads:
            with machine.fork() as copy:
                results.append(desk.ask(copy, "inspect", payload, limits))
        cycle = machine.cycle
    _finish(directory, cycle, results, json=json)


class _Desk:
    """Where requests are handed in, and what is said meanwhile comes out."""

    def __init__(self, attendant: Attendant, *, json: bool, hexadecimal: bool) -> None:
        self.attendant = attendant
        self.json = json
        self.hexadecimal = hexadecimal

    @classmethod
    @contextlib.contextmanager
    def open(cls, machine: Machine, *, json: bool, hexadecimal: bool) -> Any:
        """Run the machine until it waits for a request."""
        with Attendant() as attendant, cycles_bar("booting", machine.cycle, None) as bar:
            attendant.on_tick = lambda: bar(machine.cycle)
            took = attendant.wake(machine)
            if took:
                note(f"ran for {took} cycles, until the machine waits for a request")
            attendant.on_tick = lambda: None
            yield cls(attendant, json=json, hexadecimal=hexadecimal)

    def ask(
        self, machine: Machine, kind: RequestKind, payload: bytes, limits: Limits
    ) -> dict[str, Any]:
        """Drive a request, print what it says, and return what --json prints of it."""
        outcome = self.attendant.serve(machine, kind, payload, limits, self._teller(kind))
        if outcome.accepted and kind == "advance" and not self.json:
            for data in outcome.outputs:
                self._print(data)
        if not outcome.accepted:
            note(f"{kind} {self._text(payload)[:60]!r}: {_why(outcome)}")
        return {
            "payload": self._text(payload),
            "status": outcome.status,
            "outputs": [self._text(data) for data in outcome.outputs],
            "reports": [self._text(data) for data in outcome.reports],
            "exception": None if outcome.exception is None else self._text(outcome.exception),
            "error": None if outcome.error is None else str(outcome.error),
            "cycles": outcome.cycles,
            "seconds": round(outcome.seconds, 6),
        }

    def _teller(self, kind: RequestKind) -> Callable[[Event], None]:
        def tell(event: Event) -> None:
            match event:
                case Progress(per_mille=per_mille):
                    note(f"progress: {per_mille / 10:.1f} %")
                case Report(data=data) if kind == "inspect" and not self.json:
                    self._print(data)
                case Report(data=data):
                    note(f"report: {self._text(data)}")
                case Output(data=data) if kind == "inspect" and not self.json:
                    self._print(data)
                case Output(data=data) if self.json:
                    note(f"output: {self._text(data)}")

        return tell

    def _text(self, data: bytes) -> str:
        return as_text(data, hexadecimal=self.hexadecimal)

    def _print(self, data: bytes) -> None:
        write_bytes(data.hex().encode() if self.hexadecimal else data)


def _why(outcome: Outcome) -> str:
    about = f": {as_text(outcome.exception)}" if outcome.exception is not None else ""
    about += f": {outcome.error}" if outcome.error is not None else ""
    return outcome.status.replace("_", " ") + about


def _payloads(texts: list[str], files: list[Path], *, hexadecimal: bool) -> list[bytes]:
    payloads = [_payload(text, hexadecimal=hexadecimal) for text in texts]
    payloads += [path.read_bytes() for path in files]
    if not payloads:
        raise BadConfig("arguments", "none", "what to send: texts, --file FILE, or -")
    return payloads


def _payload(text: str, *, hexadecimal: bool) -> bytes:
    if text == "-":
        return sys.stdin.buffer.read()
    if not hexadecimal:
        return os.fsencode(text)
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise BadConfig("--hex", text, "pairs of hexadecimal digits") from error


def _finish(directory: Path, cycle: int, results: list[dict[str, Any]], *, json: bool) -> None:
    if json:
        emit({"directory": str(directory), "cycle": cycle, "results": results})
    accepted = all(result["status"] == "accepted" for result in results)
    raise typer.Exit(0 if accepted else 1)

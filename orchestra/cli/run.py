"""`orchestra run`: a machine folder, an ELF or a raw image, until it stops."""

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestra.cli.attend import Attendant
from orchestra.cli.options import (
    Bootargs,
    Config,
    CyclesPerTick,
    DiscardTorn,
    Drives,
    EngineKind,
    Firmware,
    Initrd,
    Json,
    Kernel,
    MachineOptions,
    RamSize,
    Reserve,
    Seed,
    StorageKind,
    Wait,
    build_config,
    examples,
    reserved,
    torn_choice,
)
from orchestra.cli.output import as_text, emit, human_count, human_seconds, note
from orchestra.cli.progress import cycles_bar
from orchestra.cli.signature import signature_range, write_signature
from orchestra.cli.terminal import Terminal
from orchestra.errors import BadConfig
from orchestra.machine.config import MachineConfig
from orchestra.machine.machine import Machine
from orchestra.machine.stop import (
    YIELD_PROGRESS,
    YIELD_REPORT,
    Halted,
    Idle,
    Interrupted,
    ReachedCycle,
    Stop,
    Yielded,
)

__all__ = ["EXAMPLES", "run"]

EXAMPLES = examples(
    "orchestra run prog.elf                             until it halts",
    "orchestra run prog.elf --json                      with cycle and digest, for programs",
    "orchestra run app                                  go on in a machine's folder",
    "orchestra run app --until 1000000                  to exactly that cycle, and no further",
    "orchestra run app --storage memory                 try it, and leave the folder as it is",
    "orchestra run prog.elf --trace log --max-cycles 1000",
    "orchestra run prog.elf --drive disk=disk.img,ro",
    "orchestra run --firmware fw_jump.bin --kernel Image --initrd root.cpio --stdin",
)
LARGEST_STATUS = 125  # above are the shell's own
NAMES = {
    Halted: "halted",
    Yielded: "yielded",
    ReachedCycle: "cycle",
    Interrupted: "interrupted",
    Idle: "idle",
}
TRACE_LINES = 4096  # between two looks at console and progress


@dataclass(slots=True)
class Run:
    """One run: the machine, how far it is to go, and what is to be seen of it."""

    machine: Machine
    attendant: Attendant
    terminal: Terminal
    end: int | None
    seconds: float = 0.0

    def to_stop(self) -> Stop:
        """Run on over automatic yields, which go to stderr, until there is a reason to stop."""
        while True:
            stop = self.attendant.run(self.machine, self.end)
            self.seconds = self.attendant.seconds
            if isinstance(stop, Yielded) and stop.kind == "automatic":
                _tell_event(stop, self.machine)
                self.attendant.on_tick()
            elif not isinstance(stop, Idle):
                return stop
            elif not self._input_came():
                signalled = self.attendant.signal is not None
                return Interrupted(stop.cycle) if signalled else stop

    def to_stop_traced(self, lines: Any) -> Stop:
        """Do the same one instruction at a time, with a line for each."""
        machine = self.machine
        began = time.perf_counter()
        while True:
            cycle = machine.cycle
            with contextlib.closing(machine.trace(self.end)) as trace:  # type: ignore[type-var]
                for number, line in enumerate(trace):
                    lines.write(line + "\n")
                    if self.attendant.signal is not None:
                        break
                    if number % TRACE_LINES == 0:
                        self.attendant.on_tick()
            self.seconds = time.perf_counter() - began
            self.attendant.on_tick()
            if self.attendant.signal is not None:
                return Interrupted(machine.cycle)
            standing = machine.cycle + (machine.cycle == cycle)  # no step was taken: say why
            stop = machine.run(standing)
            if not isinstance(stop, ReachedCycle) or stop.cycle == self.end:
                return stop

    def _input_came(self) -> bool:
        while self.attendant.signal is None:
            if self.terminal.wait_for_input():
                self.attendant.on_tick()
                return True
            if not self.terminal.feeding:
                return False
        return False


def run(
    target: Annotated[
        Path | None,
        typer.Argument(
            help="A machine's folder, an ELF program, or a raw image for the start of RAM.",
            metavar="TARGET",
        ),
    ] = None,
    json: Json = False,
    until: Annotated[
        int | None,
        typer.Option(help="Stop at exactly this cycle.", metavar="CYCLE", min=0),
    ] = None,
    max_cycles: Annotated[
        int | None,
        typer.Option(help="Give up after so many cycles.", metavar="N", min=0),
    ] = None,
    storage: Annotated[
        StorageKind | None,
        typer.Option(
            help="Where changed pages go: a folder's own files (its default), or memory "
            "(that of programs; with backing they run in a temporary folder)."
        ),
    ] = None,
    engine: Annotated[
        EngineKind | None,
        typer.Option(
            help="What executes the guest, if not what its config says; no guest can tell."
        ),
    ] = None,
    signature: Annotated[
        Path | None,
        typer.Option(
            help="Write memory from begin_signature to end_signature, 4 bytes a line (riscof).",
            metavar="FILE",
        ),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(help="Write a line per instruction, like Spike's commit log.", metavar="FILE"),
    ] = None,
    stdin: Annotated[
        bool,
        typer.Option("--stdin", help="Type standard input at the guest's console."),
    ] = False,
    ram: RamSize = None,
    drive: Drives = None,
    config: Config = None,
    firmware: Firmware = None,
    kernel: Kernel = None,
    initrd: Initrd = None,
    bootargs: Bootargs = None,
    cycles_per_tick: CyclesPerTick = None,
    seed: Seed = None,
    wait: Wait = 0,
    discard_torn: DiscardTorn = False,
    reserve: Reserve = None,
) -> None:
    """Run a machine until it halts, waits for a request, or has gone as far as it was told.

    The guest's console is printed on standard output, or on stderr with --json. Ctrl-C stops the
    machine between two instructions; a folder is sealed and can go on later.

    The exit status is the guest's halt code when that is at most 125, else 1. It is 0 when the
    guest waits for a request or --until is reached, 1 when --max-cycles ran out or nothing will
    ever happen again, 130 after Ctrl-C.
    """
    options = MachineOptions(
        program=target,
        config=config,
        ram=ram,
        firmware=firmware,
        kernel=kernel,
        initrd=initrd,
        bootargs=bootargs,
        drives=tuple(drive or ()),
        cycles_per_tick=cycles_per_tick,
        seed=seed,
    )
    with contextlib.ExitStack() as stack:
        if target is not None and target.is_dir():
            elf = None
            machine = stack.enter_context(
                _open(
                    target,
                    options,
                    storage,
                    wait_seconds=wait,
                    discard=discard_torn,
                    reserve=reserved(reserve),
                )
            )
        else:
            made = _config_of(options)
            elf = made.boot.elf
            machine = stack.enter_context(_create(made, storage, reserved(reserve)))
        if engine is not None:
            machine.engine = engine.value
        symbols = signature_range(elf) if signature is not None else None
        lines = stack.enter_context(trace.open("w")) if trace is not None else None
        attendant = stack.enter_context(Attendant())
        terminal = stack.enter_context(Terminal(sys.stderr if json else sys.stdout, feed=stdin))
        end = _end(machine, until, max_cycles)
        bar = stack.enter_context(cycles_bar("running", machine.cycle, end, quiet=not json))
        attendant.on_tick = _ticker(machine, terminal, bar)
        one = Run(machine, attendant, terminal, end)
        start = machine.cycle
        stop = one.to_stop() if lines is None else one.to_stop_traced(lines)
        result = _result(one, stop, machine.cycle - start)
        if symbols is not None and signature is not None:
            write_signature(machine, symbols, signature)
        status = _status(stop, until, attendant)
    if json:
        emit(result)
    else:
        note(_summary(result))
    raise typer.Exit(status)


def _open(
    directory: Path,
    options: MachineOptions,
    storage: StorageKind | None,
    *,
    wait_seconds: float,
    discard: bool,
    reserve: int,
) -> Machine:
    if options.given:
        raise BadConfig(options.given[0], str(directory), "a program: a folder has its own config")
    return Machine.open(
        directory,
        storage=(storage or StorageKind.BACKING).value,
        wait_seconds=wait_seconds,
        torn=torn_choice(discard=discard),
        reserve=reserve,
    )


def _config_of(options: MachineOptions) -> MachineConfig:
    made = build_config(options)
    if not (made.boot.elf or made.boot.firmware or made.boot.images):
        raise BadConfig("TARGET", None, "something to run: a folder, a program, or a --config")
    return made


@contextlib.contextmanager
def _create(config: MachineConfig, storage: StorageKind | None, reserve: int) -> Iterator[Machine]:
    if storage is not StorageKind.BACKING:
        with Machine.create(config, reserve=reserve) as machine:
            yield machine
        return
    with (
        tempfile.TemporaryDirectory(prefix="orchestra-") as folder,
        Machine.create(config, Path(folder) / "machine", reserve=reserve) as machine,
    ):
        yield machine


def _end(machine: Machine, until: int | None, max_cycles: int | None) -> int | None:
    if until is not None and until < machine.cycle:
        raise BadConfig("--until", until, f"{machine.cycle} or more, the cycle it is at")
    ends = [] if until is None else [until]
    if max_cycles is not None:
        ends.append(machine.cycle + max_cycles)
    return min(ends, default=None)


def _ticker(machine: Machine, terminal: Terminal, bar: Callable[[int], None]) -> Callable[[], None]:
    def tick() -> None:
        terminal.pump(machine)
        bar(machine.cycle)

    return tick


def _tell_event(stop: Yielded, machine: Machine) -> None:
    if stop.reason == YIELD_PROGRESS:
        note(f"progress: {stop.data / 10:.1f} %")
    else:
        kind = "report" if stop.reason == YIELD_REPORT else "output"
        note(f"{kind}: {as_text(machine.receive_request())}")


def _result(one: Run, stop: Stop, cycles: int) -> dict[str, Any]:
    result: dict[str, Any] = {
        "stop": NAMES[type(stop)],
        "code": stop.code if isinstance(stop, Halted) else None,
        "cycle": stop.cycle,
        "digest": one.machine.digest(),
        "seconds": round(one.seconds, 6),
        "mips": round(cycles / one.seconds / 1e6, 1) if one.seconds else None,
        "reproducible": one.machine.reproducible,
    }
    if isinstance(stop, Yielded):
        result |= {"reason": stop.reason, "data": stop.data}
    return result


def _status(stop: Stop, until: int | None, attendant: Attendant) -> int:
    match stop:
        case Halted(code=code):
            return code if code <= LARGEST_STATUS else 1
        case Yielded():
            return 0
        case Interrupted() if attendant.signal is not None:
            return 128 + attendant.signal
        case ReachedCycle(cycle=cycle):
            return int(cycle != until)
    return 1


def _summary(result: dict[str, Any]) -> str:
    what = {
        "halted": f"halted with code {result['code']}",
        "yielded": "waits for a request",
        "cycle": "stopped",
        "interrupted": "interrupted",
        "idle": "waits for what never comes",
    }[result["stop"]]
    took = human_seconds(result["seconds"])
    speed = f", {human_count(result['mips'] * 1e6)} cycles/s" if result["mips"] else ""
    return f"{what} at cycle {result['cycle']} ({took}{speed})\ndigest {result['digest']}"

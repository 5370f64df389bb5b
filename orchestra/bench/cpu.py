"""`orchestra bench cpu`: how fast guests execute, and the lines that QEMU beside them draws."""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from orchestra.bench.kernels import EMPTY, GEOMEAN, KERNELS, kernel_config, run_machine
from orchestra.bench.loads import BOOT, LOADS, load_config
from orchestra.bench.qemu import qemu_version, run_qemu_kernel, run_qemu_linux
from orchestra.bench.report import Report, Row, check_rows, describe_host, is_wanted
from orchestra.errors import GuestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from orchestra.bench.kernels import Kernel, Measured
    from orchestra.bench.loads import Load
    from orchestra.machine import Engine

    Announce = Callable[[str], AbstractContextManager[object]]

__all__ = ["CpuOptions", "bench_cpu", "row_names"]

MEGA: Final = 1e6
LEAST_SECONDS: Final = 1e-4  # what a difference of two measurements is at least

_TRANSLATED: Final = {
    "geomean": 1.75,
    "matmul-exact": 6.0,
    "big": 1.4,
    "boot": 2.0,
    "fork-exec": 8.0,
}
# How many times as fast as QEMU, by engine (the issue that asked for them names these).
LINES: Final[dict[Engine, dict[str, float]]] = {
    "interpreter": {
        "geomean": 0.5,
        "matmul-exact": 2.0,
        "big": 0.42,
        "boot": 1.0,
        "fork-exec": 5.0,
    },
    "auto": _TRANSLATED,
    "translator": _TRANSLATED,
}


@dataclass(frozen=True, slots=True)
class CpuOptions:
    """What is measured: `scale` multiplies the kernels' rounds; `peer` is whom with."""

    engine: Engine = "auto"
    peer: Literal["qemu"] | None = None
    runs: int = 5
    scale: float = 1.0
    rows: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        check_rows(self.rows, row_names())

    def wants(self, name: str) -> bool:
        """Whether this kernel or load was asked for."""
        return is_wanted(name, self.rows)


def row_names() -> list[str]:
    """Return the names of kernels and loads, in their order."""
    return [*(kernel.name for kernel in KERNELS), BOOT.name, *(load.name for load in LOADS)]


@dataclass(frozen=True, slots=True)
class Pair:
    """One guest's runs: ours, and the peer's seconds beside each (none without a peer)."""

    name: str
    unit: Literal["MIPS", "s"]
    instructions: int
    ours: tuple[float, ...]
    theirs: tuple[float, ...]


def bench_cpu(options: CpuOptions, announce: Announce) -> Report:
    """Run every guest `runs` times, beside the peer's run of it, and report the rows."""
    host = describe_host() | {"engine": options.engine}
    if options.peer:
        host[options.peer] = qemu_version()
    with tempfile.TemporaryDirectory(prefix="orchestra-cpu-") as scratch:
        folder = Path(scratch)
        pairs = [*_kernels(options, folder, announce), *_loads(options, folder, announce)]
    return Report("cpu", host, tuple(_rows(options, pairs)))


def _kernels(options: CpuOptions, folder: Path, announce: Announce) -> Iterator[Pair]:
    kernels = [kernel for kernel in KERNELS if options.wants(kernel.name)]
    start_up = 0.0
    if options.peer and kernels:
        elf = EMPTY.write(folder, 1)
        start_up = statistics.median(run_qemu_kernel(elf, None).seconds for _ in range(5))
    for kernel in kernels:
        with announce(kernel.name):
            yield _kernel_pair(kernel, options, folder, start_up)


def _kernel_pair(kernel: Kernel, options: CpuOptions, folder: Path, start_up: float) -> Pair:
    elf, code = kernel.write(folder, options.scale), kernel.write_code(folder)
    config = kernel_config(elf, code)
    ours, theirs = [], []
    for _ in range(options.runs):
        ours.append(run_machine(config, options.engine))
        if options.peer:
            theirs.append(run_qemu_kernel(elf, code))
            _agree(kernel.name, ours[-1].output, theirs[-1].output)
    peers = tuple(max(LEAST_SECONDS, each.seconds - start_up) for each in theirs)
    seconds = tuple(each.seconds for each in ours)
    return Pair(kernel.name, "MIPS", ours[0].instructions, seconds, peers)


def _loads(options: CpuOptions, folder: Path, announce: Announce) -> Iterator[Pair]:
    """Every load has a boot of its own; what booting takes is subtracted."""
    measured: dict[str, Pair] = {}

    def measure(load: Load) -> Pair:
        if load.name not in measured:
            with announce(load.name):
                measured[load.name] = _load_pair(load, options, folder)
        return measured[load.name]

    if options.wants(BOOT.name):
        yield measure(BOOT)
    for load in LOADS:
        if load.beside and options.wants(load.name):
            part, whole = measure(load.beside), measure(load)
            yield Pair(
                load.name,
                "MIPS",
                whole.instructions - part.instructions,
                _without(whole.ours, part.ours),
                _without(whole.theirs, part.theirs),
            )


def _load_pair(load: Load, options: CpuOptions, folder: Path) -> Pair:
    config = load_config(folder, load)
    ours, theirs = [], []
    for _ in range(options.runs):
        ours.append(run_machine(config, options.engine))
        if options.peer:
            theirs.append(run_qemu_linux(config))
            _agree(load.name, _results(ours[-1]), _results(theirs[-1]))
    seconds = tuple(each.seconds for each in ours)
    return Pair(load.name, "s", ours[0].instructions, seconds, tuple(t.seconds for t in theirs))


def _without(whole: tuple[float, ...], part: tuple[float, ...]) -> tuple[float, ...]:
    """Subtract what booting takes, which is the median of its runs."""
    return tuple(max(LEAST_SECONDS, each - statistics.median(part)) for each in whole)


def _results(run: Measured) -> bytes:
    """Return the lines of the load itself; firmware and kernel say other things elsewhere."""
    lines = run.output.replace(b"\r", b"").splitlines()
    return b"; ".join(line for line in lines if line.startswith(b"= "))


def _agree(name: str, ours: bytes, theirs: bytes) -> None:
    if ours != theirs:
        raise GuestError(f"{name}: the guest printed {ours!r} here and {theirs!r} at the peer")


def _rows(options: CpuOptions, pairs: list[Pair]) -> Iterator[Row]:
    for pair in pairs:
        if pair.unit == "s":
            yield Row(f"{pair.name}/debian", "s", pair.ours)
        else:
            yield Row(f"mips/{pair.name}", "MIPS", _mips(pair, pair.ours))
    yield from _geomean("mips/geomean", "MIPS", pairs, lambda pair: _mips(pair, pair.ours), None)
    if options.peer is None:
        return
    for pair in pairs:
        name = f"{options.peer}/{pair.name}"
        yield Row(name, pair.unit, pair.theirs if pair.unit == "s" else _mips(pair, pair.theirs))
    lines = LINES[options.engine]
    for pair in pairs:
        name = f"ratio-to-{options.peer}/{pair.name}"
        yield Row(name, "x", _ratios(pair), at_least=lines.get(pair.name))
    line = lines["geomean"]
    yield from _geomean(f"ratio-to-{options.peer}/geomean", "x", pairs, _ratios, line)


def _mips(pair: Pair, seconds: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(pair.instructions / MEGA / each for each in seconds)


def _ratios(pair: Pair) -> tuple[float, ...]:
    return tuple(theirs / ours for ours, theirs in zip(pair.ours, pair.theirs, strict=True))


def _geomean(
    name: str,
    unit: str,
    pairs: list[Pair],
    value: Callable[[Pair], tuple[float, ...]],
    line: float | None,
) -> Iterator[Row]:
    """Yield the geometric mean of the six kernels, run by run, if all six were measured."""
    six = [value(pair) for pair in pairs if pair.name in GEOMEAN]
    if len(six) == len(GEOMEAN):
        means = tuple(statistics.geometric_mean(run) for run in zip(*six, strict=True))
        yield Row(name, unit, means, at_least=line)

"""What is done to machines' folders while a process dies or the power fails, and what must be left.

Each scenario is prepared once; its work is done on a copy of that, and what was left is checked.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestra.errors import BadImage, MachineTorn
from orchestra.io.folder import sweep
from orchestra.machine import Drive, Machine
from orchestra.machine.clone import clone_machine
from orchestra.machine.compact import compact_machine
from orchestra.machine.verify import verify_folder
from tests.guests import ledger_config, ready_ledger

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Promise = Callable[[str], None]

# the third touches so many pages that a machine's new ones go to its file before it is stored
INPUTS = (b"fill 200 7", b"mint alice 1", b"page 500", b"mint carol 3")


@functools.cache
def digests() -> tuple[str, ...]:
    """The states that the ledger goes through: at reset, ready, and after each input."""
    with Machine.create(ledger_config()) as machine:
        found = [machine.digest()]
        machine.run()
        found.append(machine.digest())
        for payload in INPUTS:
            machine.advance(payload)
            found.append(machine.digest())
    return tuple(found)


RESET, READY, FILLED, ALICE, PAGED, CAROL = range(6)


def is_whole(folder: Path, *states: int, torn: tuple[int, ...] | None = None) -> int:
    """The folder holds one of these states, or says that it is torn and goes back to one of `torn`.

    In either case it goes on from there. Returns the state.
    """
    found, complaint = None, None
    try:
        with Machine.open(folder) as machine:
            found = digests().index(machine.digest())
    except MachineTorn as error:
        complaint = error
    if complaint is None:
        assert found in states, (found, states)
    else:
        assert torn is not None, complaint
        assert complaint.last_good.startswith(("its own, sealed at cycle", "the snapshot "))
        with Machine.open(folder, storage="backing", torn="discard") as machine:
            found = digests().index(machine.digest())
        assert found in torn, (found, torn)
    report = verify_folder(folder)
    assert report.ok, report.flaws
    return found


def goes_on(folder: Path, state: int) -> None:
    """The machine takes its next input, as if nothing had been."""
    with Machine.open(folder, storage="backing") as machine:
        if state == RESET:
            machine.run()
        elif state < CAROL:
            assert machine.advance(INPUTS[state - READY]).status == "accepted"
        expected = min(state + 1, CAROL)
        assert digests().index(machine.digest()) == expected
        machine.snapshot(folder.with_name("after"))
    is_whole(folder, expected)
    is_whole(folder.with_name("after"), expected)


def nothing_else(root: Path, *names: str) -> None:
    """What was half-built is swept by whoever comes next."""
    sweep(root)
    assert {path.name for path in root.iterdir()} <= {*names, "after"}


def absent_or(folder: Path, *states: int) -> bool:
    """The folder is there, whole, or not at all."""
    if not folder.exists():
        return False
    is_whole(folder, *states)
    return True


@dataclass(frozen=True)
class Scenario:
    """Work, durable or not, says what is there from now on; `check` is told what was promised.

    "end" is promised for it when it has returned.
    """

    prepare: Callable[[Path], None]
    work: Callable[[Path, bool, Promise], None]
    check: Callable[[Path, frozenset[str]], None]


def nothing(root: Path) -> None:
    """Start from an empty folder."""


def stored(root: Path) -> None:
    """A machine in its folder, sealed twice, and a snapshot between."""
    with ready_ledger(root / "app") as machine:
        machine.snapshot(root / "earlier")
        machine.advance(INPUTS[0])


def layered(root: Path) -> None:
    """One with two layers of its own."""
    stored(root)
    with Machine.open(root / "app", storage="backing") as machine:
        machine.advance(INPUTS[1])
    assert len(list((root / "app").glob("*.delta"))) == 2


def earlier_is_there(root: Path) -> None:
    """What was published before is as it was."""
    is_whole(root / "earlier", READY)


def create(root: Path, durable: bool, promise: Promise) -> None:
    Machine.create(ledger_config(), root / "app", storage="memory", durable=durable).close()


def created(root: Path, promised: frozenset[str]) -> None:
    assert absent_or(root / "app", RESET) or "end" not in promised
    if "end" not in promised:
        if not (root / "app").exists():
            Machine.create(ledger_config(), root / "app", storage="memory").close()
        goes_on(root / "app", RESET)
    nothing_else(root, "app")


def roll(root: Path, durable: bool, promise: Promise) -> None:
    with Machine.open(root / "app", storage="backing") as machine:
        machine.advance(INPUTS[1])
        machine.snapshot(root / "snap", durable=durable)
        promise("snap")
        machine.advance(INPUTS[2])
        machine.close(durable=durable)


def rolled(root: Path, promised: frozenset[str]) -> None:
    published = absent_or(root / "snap", ALICE)
    assert published or "snap" not in promised
    state = is_whole(root / "app", FILLED, ALICE, PAGED, torn=(FILLED, ALICE))
    assert state == PAGED or "end" not in promised
    goes_on(root / "app", state)
    earlier_is_there(root)
    nothing_else(root, "app", "earlier", "snap")


def roll_often(root: Path, durable: bool, promise: Promise) -> None:
    """Each snapshot absorbs the layer of the one before."""
    with Machine.open(root / "app", storage="backing") as machine:
        for number, payload in enumerate(INPUTS[1:]):
            machine.advance(payload)
            machine.snapshot(root / f"snap{number}", durable=durable)
            promise(f"snap{number}")


def rolled_often(root: Path, promised: frozenset[str]) -> None:
    made = [absent_or(root / f"snap{number}", ALICE + number) for number in range(3)]
    assert made == sorted(made, reverse=True)
    assert sum(made) >= len(promised - {"end"})
    state = is_whole(root / "app", FILLED, ALICE, PAGED, CAROL, torn=(FILLED, ALICE, PAGED, CAROL))
    assert state == CAROL or "end" not in promised
    assert state >= FILLED + sum(made) - 1  # one snapshot back at most
    earlier_is_there(root)
    nothing_else(root, "app", "earlier", "snap0", "snap1", "snap2")


def settle(root: Path, durable: bool, promise: Promise) -> None:
    """A snapshot in haste, and a close that makes up for it."""
    with Machine.open(root / "app", storage="backing") as machine:
        machine.advance(INPUTS[1])
        machine.snapshot(root / "hasty")
        machine.close(durable=durable)


def settled(root: Path, promised: frozenset[str]) -> None:
    if "end" in promised:
        is_whole(root / "app", ALICE)
        goes_on(root / "app", ALICE)


def store_from_memory(root: Path, durable: bool, promise: Promise) -> None:
    with Machine.open(root / "app") as machine:
        machine.advance(INPUTS[1])
        machine.snapshot(root / "snap", durable=durable)


def stored_from_memory(root: Path, promised: frozenset[str]) -> None:
    assert absent_or(root / "snap", ALICE) or "end" not in promised
    goes_on(root / "app", is_whole(root / "app", FILLED))
    earlier_is_there(root)
    nothing_else(root, "app", "earlier", "snap")


def compact(root: Path, durable: bool, promise: Promise) -> None:
    compact_machine(root / "app")


def compacted(root: Path, promised: frozenset[str]) -> None:
    is_whole(root / "app", ALICE)
    layers = compact_machine(root / "app").layers
    assert layers == 1 or "end" not in promised
    assert verify_folder(root / "app").strangers == ()
    goes_on(root / "app", is_whole(root / "app", ALICE))
    earlier_is_there(root)
    nothing_else(root, "app", "earlier")


def clone(root: Path, durable: bool, promise: Promise) -> None:
    clone_machine(root / "app", root / "other", durable=durable)
    promise("other")
    clone_machine(root / "app", root / "plain", durable=durable, flatten=True)


def cloned(root: Path, promised: frozenset[str]) -> None:
    made = [absent_or(root / name, FILLED) for name in ("other", "plain")]
    assert all(made) or "end" not in promised
    assert made[0] or "other" not in promised
    goes_on(root / "app", is_whole(root / "app", FILLED))
    nothing_else(root, "app", "earlier", "other", "plain")


def torn(root: Path) -> None:
    """A machine whose writer died."""
    stored(root)
    machine = Machine.open(root / "app", storage="backing")
    machine.advance(INPUTS[1])
    machine.discard()


def go_back(root: Path, durable: bool, promise: Promise) -> None:
    with Machine.open(root / "app", storage="backing", torn="discard") as machine:
        machine.advance(INPUTS[1])
        machine.close(durable=durable)


def gone_back(root: Path, promised: frozenset[str]) -> None:
    state = is_whole(root / "app", FILLED, ALICE, torn=(FILLED,))
    assert state == ALICE or "end" not in promised
    goes_on(root / "app", state)
    earlier_is_there(root)
    nothing_else(root, "app", "earlier")


def with_drive(root: Path) -> None:
    """A machine that stores to a shared drive in place."""
    (root / "disk.img").write_bytes(bytes(2 << 20))
    drive = Drive("disk", kind="pmem", path=root / "disk.img", shared=True)
    with Machine.create(ledger_config(drives=(drive,)), root / "app") as machine:
        machine.snapshot(root / "earlier")


def write_drive(root: Path, durable: bool, promise: Promise) -> None:
    with Machine.open(root / "app", storage="backing") as machine:
        place = machine.layout.range("disk").start
        machine.write(place, b"one")
        machine.run(max_cycles=10)
        machine.snapshot(root / "snap", durable=durable)
        machine.write(place, b"two")
        machine.run(max_cycles=10)
        machine.close(durable=durable)


def wrote_drive(root: Path, promised: frozenset[str]) -> None:
    """Never is the drive of another moment than the rest of the machine."""
    words = {0: bytes(3), 10: b"one", 20: b"two"}
    for name in ("earlier", "snap", "app"):
        if not (root / name).exists():
            assert name == "snap"
            assert "end" not in promised
            continue
        complaint = ""
        try:
            with Machine.open(root / name) as machine:
                found = machine.read(machine.layout.range("disk").start, 3)
                assert found == words[machine.cycle]
        except MachineTorn as error:
            complaint = str(error)
        if complaint:
            assert name == "app"
            assert "end" not in promised
            assert "snapshot" in complaint
    nothing_else(root, "app", "earlier", "snap", "disk.img")


def half_a_record(root: Path, durable: bool, promise: Promise) -> None:
    """Not a scenario of ours: the record is written in place, as nobody should."""
    path = root / "app" / "machine.json"
    data = path.read_bytes()
    with path.open("r+b", buffering=0) as file:
        file.write(data[: len(data) // 2])
        file.truncate()
        file.write(data[len(data) // 2 :])


def found_half(root: Path, promised: frozenset[str]) -> None:
    try:
        is_whole(root / "app", FILLED)
    except BadImage as error:
        raise AssertionError("torn record") from error


SCENARIOS = {
    "create": Scenario(nothing, create, created),
    "roll": Scenario(stored, roll, rolled),
    "roll-often": Scenario(stored, roll_often, rolled_often),
    "settle": Scenario(stored, settle, settled),
    "store-from-memory": Scenario(stored, store_from_memory, stored_from_memory),
    "compact": Scenario(layered, compact, compacted),
    "clone": Scenario(stored, clone, cloned),
    "go-back": Scenario(torn, go_back, gone_back),
    "write-drive": Scenario(with_drive, write_drive, wrote_drive),
    "in-place": Scenario(stored, half_a_record, found_half),  # the checker's own check
}

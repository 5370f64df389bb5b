"""The bare-metal programs on a machine: the ledger answers there as it does natively."""

from collections.abc import Iterator
from ctypes import CDLL

import pytest
from ledger_native import Ledger, build

from orchestra.guest import HELLO, LEDGER
from orchestra.machine import Machine
from orchestra.machine.config import Boot, MachineConfig, Ram
from orchestra.machine.stop import Halted, Yielded

REQUESTS = [
    ("advance", b"mint alice 100"),
    ("advance", b"transfer alice bob 30"),
    ("advance", b"transfer alice bob 71"),
    ("advance", b"mint \xff\x00 1"),
    ("advance", b"mint alice 18446744073709551615"),
    ("advance", b"fail \x00 now"),
    ("advance", b"burn bob 5"),
    ("advance", b""),
    ("inspect", b"balance bob"),
    ("inspect", b"mint alice 1"),
    ("inspect", b"history 10"),
    ("inspect", b"flood 20"),
    ("advance", b"fill 3000 7"),
    ("inspect", b"accounts"),
    ("inspect", b"echo " + bytes(range(256)) * 8191),
    ("advance", b"page 300"),
    ("inspect", b"total"),
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> CDLL:
    return build(tmp_path_factory.mktemp("ledger"))


@pytest.fixture
def machine() -> Iterator[Machine]:
    boot = Boot(elf=LEDGER)
    with Machine.create(MachineConfig(ram=Ram(length=32 << 20), boot=boot)) as machine:
        stop = machine.run(max_cycles=1000)
        assert isinstance(stop, Yielded)
        assert (stop.kind, stop.reason) == ("manual", 1)
        yield machine


def test_hello_says_hello_and_halts() -> None:
    boot = Boot(elf=HELLO)
    with Machine.create(MachineConfig(ram=Ram(length=1 << 20), boot=boot)) as machine:
        stop = machine.run(max_cycles=1000)
        assert isinstance(stop, Halted)
        assert stop.code == 0
        assert machine.console_output() == b"hello from the guest\n"


def test_the_ledger_answers_on_the_machine_as_it_does_natively(
    machine: Machine, library: CDLL
) -> None:
    native = Ledger(library)
    for kind, request in REQUESTS:
        expected = native.advance(request) if kind == "advance" else native.inspect(request)
        outcome = machine.advance(request) if kind == "advance" else machine.inspect(request)
        assert outcome.status == expected.verdict
        assert outcome.reports == tuple(expected.reports)
        assert outcome.outputs == tuple(expected.outputs)
        assert (outcome.exception or b"") == expected.exception


def test_the_ledger_serves_on_after_every_way_to_fail(machine: Machine) -> None:
    machine.advance(b"mint alice 5")
    for request, status in [(b"crash", "exception"), (b"fail", "exception"), (b"halt 3", "halted")]:
        assert machine.advance(request).status == status
        assert machine.inspect(b"balance alice").reports == (b"5",)


def test_a_trap_is_reported_with_its_cause_and_place(machine: Machine) -> None:
    text = machine.inspect(b"crash").exception
    assert text is not None
    assert text.startswith(b"trap: mcause 0x0000000000000003, mepc 0x00000000800")


def test_a_response_of_no_known_reason_is_an_exception(machine: Machine) -> None:
    machine.send_response(b"total", 2)
    stop = machine.run(max_cycles=10_000)
    assert isinstance(stop, Yielded)
    assert (stop.kind, stop.reason) == ("manual", 4)
    assert b"neither an advance nor an inspect" in machine.receive_request()

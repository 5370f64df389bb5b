"""The agent on Debian, on the machine: whatever a command does, its output arrives and it ends."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from orchestra.guest.debian import BOOTARGS, DebianFiles, debian_config, fetch, make_initramfs
from orchestra.machine import Machine
from orchestra.machine.config import Devices, MachineConfig
from orchestra.machine.stop import Yielded

BOOT_CYCLES = 2_000_000_000


@pytest.fixture(scope="module")
def files() -> DebianFiles:
    return fetch()


@pytest.fixture(scope="module")
def config(files: DebianFiles, tmp_path_factory: pytest.TempPathFactory) -> MachineConfig:
    return debian_config(files, make_initramfs(files, tmp_path_factory.mktemp("x") / "initramfs"))


@pytest.fixture(scope="module")
def booted(config: MachineConfig) -> Iterator[Machine]:
    with Machine.create(config) as machine:
        stop = machine.run(max_cycles=BOOT_CYCLES)
        assert isinstance(stop, Yielded), machine.console_output()
        assert (stop.kind, stop.reason) == ("manual", 1)
        assert machine.console_output().endswith(b"orchestra agent: ready\r\n")
        yield machine


@pytest.fixture
def guest(booted: Machine) -> Iterator[Machine]:
    with booted.fork() as machine:
        yield machine


LONGEST_ARGUMENT = 131071

COMMANDS = [
    (b"", "accepted", b""),
    (b"echo hi; echo err >&2", "accepted", b"hi\nerr\n"),
    (b"exit 3", "rejected", b""),
    (b"echo partly; exit 1", "rejected", b"partly\n"),
    (b"no-such-command", "rejected", b"sh: no-such-command: not found\n"),
    (b"kill -9 $$", "rejected", b""),
    (b"cat", "accepted", b""),
    (b"echo $$ > /dev/null; cat /proc/1/comm", "accepted", b"agent\n"),
    (b"sleep 100 & echo started", "accepted", b"started\n"),
    (b"(sleep 0.05; echo late) & echo early", "accepted", b"early\nlate\n"),
    (b"echo a\0b", "rejected", b"a shell command cannot hold a NUL byte"),
    (b"echo a".ljust(LONGEST_ARGUMENT - 1) + b"b", "accepted", b"a b\n"),
    (b"echo a".ljust(LONGEST_ARGUMENT) + b"b", "accepted", b"a b\n"),
    (b"#".ljust(2 << 20, b"x"), "accepted", b""),
]


@pytest.mark.parametrize(
    ("command", "status", "text"), COMMANDS, ids=lambda value: repr(value)[:24]
)
def test_a_command_is_answered(guest: Machine, command: bytes, status: str, text: bytes) -> None:
    outcome = guest.inspect(command)
    assert outcome.status == status
    assert outcome.outputs == ()
    assert b"".join(outcome.reports) == text


def test_an_advance_changes_the_state_and_an_inspect_does_not(guest: Machine) -> None:
    outcome = guest.advance(b"echo x > /root/file; echo written")
    assert (outcome.status, outcome.outputs, outcome.reports) == ("accepted", (b"written\n",), ())
    assert guest.inspect(b"cat /root/file; rm /root/file").reports == (b"x\n",)
    assert guest.inspect(b"cat /root/file").reports == (b"x\n",)


def test_a_rejected_advance_is_undone(guest: Machine) -> None:
    before = guest.digest()
    assert guest.advance(b"echo x > /root/file; exit 1").status == "rejected"
    assert guest.digest() == before


def test_nothing_of_a_long_output_is_lost_and_no_report_is_too_long(guest: Machine) -> None:
    outcome = guest.inspect(b"seq 1 200000; seq 1 1000 >&2")
    lines = [*range(1, 200001), *range(1, 1001)]
    assert b"".join(outcome.reports) == b"".join(b"%d\n" % line for line in lines)
    assert max(len(report) for report in outcome.reports) <= 65536


def test_a_pipeline_of_all_bytes_is_exact(guest: Machine) -> None:
    reports = guest.inspect(b"head -c 500000 /dev/urandom > /tmp/r; md5sum < /tmp/r; cat /tmp/r")
    digest, _, data = b"".join(reports.reports).partition(b"  -\n")
    assert len(data) == 500000
    assert hashlib.md5(data).hexdigest().encode() == digest


def test_orphans_do_not_stay_as_zombies(guest: Machine) -> None:
    guest.advance(b"(sleep 0.01 &); (true &)")
    guest.advance(b"sleep 0.1")
    assert guest.inspect(b"cat /proc/[0-9]*/stat | grep -c ') Z'").reports == (b"0\n",)


def test_a_background_process_lives_on_between_requests(guest: Machine) -> None:
    guest.advance(b"(sleep 1; echo woke > /root/file) > /dev/null 2>&1 &")
    assert guest.advance(b"sleep 2; cat /root/file").outputs == (b"woke\n",)


def test_no_descriptor_leaks_over_many_requests(guest: Machine) -> None:
    count = b"ls /proc/1/fd | wc -l"
    first = guest.inspect(count).reports
    for _ in range(5):
        guest.advance(b"true")
    assert guest.inspect(count).reports == first


def test_powering_off_is_halting(guest: Machine) -> None:
    assert guest.inspect(b"poweroff -f; sleep 9").status == "halted"


def test_modules_named_in_the_bootargs_are_loaded_first(files: DebianFiles, tmp_path: Path) -> None:
    bootargs = f"{BOOTARGS} modules=virtio_blk,virtio-rng"
    initramfs = make_initramfs(files, tmp_path / "initramfs")
    with Machine.create(debian_config(files, initramfs, bootargs=bootargs)) as machine:
        assert isinstance(machine.run(max_cycles=BOOT_CYCLES), Yielded)
        modules = b"".join(machine.inspect(b"lsmod").reports)
        assert b"virtio_mmio" in modules
        assert b"virtio_blk" in modules
        outcome = machine.inspect(b"head -c 8 /dev/hwrng | wc -c")
        assert (outcome.status, outcome.reports) == ("accepted", (b"8\n",))


@pytest.mark.parametrize(
    ("devices", "bootargs", "said"),
    [
        (Devices(), f"{BOOTARGS} -- shell", b"BusyBox"),
        (Devices(htif=False, cmio=False), BOOTARGS, b"no host answers at 0x40008000"),
    ],
    ids=["asked for", "without a host"],
)
def test_the_console_has_a_shell_where_the_agent_does_not_serve(
    config: MachineConfig, devices: Devices, bootargs: str, said: bytes
) -> None:
    boot = msgspec.structs.replace(config.boot, bootargs=bootargs)
    config = msgspec.structs.replace(config, boot=boot, devices=devices)
    with Machine.create(config) as machine:
        machine.run(max_cycles=BOOT_CYCLES)
        assert said in machine.console_output()
        machine.console_input(b"echo $((6*7))\n")
        machine.run(max_cycles=BOOT_CYCLES)
        assert b"\r\n42\r\n" in machine.console_output()

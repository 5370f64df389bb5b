"""A machine's root hash follows what it writes, by whatever road, and proves what memory holds."""

import hashlib

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestra.machine import Drive, Machine, MachineConfig
from tests.guests import ready_ledger
from tests.machine.plain_hash import root_of

STEPS = ["hash", "advance", "reject", "fork", "checkpoint", "rollback", "write", "zero", "snapshot"]


def anew(machine):
    return root_of(machine).hex()


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from(STEPS), max_size=14), st.booleans())
def test_it_is_that_of_the_memory_as_it_is(tmp_path_factory, steps, in_files):
    folder = tmp_path_factory.mktemp("root")
    machine = ready_ledger(folder / "app" if in_files else None)
    machine.checkpoint()
    others = []
    for number, step in enumerate(["hash", *steps, "hash"]):
        match step:
            case "hash":
                assert machine.root_hash() == anew(machine)
            case "advance":
                machine.advance(b"mint alice %d" % (number + 1))
            case "reject":
                machine.advance(b"burn alice 1000000")
            case "fork":
                others.append(machine)
                machine = machine.fork()
            case "checkpoint":
                machine.checkpoint()
            case "rollback":
                machine.rollback()
            case "write":
                machine.write(0x8200_0000 + number * 5000, bytes([number + 1]) * 9000)
            case "zero":
                machine.write(0x8200_0000, bytes(64 * 1024))
            case "snapshot":
                machine.snapshot(folder / f"{number}")
    for other in [*others, machine]:
        assert other.root_hash() == anew(other)
        other.close()


def test_memory_written_in_place_is_hashed_too(tmp_path):
    drive = tmp_path / "disk"
    drive.write_bytes(bytes(2 << 20))
    config = MachineConfig(drives=(Drive("disk", kind="pmem", path=drive, shared=True),))
    with Machine.create(config) as machine:
        before = machine.root_hash()
        machine.write(machine.layout.range("disk").start + 8192, b"in place")
        assert machine.root_hash() == anew(machine) != before


def test_a_proof_convinces_who_knows_the_root():
    with ready_ledger() as machine:
        machine.write(0x8200_1000, b"a fact in memory")
        root = machine.root_hash()
        page = machine.proof(0x8200_1000, 12)
        assert page.verify(root)
        assert page.target == hashlib.sha256(machine.read(0x8200_1000, 4096)).digest()
        assert machine.proof(0x8200_1008, 3).verify(root)
        assert machine.proof(0x8200_0000, 20).verify(root)
        machine.write(0x8200_1008, b"!")
        assert not machine.proof(0x8200_1000, 12).verify(root)


def test_the_root_of_a_booted_debian_costs_little_the_second_time(debian):
    import time

    snapshot, _ = debian
    with Machine.open(snapshot) as machine:
        began = time.perf_counter()
        first = machine.root_hash()
        whole = time.perf_counter() - began
        with machine.fork() as copy:
            copy.advance(b"true")
            began = time.perf_counter()
            assert copy.root_hash() != first
            assert time.perf_counter() - began < whole / 3
            assert copy.root_hash() == anew(copy)
        assert machine.root_hash() == first

"""The root hash of a machine: what it is of, and that it keeps up with all that is done to it."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestra.machine import Machine
from orchestra.machine.proof import STATE_ADDRESS, Proof
from orchestra.machine.state_hash import StateHash
from tests.guests import ledger_config, ready_ledger
from tests.machine.plain_hash import STATE_PAGE, root_of


def test_no_machine_has_memory_where_the_state_is():
    with Machine.create(ledger_config()) as machine:
        assert all(item.start > STATE_ADDRESS for item in machine.layout.memory)
        with pytest.raises(ValueError, match="not memory"):
            machine.read(STATE_ADDRESS, 8)


STEPS = st.lists(
    st.sampled_from(["advance", "reject", "write", "zero", "fork", "checkpoint"])
    | st.sampled_from(["rollback", "store", "refresh"]),
    min_size=4,
    max_size=30,
)


@pytest.mark.parametrize("storage", ["memory", "backing"])
@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS, pages=st.randoms(use_true_random=False))
def test_the_hash_of_a_machine_keeps_up_whatever_is_done_to_it(
    tmp_path_factory, storage, steps, pages
):
    folder = tmp_path_factory.mktemp("hash")
    machine = ready_ledger(folder / "app" if storage == "backing" else None)
    machine.checkpoint()
    machine.root_hash()
    for index, step in enumerate([*steps, "refresh"]):
        address = 0x8200_0000 + 4096 * pages.randrange(40)
        match step:
            case "advance":
                machine.advance(b"mint alice 1")
            case "reject":
                machine.advance(b"transfer nobody alice 5")
            case "write":
                machine.write(address, bytes([index + 1]) * 5000)
            case "zero":
                machine.write(address, bytes(8192))
            case "fork":
                machine, origin = machine.fork(), machine
                origin.close()
            case "checkpoint":
                machine.checkpoint()
            case "rollback":
                machine.rollback()
            case "store":
                machine.snapshot(folder / str(index))
            case "refresh":
                assert machine.root_hash() == root_of(machine).hex()
    machine.close()


class Watched:
    """A core that notes which pages it is asked for."""

    def __init__(self, core):
        self.core = core
        self.asked = []

    def __getattr__(self, name):
        return getattr(self.core, name)

    def hash_pages(self, pages):
        self.asked += pages
        return self.core.hash_pages(pages)


def test_keeping_up_asks_for_what_changed_and_no_more(tmp_path):
    with ready_ledger() as machine:
        for number in range(300):
            machine.write(0x8200_0000 + 4096 * number, b"some")
        machine.snapshot(tmp_path / "snapshot")
        core = Watched(machine._core)
        hashed = StateHash(core)
        hashed.refresh()
        assert core.asked == []
        machine.write(0x8200_0000, b"more")
        assert hashed.refresh().root == root_of(machine)
        assert core.asked == [STATE_PAGE, 0x82000]


def test_equal_machines_have_equal_roots_and_others_do_not():
    with ready_ledger() as machine, machine.fork() as copy:
        root = machine.root_hash()
        assert copy.root_hash() == root
        machine.advance(b"mint alice 100")
        assert machine.root_hash() != root
        copy.registers["t0"] ^= 1
        assert copy.root_hash() != root
        copy.rollback()
        assert copy.root_hash() == root


def test_registers_and_memory_of_a_machine_can_be_proven():
    with ready_ledger() as machine:
        core = machine._core
        tree = StateHash(core).refresh()
        root = tree.root
        places = {"pc": 520, "sp": 8 * 2, "a0": 8 * 10, "fs0": 264 + 8 * 8, "mcycle": 528}
        for name, offset in places.items():
            proof = tree.proof(STATE_ADDRESS + offset, 3, core.state)
            value = machine.registers[name].to_bytes(8, "little")
            assert proof.verify(root, value), name
        address = machine.registers["sp"] & -8
        page = machine.read(address & -4096, 4096)
        proof = Proof.from_json(tree.proof(address, 3, page).to_json())
        assert proof.verify(root, machine.read(address, 8))

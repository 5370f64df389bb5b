"""One machine, whole: requests, copies, folders; the same digest by every road."""

import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestra.errors import (
    FolderExists,
    MachineBusy,
    MachineClosed,
    MachineLocked,
    MachineTorn,
)
from orchestra.machine import (
    Halted,
    Interrupted,
    Limits,
    Machine,
    MachineConfig,
    ReachedCycle,
    Yielded,
)
from tests.guests import (
    HELLO,
    LEDGER,
    bare_config,
    ledger_config,
    ready_ledger,
    write_image,
    write_words,
)

INPUTS = [b"mint alice 100", b"transfer alice bob 30", b"burn bob 7", b"mint carol 5"]
SELF_LOOP = 0x0000006F  # j .


def advanced(machine, inputs=INPUTS):
    for payload in inputs:
        assert machine.advance(payload).status == "accepted"
    return machine


def test_a_guest_prints_and_halts_with_its_code():
    from orchestra.machine import Boot

    with Machine.create(MachineConfig(boot=Boot(elf=HELLO))) as machine:
        stop = machine.run()
        assert isinstance(stop, Halted)
        assert stop.code == 0
        assert machine.console_output() == b"hello from the guest\n"
        assert machine.console_output() == b""
        assert machine.run() == stop


def test_an_application_accepts_rejects_raises_and_answers():
    with ready_ledger() as machine:
        accepted = machine.advance(b"mint alice 100")
        assert (accepted.status, accepted.outputs) == ("accepted", (b"1 mint alice 100",))
        before = machine.digest()
        rejected = machine.advance(b"burn alice 101")
        assert rejected.status == "rejected"
        assert rejected.reports == (b"insufficient balance: alice",)
        assert machine.advance(b"fail now").status == "exception"
        assert machine.digest() == before
        answer = machine.inspect(b"balance alice")
        assert (answer.status, answer.reports) == ("accepted", (b"100",))
        assert machine.digest() == before


def test_limits_end_a_call_and_leave_the_machine_as_it_was():
    with ready_ledger() as machine:
        before = machine.digest()
        cut = machine.advance(b"spin 100000000", Limits(max_cycles=12_345))
        assert (cut.status, cut.cycles) == ("limit_exceeded", 12_345)
        assert machine.digest() == before
        flood = machine.inspect(b"flood 50", Limits(max_output_bytes=100))
        assert flood.status == "limit_exceeded"
        assert 0 < sum(map(len, flood.reports)) <= 100


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=20), st.randoms())
def test_a_run_cut_anywhere_and_moved_between_copies_ends_in_the_same_state(cuts, random):
    with advanced(ready_ledger()) as whole:
        expected = whole.digest()
    machine = ready_ledger()
    for payload in INPUTS:
        machine.checkpoint()
        machine.send_response(payload, reason=0)
        stop = None
        for cut in [*cuts, 1 << 40]:
            stop = machine.run(max_cycles=cut)
            while isinstance(stop, Yielded) and stop.kind == "automatic":
                stop = machine.run(max_cycles=cut)
            if isinstance(stop, Yielded):
                break
            assert isinstance(stop, ReachedCycle)
            road = random.randrange(4)
            if road == 0:
                machine, old = machine.fork(), machine
                old.close()
            elif road == 1:
                machine.checkpoint()
            elif road == 2:
                machine.checkpoint()
                machine.run(max_cycles=500)
                machine.rollback()
        assert isinstance(stop, Yielded)
    assert machine.digest() == expected
    machine.close()


@settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sets(st.integers(0, len(INPUTS)), max_size=3), st.sampled_from(["memory", "backing"]))
def test_a_machine_stored_and_opened_again_ends_in_the_same_state(
    tmp_path_factory, stores, storage
):
    folder = tmp_path_factory.mktemp("stores")
    with advanced(ready_ledger()) as whole:
        expected = whole.digest()
    machine = ready_ledger(folder / "app" if storage == "backing" else None)
    for position, payload in enumerate([*INPUTS, None]):
        if position in stores:
            target = folder / f"at-{position}"
            machine.snapshot(target)
            here = machine.digest()
            machine.close()
            machine = Machine.open(target, storage=storage)
            assert machine.digest() == here
        if payload is not None:
            assert machine.advance(payload).status == "accepted"
    assert machine.digest() == expected
    machine.close()


def test_a_backing_machine_that_was_closed_opens_where_it_stood(tmp_path):
    with advanced(ready_ledger(tmp_path / "app")) as machine:
        expected, cycle = machine.digest(), machine.cycle
    with Machine.open(tmp_path / "app") as again:
        assert (again.digest(), again.cycle) == (expected, cycle)
        assert again.inspect(b"balance alice").reports == (b"70",)


def test_opening_for_writing_and_closing_leaves_the_folder_as_it_was(tmp_path):
    with ready_ledger(tmp_path / "app"):
        pass
    before = {path.name: path.read_bytes() for path in (tmp_path / "app").iterdir()}
    with Machine.open(tmp_path / "app", storage="backing") as machine:
        machine.checkpoint()
    assert {path.name: path.read_bytes() for path in (tmp_path / "app").iterdir()} == before


def test_a_snapshot_shares_its_files_and_survives_its_parent(tmp_path):
    from orchestra.io import folder

    image = write_image(tmp_path / "image")
    with advanced(ready_ledger(tmp_path / "app", image)) as machine:
        result = machine.snapshot(tmp_path / "snap")
        assert set(result.methods) == {"link"}
        expected = machine.digest()
        machine.advance(b"mint dave 1")
        machine.snapshot(tmp_path / "later")
    folder.remove(tmp_path / "app")
    folder.remove(tmp_path / "later")
    with Machine.open(tmp_path / "snap") as copy:
        assert copy.digest() == expected


def test_a_copied_folder_is_the_same_machine(tmp_path):
    import shutil

    with advanced(ready_ledger(tmp_path / "app")) as machine:
        machine.snapshot(tmp_path / "snap")
        expected = machine.digest()
    shutil.copytree(tmp_path / "snap", tmp_path / "moved")
    with Machine.open(tmp_path / "moved", storage="backing") as copy:
        assert copy.digest() == expected
        assert copy.advance(b"mint dave 1").status == "accepted"


def test_forks_of_a_running_backing_machine_keep_their_state(tmp_path):
    with ready_ledger(tmp_path / "app") as machine:
        copies = []
        for payload in INPUTS:
            machine.advance(payload)
            copies.append((machine.fork(), machine.digest()))
        machine.snapshot(tmp_path / "snap")
        machine.advance(b"mint eve 9")
        for copy, expected in copies:
            assert copy.digest() == expected
    for copy, expected in copies:
        assert copy.inspect(b"balance alice").status == "accepted"
        assert copy.digest() == expected
        copy.close()


def test_a_fork_of_a_backing_machine_can_be_stored_too(tmp_path):
    with advanced(ready_ledger(tmp_path / "app")) as machine, machine.fork() as copy:
        copy.advance(b"mint zoe 4")
        copy.snapshot(tmp_path / "snap")
        expected = copy.digest()
    with Machine.open(tmp_path / "snap") as again:
        assert again.digest() == expected


def test_many_checkpoints_do_not_pile_up_pages():
    with ready_ledger() as machine:
        advanced(machine)
        pages = machine._core.unstored()
        for _ in range(200):
            machine.advance(b"mint alice 1")
        assert len(machine._core.unstored()) <= len(pages) + 4


def test_a_machine_on_another_thread_ends_in_the_same_state():
    with advanced(ready_ledger()) as here, ready_ledger() as there:
        thread = threading.Thread(target=advanced, args=(there,))
        thread.start()
        thread.join()
        assert there.digest() == here.digest()


def test_the_writer_excludes_a_second_one_and_readers_share(tmp_path):
    with ready_ledger(tmp_path / "app") as machine:
        machine.snapshot(tmp_path / "snap")
        for storage in ("memory", "backing"):
            with pytest.raises(MachineLocked, match=r"app"):
                Machine.open(tmp_path / "app", storage=storage)
        with Machine.open(tmp_path / "snap"), Machine.open(tmp_path / "snap") as reader:
            assert reader.inspect(b"total").status == "accepted"
            with pytest.raises(MachineLocked):
                Machine.open(tmp_path / "snap", storage="backing")


def test_a_fork_keeps_the_lock_until_it_is_closed(tmp_path):
    machine = ready_ledger(tmp_path / "app")
    copy = machine.fork()
    machine.close()
    with pytest.raises(MachineLocked):
        Machine.open(tmp_path / "app")
    copy.close()
    Machine.open(tmp_path / "app").close()


def test_a_machine_whose_writer_died_says_so_and_can_go_back(tmp_path):
    import subprocess
    import sys

    with ready_ledger(tmp_path / "app") as machine:
        sealed = machine.digest()
    program = (
        "import os, sys; from orchestra.machine import Machine;"
        "m = Machine.open(sys.argv[1], storage='backing'); m.advance(b'mint alice 5'); os._exit(9)"
    )
    status = subprocess.run([sys.executable, "-c", program, str(tmp_path / "app")], check=False)
    assert status.returncode == 9
    for storage in ("memory", "backing"):
        with pytest.raises(MachineTorn, match="sealed at cycle"):
            Machine.open(tmp_path / "app", storage=storage)
    with Machine.open(tmp_path / "app", storage="backing", torn="discard") as machine:
        assert machine.digest() == sealed


def test_nothing_is_replaced_by_a_snapshot(tmp_path):
    (tmp_path / "there").mkdir()
    with ready_ledger() as machine, pytest.raises(FolderExists):
        machine.snapshot(tmp_path / "there")
    assert list(tmp_path.iterdir()) == [tmp_path / "there"]


def test_a_machine_can_be_interrupted_from_another_thread(tmp_path):
    code = write_words(tmp_path / "code", [SELF_LOOP])
    with Machine.create(bare_config(code)) as machine:
        threading.Timer(0.05, machine.interrupt).start()
        stop = machine.run()
        assert isinstance(stop, Interrupted)
        assert stop.cycle == machine.cycle > 0
        assert isinstance(machine.run(max_cycles=100), ReachedCycle)
        assert machine.cycle == stop.cycle + 100


def test_one_thread_at_a_time(tmp_path):
    code = write_words(tmp_path / "code", [SELF_LOOP])
    with Machine.create(bare_config(code)) as machine:
        thread = threading.Thread(target=machine.run)
        thread.start()

        def read_until_it_runs():
            while True:
                machine.read(0x8000_0000, 4)

        with pytest.raises(MachineBusy):
            read_until_it_runs()
        machine.interrupt()
        thread.join()


def test_a_closed_machine_says_so():
    machine = ready_ledger()
    machine.close()
    machine.close()
    assert machine.closed
    for use in (machine.run, machine.digest, machine.fork, lambda: machine.registers["pc"]):
        with pytest.raises(MachineClosed):
            use()


def test_a_guest_that_waits_for_nothing_is_busy_for_requests():
    with (
        Machine.create(ledger_config()) as machine,
        pytest.raises(MachineBusy, match="does not wait"),
    ):
        machine.send_response(b"too early")


def test_registers_have_names_and_rules():
    with ready_ledger() as machine:
        registers = machine.registers
        assert registers["x2"] == registers["sp"] != 0
        registers["a0"] = -1
        assert registers["x10"] == (1 << 64) - 1
        registers["fs1"] = 1 << 63
        assert registers["f9"] == 1 << 63
        registers["mscratch"] = 42
        assert registers["mscratch"] == 42
        registers["satp"] = 3 << 60  # a mode that does not exist
        assert registers["satp"] == 0
        with pytest.raises(ValueError, match="x0"):
            registers["x0"] = 1
        with pytest.raises(KeyError):
            registers["nonsense"]
        with pytest.raises(ValueError, match="64-bit"):
            registers["a0"] = 1 << 64
        assert {"pc", "mstatus", "ft0", "zero"} <= set(registers)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.binary(max_size=9000))
def test_memory_reads_back_what_was_written(offset, data):
    address = 0x8100_0000 + offset
    with Machine.create(MachineConfig()) as machine:
        machine.write(address, data)
        assert machine.read(address, len(data)) == data
        assert machine.read(address - 1, 1) == b"\0"
        assert machine.read_virtual(address, len(data)) == data


def test_an_address_that_is_no_memory_is_named():
    with Machine.create(MachineConfig()) as machine:
        end = 0x8000_0000 + (64 << 20)
        with pytest.raises(ValueError, match=hex(end)):
            machine.read(end - 2, 4)
        with pytest.raises(ValueError, match="0x10000000"):
            machine.write(0x1000_0000, b"x")


def test_a_machine_with_a_terabyte_costs_what_it_touches(tmp_path):
    from orchestra.io.sparse import allocated_bytes
    from orchestra.machine import Boot, Ram

    config = MachineConfig(ram=Ram(1 << 40), boot=Boot(elf=LEDGER))
    with Machine.create(config, tmp_path / "big") as machine:
        machine.run()
        machine.advance(b"mint alice 1")
        machine.write(0x8000_0000 + (1 << 40) - 8, b"the last")
        machine.snapshot(tmp_path / "snap")
        expected = machine.digest()
    assert sum(allocated_bytes(path) for path in (tmp_path / "snap").iterdir()) < 4 << 20
    with Machine.open(tmp_path / "snap") as again:
        assert again.digest() == expected
        assert again.read(0x8000_0000 + (1 << 40) - 8, 8) == b"the last"


def test_of_a_console_that_nobody_reads_the_end_is_kept(monkeypatch):
    from orchestra.machine import Boot

    monkeypatch.setattr("orchestra.machine.execution.CONSOLE_KEPT", 6)
    with Machine.create(MachineConfig(boot=Boot(elf=HELLO))) as machine:
        machine.run()
        assert machine.console_output() == b"guest\n"


def test_console_output_is_a_stop_when_asked_for_and_changes_nothing():
    from orchestra.machine import Boot, ConsoleOutput

    config = MachineConfig(boot=Boot(elf=HELLO))
    with Machine.create(config) as whole, Machine.create(config) as parts:
        whole.run()
        text = b""
        while isinstance(stop := parts.run(console_bytes=4), ConsoleOutput):
            assert stop.cycle == parts.cycle
            text += parts.console_output()
        text += parts.console_output()
        assert text == whole.console_output() == b"hello from the guest\n"
        assert parts.digest() == whole.digest()


@pytest.mark.parametrize("storage", ["memory", "backing"])
def test_a_lineage_stays_short_however_often_a_machine_is_stored(tmp_path, storage):
    """Every snapshot is whole, though the ones before it are deleted at once."""
    import shutil

    with ready_ledger(tmp_path / "app" if storage == "backing" else None) as machine:
        machine.advance(b"fill 1000 7")
        most = 0
        for number in range(40):
            assert machine.advance(b"mint account%d 1" % (number * 7)).status == "accepted"
            machine.snapshot(tmp_path / f"{number}")
            most = max(most, len(list((tmp_path / f"{number}").glob("*.delta"))))
            if number % 10 == 9:
                with Machine.open(tmp_path / f"{number}") as copy:
                    assert copy.digest() == machine.digest()
            if number % 3:
                shutil.rmtree(tmp_path / f"{number}")
        assert most <= 12  # about the logarithm of its pages
        expected = machine.digest()
    if storage == "backing":
        with Machine.open(tmp_path / "app", storage="backing") as again:
            assert again.digest() == expected
            assert len(list((tmp_path / "app").glob("*.delta"))) <= 12


def test_a_stored_machine_keeps_only_the_layers_it_shows(tmp_path):
    with ready_ledger(tmp_path / "app") as machine:
        for number in range(100):
            machine.advance(b"mint alice 1")
            machine.snapshot(tmp_path / f"{number}")
        assert Path("/proc/self/maps").read_text().count("/app/") < 20
        assert machine.inspect(b"balance alice").reports == (b"100",)


def test_pages_of_zeros_take_no_room_in_a_folder(tmp_path):
    """A guest, or its host, that writes zeros makes pages; sealing gives their space back."""
    from orchestra.io.sparse import allocated_bytes

    with ready_ledger(tmp_path / "app") as machine:
        machine.write(0x8200_0000, b"x" * (4 << 20))
        machine.write(0x8200_0000, bytes(4 << 20))
        machine.write(0x8300_0000, b"x")
        expected = machine.digest()
        machine.snapshot(tmp_path / "snap")
        assert machine.digest() == expected
        machine.write(0x8200_0000, b"y")
        changed = machine.digest()
    assert sum(allocated_bytes(path) for path in (tmp_path / "snap").iterdir()) < 1 << 20
    with Machine.open(tmp_path / "snap") as again:
        assert again.digest() == expected
        assert again.read(0x8200_0000, 4 << 20) == bytes(4 << 20)
    with Machine.open(tmp_path / "app") as again:
        assert again.digest() == changed


def test_what_is_changed_before_the_first_run_is_kept(tmp_path):
    with ready_ledger(tmp_path / "app"):
        pass
    with Machine.open(tmp_path / "app", storage="backing") as machine:
        machine.send_response(b"mint alice 5")
        stop = machine.run()
        assert isinstance(stop, Yielded)
        assert machine.receive_request() == b"1 mint alice 5"
        machine.run()
    with Machine.open(tmp_path / "app", storage="backing") as machine:
        machine.registers["mscratch"] = 77
        machine.snapshot(tmp_path / "snap")
        machine.registers["mscratch"] = 78
    for name, value in {"snap": 77, "app": 78}.items():
        with Machine.open(tmp_path / name) as machine:
            assert machine.registers["mscratch"] == value
            assert machine.inspect(b"balance alice").reports == (b"5",)


def test_a_drive_of_a_terabyte_of_holes_costs_its_data(tmp_path):
    """Nothing goes through the holes of an image: not a snapshot, a digest, or a root hash."""
    from orchestra.machine import Drive

    image = tmp_path / "drive.img"
    with image.open("wb") as file:
        file.truncate(1 << 40)
        for place in (0, 4096 * 5 + 100, 1 << 39, (1 << 40) - 1):
            file.seek(place)
            file.write(b"%d" % (place % 7))
    config = ledger_config(drives=(Drive("data", path=image),))
    with Machine.create(config, tmp_path / "app") as machine:
        start = machine.layout.range("data").start
        assert machine.read(start + (1 << 39), 2) == b"%d\0" % ((1 << 39) % 7)
        assert machine.read(start + 4096 * 5 + 99, 3) == b"\0%d\0" % ((4096 * 5 + 100) % 7)
        assert machine.read(start + (1 << 40) - 1, 1) == b"%d" % (((1 << 40) - 1) % 7)
        machine.write(start + (1 << 38), b"in a hole")
        expected, root = machine.digest(), machine.root_hash()
        machine.snapshot(tmp_path / "snap")
    with Machine.open(tmp_path / "snap") as again:
        assert (again.digest(), again.root_hash()) == (expected, root)


def test_a_file_that_took_the_name_of_a_stored_layer_is_not_taken_for_it(tmp_path):
    """A machine in memory goes on when its earlier snapshots are replaced, here and elsewhere."""
    import shutil

    from tests.filesystems import mounted

    with mounted("tmpfs", tmp_path) as other, ready_ledger() as machine:
        machine.advance(b"fill 500 3")
        machine.snapshot(tmp_path / "first")
        machine.advance(b"mint alice 1")
        for path in (tmp_path / "first").glob("*.delta"):
            shutil.copy(path, tmp_path / "copied")
            path.unlink()
            path.write_bytes(b"not a layer")
        for target in (tmp_path / "second", other.folder / "second"):
            machine.snapshot(target)
            with Machine.open(target) as again:
                assert again.digest() == machine.digest()

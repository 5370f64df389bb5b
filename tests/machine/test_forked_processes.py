"""Processes made while machines are open: fork, and multiprocessing by every start method."""

import multiprocessing
import os
import subprocess
import sys
import textwrap

import pytest

from orchestra.errors import MachineForked, MachineLocked
from orchestra.machine import Drive, Machine
from tests.guests import ledger_config, ready_ledger
from tests.processes import ROOT, run_python

EVERY_CALL = {
    "run": lambda machine: machine.run(max_cycles=1),
    "trace": lambda machine: list(machine.trace(max_cycles=1)),
    "read": lambda machine: machine.read(0x8000_0000, 8),
    "write": lambda machine: machine.write(0x8000_0000, b"x"),
    "read_virtual": lambda machine: machine.read_virtual(0x8000_0000, 8),
    "write_virtual": lambda machine: machine.write_virtual(0x8000_0000, b"x"),
    "registers": lambda machine: machine.registers["pc"],
    "a register": lambda machine: machine.registers.update(a0=1),
    "cycle": lambda machine: machine.cycle,
    "digest": lambda machine: machine.digest(),
    "root_hash": lambda machine: machine.root_hash(),
    "proof": lambda machine: machine.proof(0x8000_0000, 12),
    "checkpoint": lambda machine: machine.checkpoint(),
    "rollback": lambda machine: machine.rollback(),
    "fork": lambda machine: machine.fork(),
    "snapshot": lambda machine: machine.snapshot("/nonexistent/x"),
    "advance": lambda machine: machine.advance(b"total"),
    "inspect": lambda machine: machine.inspect(b"total"),
    "receive_request": lambda machine: machine.receive_request(),
    "send_response": lambda machine: machine.send_response(b"x"),
    "interrupt": lambda machine: machine.interrupt(),
}


def in_child(work):
    """Run `work` in a forked child; what it says must be nothing."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, repr(work()).encode())
        except BaseException as error:  # noqa: BLE001 - the parent shows it
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        said = answer.read().decode()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return said


@pytest.mark.parametrize("kind", ["backing", "in place"])
def test_every_call_says_in_a_child_that_the_machine_is_its_parents(kind, tmp_path):
    if kind == "backing":
        machine = ready_ledger(tmp_path / "app")
    else:
        (tmp_path / "disk.img").write_bytes(bytes(2 << 20))
        drive = Drive("disk", kind="pmem", path=tmp_path / "disk.img", shared=True)
        machine = Machine.create(ledger_config(drives=(drive,)))
        machine.run()

    def try_all():
        for name, call in EVERY_CALL.items():
            try:
                call(machine)
            except MachineForked:
                continue
            return name
        machine.close()
        return None

    with machine:
        expected = machine.digest()
        assert in_child(try_all) == "None"
        assert machine.digest() == expected
        assert machine.advance(b"mint alice 1").status == "accepted"
    if kind == "backing":
        with Machine.open(tmp_path / "app") as again:
            assert again.inspect(b"balance alice").reports == (b"1",)


def test_a_machine_in_memory_goes_its_own_way_in_a_child(tmp_path):
    with ready_ledger() as first:
        first.advance(b"mint alice 5")
        first.snapshot(tmp_path / "snap")
    with Machine.open(tmp_path / "snap") as machine:

        def work():
            machine.advance(b"mint alice 1")
            machine.snapshot(tmp_path / "childs")
            return machine.inspect(b"balance alice").reports

        assert in_child(work) == "(b'6',)"
        assert machine.inspect(b"balance alice").reports == (b"5",)
    with Machine.open(tmp_path / "childs") as machine:
        assert machine.inspect(b"balance alice").reports == (b"6",)


def test_a_child_does_not_hold_its_parents_folder(tmp_path):
    machine = ready_ledger(tmp_path / "app")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    with pytest.raises(MachineLocked):
        Machine.open(tmp_path / "app")
    machine.close()
    Machine.open(tmp_path / "app", storage="backing").close()  # while the child lives
    os.close(writing)
    os.waitpid(child, 0)


def test_a_child_leaves_the_folder_of_a_copy_to_its_parent(tmp_path):
    drive = tmp_path / "drive"
    drive.write_bytes(bytes(2 << 20))
    config = ledger_config(drives=(Drive("disk", kind="pmem", path=drive, shared=True),))
    with Machine.create(config, tmp_path / "app") as machine:
        before = set(tmp_path.iterdir())
        copy = machine.fork()
        (place,) = set(tmp_path.iterdir()) - before

        def work():
            copy.close()
            return place.exists()

        assert in_child(work) == "True"
        copy.close()
        assert not place.exists()


def test_a_drive_is_not_copied_under_a_lock_that_only_the_parent_holds(tmp_path):
    drive = tmp_path / "drive"
    drive.write_bytes(bytes(2 << 20))
    config = ledger_config(drives=(Drive("disk", kind="pmem", path=drive, shared=True),))
    Machine.create(config, tmp_path / "app").close()
    with Machine.open(tmp_path / "app") as machine:
        said = in_child(lambda: machine.snapshot(tmp_path / "childs"))
        assert said.startswith("MachineForked")
        assert not list(tmp_path.glob("*childs*"))
        machine.snapshot(tmp_path / "parents")


PARALLEL = textwrap.dedent("""
    import multiprocessing, sys
    from orchestra.errors import MachineForked
    from orchestra.machine import Machine

    def ask(folder):
        with Machine.open(folder) as machine:
            return machine.inspect(b"total").reports[0]

    def use_the_parents(_):
        try:
            return parents.advance(b"mint bob 1").status
        except MachineForked:
            return "forked"
        except NameError:
            return "not there"

    if __name__ == "__main__":
        method, app, snapshot = sys.argv[1:]
        parents = Machine.open(app, storage="backing")
        parents.advance(b"mint alice 2")
        with multiprocessing.get_context(method).Pool(3) as pool:
            print(pool.map(ask, [snapshot] * 20) == [b"7"] * 20)
            print(set(pool.map(use_the_parents, range(10))))
        parents.advance(b"mint alice 3")
        print(parents.inspect(b"total").reports)
        parents.close()
""")


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_multiprocessing_works_beside_open_machines(method, tmp_path):
    with ready_ledger(tmp_path / "app") as machine:
        machine.advance(b"mint alice 7")
        machine.snapshot(tmp_path / "snap")
    program = tmp_path / "parallel.py"
    program.write_text(PARALLEL)
    result = subprocess.run(
        [sys.executable, program, method, tmp_path / "app", tmp_path / "snap"],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    child = "forked" if method == "fork" else "not there"
    assert result.stdout == f"True\n{{{child!r}}}\n(b'12',)\n", result.stderr


def test_a_thread_that_forks_while_machines_run_leaves_them_alone(tmp_path):
    """Children made at any moment of a run exit cleanly, and the run ends in the same state."""
    with ready_ledger(tmp_path / "app") as machine:
        machine.advance(b"fill 2000 7")
        expected = machine.digest()
    said = run_python(
        """
import os, sys, threading
from orchestra.machine import Machine
from tests.guests import ready_ledger
machine = ready_ledger(sys.argv[1])
thread = threading.Thread(target=lambda: machine.advance(b"fill 2000 7"))
thread.start()
children = 0
while thread.is_alive() or children < 20:
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    children += 1
thread.join()
print(machine.digest())
machine.close()
""",
        tmp_path / "again",
    ).stdout
    assert said.strip() == expected

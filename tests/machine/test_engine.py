"""Which engine runs a machine: its config says, and whoever opens it has the last word."""

import json

import pytest

from orchestra.errors import BadConfig
from orchestra.machine import Drive, Machine, MachineConfig, Ram
from orchestra.machine._core import board, running
from orchestra.machine.record import NAME, read_record, seal
from tests.assembler import RAM, Code
from tests.machine.core.small import halt, until_halt


def config(engine="auto"):
    return MachineConfig(ram=Ram(1 << 20), engine=engine)


def program():
    code = Code()
    code.li("s0", 300)
    code.label("loop")
    code.op("add", "a0", "a0", "s0")
    code.op("addi", "s0", "s0", -1)
    code.op("bne", "s0", "zero", "loop")
    halt(code)
    return code.finish()


def loaded(machine):
    machine.write(RAM, program())
    machine.registers["pc"] = RAM
    return machine


@pytest.fixture
def no_executable_memory(monkeypatch):
    monkeypatch.setattr(board, "map_executable", lambda _: None)
    board.code_cache.cache_clear()
    yield
    board.code_cache.cache_clear()


def test_the_config_says_unless_whoever_opens_it_does(tmp_path):
    with Machine.create(config("interpreter")) as machine:
        assert machine.engine == "interpreter"
    with Machine.create(config("interpreter"), engine="translator") as machine:
        assert machine.engine == "translator"
    with Machine.create(config("translator"), tmp_path / "app") as machine:
        assert machine.engine == "translator"
        with machine.fork() as fork:
            assert fork.engine == "translator"
    for said, runs in ((None, "translator"), ("auto", "auto"), ("interpreter", "interpreter")):
        with Machine.open(tmp_path / "app", engine=said) as machine:
            assert machine.engine == runs
            assert machine.config.engine == "translator"


def test_a_folder_keeps_what_its_config_says_whoever_ran_it(tmp_path):
    with loaded(
        Machine.create(config("interpreter"), tmp_path / "app", engine="translator")
    ) as one:
        until_halt(one)
        one.snapshot(tmp_path / "snapshot")
    assert read_record(tmp_path / "app").config.engine == "interpreter"
    with Machine.open(tmp_path / "snapshot") as machine:
        assert machine.engine == "interpreter"


def test_no_state_tells_which_it_was(tmp_path):
    ends = set()
    for engine in ("auto", "interpreter", "translator"):
        with loaded(Machine.create(config(engine), tmp_path / engine)) as machine:
            until_halt(machine)
            assert machine.engine == engine
            ends.add((machine.cycle, machine.digest(), machine.root_hash()))
    assert len(ends) == 1


def test_folders_that_say_nothing_of_it_are_opened_as_ever(tmp_path):
    with loaded(Machine.create(config(), tmp_path / "app")) as machine:
        expected = machine.digest()
    record = json.loads((tmp_path / "app" / NAME).read_bytes())
    del record["config"]["engine"], record["checksum"]
    (tmp_path / "app" / NAME).chmod(0o644)
    (tmp_path / "app" / NAME).write_bytes(seal(json.dumps(record).encode()))
    with Machine.open(tmp_path / "app") as machine:
        assert (machine.engine, machine.digest()) == ("auto", expected)


@pytest.mark.parametrize("said", ["config", "option"])
def test_an_interpreted_machine_never_makes_its_board_count_blocks(tmp_path, monkeypatch, said):
    asked = set()

    class Asked(dict):
        def __getitem__(self, engine):
            asked.add(engine)
            return super().__getitem__(engine)

    monkeypatch.setattr(running, "WARMTH", Asked(running.WARMTH))
    wish, option = ("interpreter", None) if said == "config" else ("auto", "interpreter")
    with Machine.create(config(wish), tmp_path / "app", engine=option) as machine:
        until_halt(loaded(machine))
    with Machine.open(tmp_path / "app", engine=option) as machine, machine.fork() as copy:
        assert copy.engine == "interpreter"
    assert asked == {"interpreter"}


@pytest.mark.usefixtures("no_executable_memory")
def test_a_wish_for_the_translator_is_no_reason_not_to_open(tmp_path):
    with loaded(Machine.create(config("translator"), tmp_path / "app")) as machine:
        assert machine.engine == "auto"
        until_halt(machine)
    with pytest.raises(BadConfig, match="lets nobody make code"):
        Machine.open(tmp_path / "app", engine="translator")
    with Machine.open(tmp_path / "app", storage="backing") as machine:
        assert machine.config.engine == "translator"


@pytest.mark.parametrize("engine", ["fast", "", "Translator"])
def test_no_other_engine_is_known(tmp_path, engine):
    with pytest.raises(BadConfig, match="one of auto, interpreter, translator"):
        Machine.create(config(), engine=engine)
    shared = Drive("d", path=tmp_path / "disk", shared=True)
    (tmp_path / "disk").write_bytes(bytes(4096))
    for _ in range(2):  # nobody holds its lock
        with pytest.raises(BadConfig, match="one of auto"):
            Machine.create(MachineConfig(drives=(shared,)), engine=engine)
    Machine.create(config(), tmp_path / "app").close()
    with pytest.raises(BadConfig, match="engine"):
        Machine.open(tmp_path / "app", storage="backing", engine=engine)
    with Machine.open(tmp_path / "app", storage="backing") as machine:  # nobody holds its lock
        with pytest.raises(BadConfig):
            machine.engine = engine
        assert machine.engine == "auto"


def test_a_fork_of_a_shared_drives_machine_runs_on_the_same_engine(tmp_path):
    drive = Drive("d", length=1 << 20, shared=True)
    made = MachineConfig(ram=Ram(1 << 20), drives=(drive,))
    with (
        Machine.create(made, tmp_path / "app", engine="interpreter") as machine,
        machine.fork() as fork,
    ):
        assert fork.engine == "interpreter"

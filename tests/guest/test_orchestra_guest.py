"""The SDK's Python module, on a file that stands for the machine's memory."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from orchestra.guest import PYTHON

HTIF, RX, TX = 0x4000_8000, 0x6000_0000, 0x6080_0000


class Memory:
    """The guest's physical memory, as the host sees it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("wb") as file:
            file.truncate(TX + 0x200000)

    def write(self, address: int, data: bytes) -> None:
        with self.path.open("r+b") as file:
            file.seek(address)
            file.write(data)

    def read(self, address: int, length: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(address)
            return file.read(length)

    def answer(self, reason: int, data: bytes) -> None:
        self.write(RX, data)
        self.write(HTIF + 8, (reason << 32 | len(data)).to_bytes(8, "little"))

    def register(self, offset: int) -> int:
        return int.from_bytes(self.read(HTIF + offset, 8), "little")


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(tmp_path / "memory")


@pytest.fixture
def guest(memory: Memory) -> ModuleType:
    spec = importlib.util.spec_from_file_location("orchestra_guest", PYTHON / "orchestra_guest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.open_host(str(memory.path))
    return module


def test_finishing_yields_and_returns_the_next_request(guest: ModuleType, memory: Memory) -> None:
    memory.answer(1, b"balance alice")
    assert guest.finish() == guest.Request(guest.INSPECT, b"balance alice")
    assert memory.register(0) == 2 << 56 | 1 << 48 | 1 << 32
    memory.answer(0, b"")
    assert guest.finish(accept=False) == guest.Request(guest.ADVANCE, b"")
    assert memory.register(0) == 2 << 56 | 1 << 48 | 2 << 32


def test_an_answer_is_taken_only_once(guest: ModuleType, memory: Memory) -> None:
    memory.answer(1, b"once")
    guest.finish()
    assert memory.register(8) == 0


@pytest.mark.parametrize(("name", "reason"), [("output", 2), ("report", 4)])
def test_what_is_emitted_is_in_the_buffer_with_its_length(
    guest: ModuleType, memory: Memory, name: str, reason: int
) -> None:
    data = bytes(range(256)) * 8192
    getattr(guest, name)(data)
    assert memory.register(0) == 2 << 56 | reason << 32 | len(data)
    assert memory.read(TX, len(data)) == data


def test_what_is_longer_than_the_buffer_is_refused_whole(guest: ModuleType, memory: Memory) -> None:
    with pytest.raises(ValueError, match="2097153"):
        guest.report(bytes(guest.BUFFER_BYTES + 1))
    assert memory.register(0) == 0


def test_the_other_commands_are_encoded_as_the_design_says(
    guest: ModuleType, memory: Memory
) -> None:
    guest.progress(375)
    assert memory.register(0) == 2 << 56 | 1 << 32 | 375
    memory.answer(0, b"go on")
    assert guest.exception(b"no") == (guest.ADVANCE, b"go on")
    assert memory.register(0) == 2 << 56 | 1 << 48 | 4 << 32 | 2
    guest.putchar(b"x")
    assert memory.register(0) == 1 << 56 | 1 << 48 | ord("x")
    guest.halt(42)
    assert memory.register(0) == 42 << 1 | 1

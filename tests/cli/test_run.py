"""`orchestra run`: programs and folders, how they end, and what is written meanwhile."""

import json
import os
import pty
import re
import signal
import termios
import time

import pytest

from orchestra.guest import HELLO
from orchestra.machine import Machine
from tests.cli import programs
from tests.cli.programs import DATA, LOOP, SIGNATURE, T0, T1, WFI, halt, say

SIGNATURE_BYTES = bytes(range(1, 17))


def test_a_program_prints_on_the_console_and_its_end_on_stderr(orchestra):
    result = orchestra("run", HELLO)
    assert result.out == "hello from the guest\n"
    assert "halted with code 0 at cycle 135 (" in result.err
    assert re.search(r"\ndigest [0-9a-f]{64}\n\Z", result.err)


def test_with_json_there_is_one_document_and_the_console_is_on_stderr(orchestra):
    result = orchestra("run", HELLO, "--json")
    assert list(result.json)[:5] == ["stop", "code", "cycle", "digest", "seconds"]
    assert (result.json["stop"], result.json["code"], result.json["cycle"]) == ("halted", 0, 135)
    assert len(result.json["digest"]) == 64
    assert 0 < result.json["seconds"] < 10
    assert result.json["reproducible"] is True
    assert result.err == "hello from the guest\n"


@pytest.mark.parametrize(("code", "status"), [(0, 0), (7, 7), (125, 125), (126, 1), (300, 1)])
def test_the_exit_status_is_the_guests_code_where_it_fits(orchestra, program, code, status):
    assert orchestra("run", program(halt(code)), "--json", status=status).json["code"] == code


@pytest.mark.parametrize(("value", "code"), [(1, 0), (3 << 1 | 1, 3)])
def test_riscv_tests_end_through_tohost(orchestra, program, value, code):
    found = orchestra("run", program(programs.write_tohost(value)), "--json", status=code).json
    assert (found["stop"], found["code"]) == ("halted", code)


def test_storage_and_cutting_change_no_digest(orchestra, program):
    elf = program([*say("hello"), *halt(0)])
    wanted = orchestra("run", elf, "--json").json
    backing = orchestra("run", elf, "--json", "--storage", "backing").json
    assert (backing["digest"], backing["cycle"]) == (wanted["digest"], wanted["cycle"])
    assert orchestra("run", elf, "--json", "--seed", "5").json["cycle"] == wanted["cycle"]


def test_a_raw_image_runs_as_the_elf_of_the_same_code(orchestra, tmp_path):
    raw = tmp_path / "program.bin"
    raw.write_bytes(programs.assemble([*say("raw\n"), *halt(4)]))
    assert orchestra("run", raw, status=4).out == "raw\n"


def test_until_stops_at_exactly_that_cycle_and_max_cycles_gives_up(orchestra, program):
    elf = program([LOOP])
    stopped = orchestra("run", elf, "--until", 12_345, "--json").json
    assert (stopped["stop"], stopped["code"], stopped["cycle"]) == ("cycle", None, 12_345)
    gave_up = orchestra("run", elf, "--max-cycles", 12_345, "--json", status=1).json
    assert (gave_up["stop"], gave_up["digest"]) == ("cycle", stopped["digest"])
    assert "stopped at cycle 12345" in orchestra("run", elf, "--until", 12_345).err
    assert (
        orchestra("run", elf, "--until", 9, "--max-cycles", 5, "--json", status=1).json["cycle"]
        == 5
    )


def test_a_machine_that_waits_for_nothing_is_a_failure(orchestra, program):
    assert orchestra("run", program([WFI, LOOP]), "--json", status=1).json["stop"] == "idle"


def test_a_folder_goes_on_where_it_stopped(orchestra, program, tmp_path):
    elf = program([LOOP])
    orchestra("create", tmp_path / "app", elf)
    for cycle in 1000, 1500, 3000:
        assert orchestra("run", tmp_path / "app", "--until", cycle, "--json").json["cycle"] == cycle
    found = orchestra("info", tmp_path / "app", "--digest", "--json").json
    assert found["cycle"] == 3000
    assert found["digest"] == orchestra("run", elf, "--until", 3000, "--json").json["digest"]
    early = orchestra("run", tmp_path / "app", "--until", 2999, status=2)
    assert early.error == "error: --until: found 2999, expected 3000 or more, the cycle it is at"


def test_in_memory_a_folder_stays_as_it_is(orchestra, program, tmp_path):
    orchestra("create", tmp_path / "app", program([LOOP]))
    orchestra("run", tmp_path / "app", "--until", 1000, "--storage", "memory")
    assert orchestra("info", tmp_path / "app", "--json").json["cycle"] == 0


def test_a_guest_that_waits_for_a_request_is_a_success(orchestra, app):
    found = orchestra("run", app, "--json").json
    assert (found["stop"], found["reason"]) == ("yielded", 1)
    assert "waits for a request" in orchestra("run", app).err


def test_a_folder_takes_no_options_of_a_config(orchestra, app):
    assert "--ram" in orchestra("run", app, "--ram", "1MiB", status=2).error
    assert "--drive" in orchestra("run", app, "--drive", "a=b", status=2).error


def test_options_win_over_the_config_file(orchestra, program, tmp_path):
    elf = program(halt(3), "inner.elf")
    config = tmp_path / "app.toml"
    config.write_text(f'[boot]\nelf = "{elf.name}"\n[ram]\nlength = "1MiB"\n')
    assert orchestra("run", "--config", config, status=3).out == ""
    other = program(halt(5), "other.elf")
    orchestra("run", other, "--config", config, status=5)
    wrong = orchestra("run", config, status=2)
    assert f"--config {config}" in wrong.error
    small = orchestra("run", "--config", config, "--ram", "4KiB", status=2)
    assert "p_paddr" in small.error


def test_the_signature_is_written_as_riscof_wants_it(orchestra, program, tmp_path):
    elf = program(halt(0), signature=SIGNATURE_BYTES)
    orchestra("run", elf, "--signature", tmp_path / "signature")
    lines = (tmp_path / "signature").read_text().splitlines()
    assert lines == ["04030201", "08070605", "0c0b0a09", "100f0e0d"]


def test_the_signature_is_that_of_the_end(orchestra, program, tmp_path):
    words = [*programs.load_address(T0, SIGNATURE), programs.addi(T1, 0, 0x7F)]
    words += [programs.store_double(T1, 8, T0), *programs.write_tohost(1)]
    orchestra("run", program(words), "--signature", tmp_path / "signature")
    lines = (tmp_path / "signature").read_text().splitlines()
    assert lines == ["00000000", "00000000", "0000007f", "00000000"]


def test_a_signature_needs_the_symbols_that_say_where_it_is(orchestra, program, app, tmp_path):
    target = tmp_path / "signature"
    plain = program(halt(0), symbols=False)
    assert "begin_signature" in orchestra("run", plain, "--signature", target, status=2).error
    assert "an ELF" in orchestra("run", app, "--signature", target, status=2).error
    assert not target.exists()


def test_a_trace_has_a_line_for_each_instruction_and_changes_nothing(orchestra, program, tmp_path):
    elf, trace = program([*say("hello\n"), *halt(2)]), tmp_path / "trace"
    plain = orchestra("run", elf, "--json", status=2).json
    traced = orchestra("run", elf, "--json", "--trace", trace, status=2)
    assert traced.err == "hello\n"
    for key in "stop", "code", "cycle", "digest":
        assert traced.json[key] == plain[key]
    lines = trace.read_text().splitlines()
    assert len(lines) == plain["cycle"]
    assert lines[0] == "core   0: 3 0x0000000080000000 (0x400082b7) x5  0x0000000040008000"


def test_a_trace_goes_on_over_what_the_guest_says(orchestra, app, tmp_path):
    with Machine.open(app, storage="backing") as machine:
        machine.run()
        machine.send_response(b"mint zoe 5")
    wanted = orchestra("run", app, "--json", "--storage", "memory")
    assert wanted.err == "output: 3 mint zoe 5\n"
    traced = orchestra("run", app, "--json", "--trace", tmp_path / "trace", "--max-cycles", 10**6)
    for key in "stop", "cycle", "digest":
        assert traced.json[key] == wanted.json[key]


def test_a_trace_stops_where_it_is_told_and_at_waiting_for_nothing(orchestra, program, tmp_path):
    trace = tmp_path / "trace"
    looping = orchestra("run", program([LOOP]), "--until", 10_000, "--trace", trace, "--json")
    assert looping.json["cycle"] == 10_000
    assert len(trace.read_text().splitlines()) == 10_000
    idle = orchestra("run", program([WFI, LOOP]), "--trace", trace, "--json", status=1)
    assert idle.json["stop"] == "idle"


def test_standard_input_is_typed_at_the_console(start, program):
    elf = program(programs.echo_until(ord("q")))
    process = start("run", elf, "--stdin", "--json")
    out, err = process.communicate(b"typed q and more", timeout=60)
    assert process.returncode == 0
    found = json.loads(out)
    assert found["reproducible"] is False
    assert err == b"typed q"


def test_keys_typed_at_a_terminal_reach_the_guest_at_once_and_its_modes_return(start, program):
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    elf = program([*say("ready\n"), *programs.echo_until(ord("q"))])
    process = start("run", elf, "--stdin", stdin=theirs)
    assert process.stdout.readline() == b"ready\n"
    os.write(ours, b"no line, but q")
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, b"no line, but q")
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)


def test_an_idle_guest_waits_for_input_until_there_will_be_none(start, program):
    process = start("run", program([*say("ready\n"), WFI, LOOP]), "--stdin", "--json")
    assert process.stderr.readline() == b"ready\n"
    assert process.poll() is None
    out, _ = process.communicate(b"in vain", timeout=60)
    assert (process.returncode, json.loads(out)["stop"]) == (1, "idle")


def test_an_idle_guest_that_could_get_input_is_stopped_by_a_signal(start, program):
    process = start("run", program([*say("ready\n"), WFI, LOOP]), "--stdin", "--json")
    assert process.stderr.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130


def test_without_stdin_nothing_is_typed(start, program):
    elf = program(programs.echo_until(ord("q")))
    process = start("run", elf, "--max-cycles", "1000000", "--json")
    out, err = process.communicate(b"q", timeout=60)
    assert process.returncode == 1
    assert json.loads(out)["reproducible"] is True
    assert err == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("more", [(), ("--trace", "/dev/null")], ids=["plain", "trace"])
def test_a_signal_stops_and_seals_a_folder_that_then_goes_on(
    orchestra, start, program, tmp_path, number, more
):
    elf, app = program([*say("ready\n"), LOOP]), tmp_path / "app"
    orchestra("create", app, elf)
    process = start("run", app, "--json", *more)
    assert process.stderr.readline() == b"ready\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (128 + number, b"")
    found = json.loads(out)
    assert found["stop"] == "interrupted"
    state = orchestra("info", app, "--json", "--digest").json
    assert (state["cycle"], state["digest"]) == (found["cycle"], found["digest"])
    assert not state["torn"]
    again = orchestra("run", elf, "--until", found["cycle"], "--json").json
    assert again["digest"] == found["digest"]


def test_a_killed_run_is_torn_until_it_is_told_to_forget(orchestra, start, program, tmp_path):
    app = tmp_path / "app"
    orchestra("create", app, program([*say("ready\n"), LOOP]))
    process = start("run", app)
    assert process.stdout.readline() == b"ready\n"
    state = orchestra("info", app, "--json").json
    assert f"pid {process.pid}" in state["locked_by"]
    assert not state["torn"]
    assert f"pid {process.pid}" in orchestra("run", app, status=1).error
    process.kill()
    process.wait()
    state = orchestra("info", app, "--json").json
    assert (state["torn"], state["locked_by"]) == (True, None)
    assert "torn" in orchestra("info", app).out
    assert "--discard-torn" in orchestra("run", app, status=1).error
    orchestra("run", app, "--discard-torn", "--until", 50)
    assert orchestra("info", app, "--json").json["cycle"] == 50


def test_waiting_for_a_folder_ends_when_it_is_free_or_time_is_up(
    orchestra, start, program, tmp_path
):
    app = tmp_path / "app"
    orchestra("create", app, program([*say("ready\n"), LOOP]))
    process = start("run", app)
    assert process.stdout.readline() == b"ready\n"
    began = time.monotonic()
    assert "locked" in orchestra("run", app, "--wait", "0.2", status=1).error
    assert time.monotonic() - began >= 0.2
    waiting = start("run", app, "--wait", "60", "--max-cycles", "0", "--json")
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    out, _ = waiting.communicate(timeout=60)
    assert json.loads(out)["cycle"] > 0


def test_a_drive_of_the_command_line_is_in_the_guests_memory(orchestra, program, tmp_path):
    disk = tmp_path / "disk,with commas.img"
    disk.write_bytes(b"disk" * 1024)
    arguments = ("--drive", f"disk={disk},ro", "--drive", "scratch=,length=8KiB")
    orchestra("create", tmp_path / "app", program([LOOP]), *arguments)
    config = orchestra("info", tmp_path / "app", "--json").json["config"]
    assert [drive["name"] for drive in config["drives"]] == ["disk", "scratch"]
    assert [drive["length"] for drive in config["drives"]] == [4096, 8192]
    assert [drive["read_only"] for drive in config["drives"]] == [True, False]
    with Machine.open(tmp_path / "app") as machine:
        start_address = machine.layout.range("disk").start
        assert machine.read(start_address, 8) == b"diskdisk"
        assert machine.read(DATA, 4) == bytes(4)

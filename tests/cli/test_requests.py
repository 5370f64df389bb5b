"""`orchestra advance | inspect`: inputs and questions, their answers and their statuses."""

import json
import os
import signal

import pytest

from orchestra.machine import Machine
from tests.cli.programs import LOOP, WFI, halt


def test_advance_prints_outputs_and_changes_the_folder(orchestra, app):
    result = orchestra("advance", app, "mint zoe 5", "transfer zoe alice 2")
    assert result.out == "3 mint zoe 5\n4 transfer zoe alice 2\n"
    assert result.err == ""
    assert orchestra("inspect", app, "balance zoe", "balance alice").out == "3\n72\n"


def test_the_first_request_wakes_a_machine_that_never_ran(orchestra, tmp_path):
    orchestra("image", "ledger", tmp_path / "new")
    result = orchestra("inspect", tmp_path / "new", "total")
    assert result.out == "0\n"
    assert result.err.startswith("ran for ")
    assert orchestra("info", tmp_path / "new", "--json").json["cycle"] == 0
    assert orchestra("advance", tmp_path / "new", "mint a 1").err.startswith("ran for ")
    assert orchestra("inspect", tmp_path / "new", "total").err == ""


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        ("burn zed 1", "rejected", "report: no such account: zed"),
        ("fail on purpose", "exception", "exception: on purpose"),
        ("halt 3", "halted", "halted"),
        ("crash", "exception", "exception: trap: mcause 0x"),
        ("spin 100000000", "limit_exceeded", "limit exceeded"),
    ],
)
def test_an_input_that_is_not_accepted_is_status_1_and_changes_nothing(
    orchestra, app, text, status, words
):
    before = orchestra("info", app, "--json", "--digest").json["digest"]
    result = orchestra("advance", app, text, "--max-cycles", "100000", status=1)
    assert result.out == ""
    assert words in result.err
    again = orchestra("advance", app, text, "--max-cycles", "100000", "--json", status=1)
    assert again.json["results"][0]["status"] == status
    assert orchestra("info", app, "--json", "--digest").json["digest"] == before


def test_inputs_after_one_that_is_refused_still_count(orchestra, app):
    result = orchestra("advance", app, "burn zed 1", "mint zed 1", status=1)
    assert result.out == "3 mint zed 1\n"
    assert "advance 'burn zed 1': rejected" in result.err


def test_inspect_changes_nothing_and_each_question_gets_a_new_copy(orchestra, app):
    before = {path.name: path.read_bytes() for path in app.iterdir()}
    result = orchestra("inspect", app, "page 10", "history 2", "nonsense", status=1)
    assert result.out == "2 transfer alice bob 30\n1 mint alice 100\nunknown command: nonsense\n"
    assert result.err == "inspect 'nonsense': rejected\n"
    assert {path.name: path.read_bytes() for path in app.iterdir()} == before


def test_others_may_ask_the_same_folder_meanwhile_but_not_change_it(orchestra, app):
    with Machine.open(app):
        assert orchestra("inspect", app, "total").out == "100\n"
        assert "locked by" in orchestra("advance", app, "mint a 1", status=1).error


def test_json_is_one_document_of_results(orchestra, app):
    found = orchestra("inspect", app, "balance alice", "echo \N{SNOWMAN}", "--json").json
    assert found["directory"] == str(app)
    assert found["cycle"] == orchestra("info", app, "--json").json["cycle"]
    first, second = found["results"]
    assert first["cycles"] > 0
    assert first["seconds"] > 0
    del first["cycles"], first["seconds"]
    assert first == {
        "payload": "balance alice",
        "status": "accepted",
        "outputs": [],
        "reports": ["70"],
        "exception": None,
        "error": None,
    }
    assert second["reports"] == ["\N{SNOWMAN}"]


def test_events_are_on_stderr_with_json(orchestra, app):
    assert orchestra("advance", app, "mint a 1", "--json").err == "output: 3 mint a 1\n"
    assert orchestra("inspect", app, "total", "--json").err == "report: 101\n"
    assert "progress: 50.0 %\nprogress: 100.0 %\n" in orchestra("inspect", app, "progress 2").err


def test_payloads_may_be_files_hexadecimal_and_standard_input(orchestra, start, app, tmp_path):
    (tmp_path / "query").write_bytes(b"echo from a file")
    assert orchestra("inspect", app, "--file", tmp_path / "query").out == "from a file\n"
    assert orchestra("inspect", app, "--hex", b"echo \xff\x00".hex()).out == "ff00\n"
    found = orchestra("inspect", app, "--hex", b"echo \xff".hex(), "--json").json
    assert found["results"][0]["reports"] == ["ff"]
    process = start("inspect", app, "-", "total", "--json")
    out, _ = process.communicate(b"echo piped \xff")
    results = json.loads(out)["results"]
    assert [result["reports"] for result in results] == [["piped \\xff"], ["100"]]


def test_bytes_of_the_guest_come_out_as_they_are(start, app):
    process = start("inspect", app, os.fsdecode(b"echo \xff\xfe\n"))
    assert process.communicate()[0] == b"\xff\xfe\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "what to send"),
        (("--hex", "6d6"), "hexadecimal"),
        (("--file", "/nowhere"), "/nowhere: No such file"),
        (("total", "--max-output", "lots"), "--max-output"),
    ],
)
def test_a_payload_that_cannot_be_is_an_error(orchestra, app, arguments, text):
    status = 1 if "/nowhere" in arguments else 2
    assert text in orchestra("inspect", app, *arguments, status=status).error


def test_limits_end_a_request_and_what_was_said_before_is_kept(orchestra, app):
    limits = ("--max-output", "15", "--json")
    found = orchestra("inspect", app, "flood 1000", *limits, status=1).json["results"][0]
    assert (found["status"], found["reports"]) == ("limit_exceeded", ["flood 0", "flood 1"])
    slow = orchestra("inspect", app, "spin 100000000000", "--max-seconds", "0.05", status=1)
    assert "limit exceeded" in slow.err


def test_a_guest_that_can_take_no_request_is_an_error(orchestra, program, tmp_path):
    endings = {"halted at cycle 3 with code 3": halt(3), "waits at cycle 1 for": [WFI, LOOP]}
    for number, (text, words) in enumerate(endings.items()):
        app = tmp_path / f"app{number}"
        orchestra("create", app, program(words))
        assert text in orchestra("inspect", app, "total", status=1).error


def test_a_signal_undoes_the_input_and_seals_the_folder(orchestra, start, app, tmp_path):
    orchestra("clone", app, tmp_path / "other")
    process = start("advance", app, "progress 1", "spin 1000000000000")
    assert process.stderr.readline() == b"progress: 100.0 %\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, b"error: stopped by SIGINT\n")
    orchestra("advance", tmp_path / "other", "progress 1")
    found, wanted = (
        orchestra("info", folder, "--json", "--digest").json for folder in (app, tmp_path / "other")
    )
    assert not found["torn"]
    assert (found["cycle"], found["digest"]) == (wanted["cycle"], wanted["digest"])

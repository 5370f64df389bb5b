"""Help teaches, and whatever goes wrong is one line and a status."""

import io
import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import typer

from orchestra.cli.main import _only_known, app, main
from orchestra.errors import BackingFault
from orchestra.machine.verify import verify_folder
from tests.cli.conftest import ROOT

GROUP = typer.main.get_command(app)


def commands(group=GROUP, path=()):
    for name, command in group.commands.items():
        yield (*path, name), command
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))


COMMANDS = dict(commands())


def example_lines(epilog):
    """Give the examples' arguments, without what is said about them."""
    for line in re.sub(r"\\\n\s*", "", epilog).splitlines():
        if match := re.search(r"\borchestra (.*)", line):
            yield re.split("   *", match[1])[0]


def test_the_commands_are_those_of_the_design():
    names = {path[0] for path in COMMANDS}
    wanted = {"create", "run", "snapshot", "clone", "inspect", "advance", "info", "image", "demo"}
    assert names >= wanted
    assert {("image", "debian"), ("image", "ledger")} <= set(COMMANDS)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_shows_a_sentence_examples_and_json(orchestra, path):
    out = orchestra(*path, "--help").out
    assert out.startswith(f"Usage: orchestra {' '.join(path)}")
    assert "Examples:\n    orchestra " in out
    assert "--json" in out or path == ("image",)
    assert orchestra(*path, "-h").out == out


@pytest.mark.parametrize("path", [(), *COMMANDS], ids=" ".join)
def test_every_example_of_the_help_is_a_command_that_exists(path):
    epilog = COMMANDS[path].epilog if path else GROUP.epilog
    lines = list(example_lines(epilog))
    assert lines
    for line in lines:
        words = shlex.split(line)
        command = GROUP
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        with suppress(typer.Exit):  # of an option that is all a command does
            command.make_context("orchestra", words)


@pytest.mark.parametrize("arguments", [(), ("--help",), ("image",)], ids=str)
def test_without_a_command_there_is_help(orchestra, arguments):
    assert "Commands:\n" in orchestra(*arguments).out


def test_the_version_is_printed(orchestra):
    assert re.fullmatch(
        r"orchestra (\d+\.\d+\.\d+|\(not installed\))\n", orchestra("--version").out
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("play",), "'play'"),
        (("run", "--loudly"), "--loudly"),
        (("info",), "DIR"),
        (("run", "x", "--until", "soon"), "--until"),
        (("run", "x", "--max-cycles", "-1"), "max-cycles"),
        (("run", "x", "--storage", "tape"), "tape"),
        (("run",), "TARGET"),
        (("run", "nowhere.elf"), "nowhere.elf"),
        (("info", "nowhere"), "nowhere"),
        (("inspect", "nowhere", "?"), "nowhere"),
        (("clone", "nowhere", "other"), "nowhere"),
        (("create", "app", "--ram", "much"), "--ram: found 'much'"),
        (("create", "app", "--ram", "1000"), "ram.length"),
        (("create", "app", "--config", "nowhere.toml"), "nowhere.toml"),
        (("create", "app", "--drive", "disk"), "NAME=PATH"),
        (("create", "app", "--kernel", "Image"), "boot.firmware"),
        (("demo", "--inspects", "0"), "inspects"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_call_that_cannot_be_carried_out_is_one_line_and_status_2(orchestra, arguments, text):
    result = orchestra(*arguments, status=2)
    assert text in result.error
    assert len(result.err.splitlines()) == 1


def test_a_wrong_call_says_where_help_is(orchestra):
    assert orchestra("run", "--loudly", status=2).error.endswith("(try orchestra run --help)")


def test_a_file_that_cannot_be_written_is_one_line_and_status_1(orchestra, app, tmp_path):
    found = orchestra("snapshot", app, tmp_path / "nowhere" / "snapshot", status=1).error
    assert "nowhere" in found
    found = orchestra("run", app, "--trace", tmp_path, status=1).error
    assert found == f"error: {tmp_path}: Is a directory"


def test_of_errors_in_a_group_the_first_is_told_unless_one_is_a_mistake_of_ours():
    fault = BackingFault("/a", 0, "truncated")
    group = BaseExceptionGroup("", [BaseExceptionGroup("", [fault]), OSError()])
    assert _only_known(group) is fault
    assert _only_known(BaseExceptionGroup("", [fault, ZeroDivisionError()])) is None


@pytest.mark.parametrize("options", [[], ["-u"]])
@pytest.mark.parametrize(
    "command", [["info"], ["info", "--json"], ["inspect", "total"], ["--help"]]
)
def test_a_broken_pipe_ends_quietly(app, command, options):
    ours, theirs = os.pipe()
    os.close(ours)
    done = carry_out(app, command, options, theirs)
    os.close(theirs)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


@pytest.mark.parametrize("options", [[], ["-u"]])
@pytest.mark.parametrize(
    "command", [["info"], ["info", "--json"], ["inspect", "total"], ["--help"]]
)
def test_a_full_disk_behind_standard_output_is_told(app, command, options):
    with Path("/dev/full").open("wb") as full:
        done = carry_out(app, command, options, full)
    assert done.stderr == b"error: standard output: No space left on device\n"
    assert done.returncode == 1


def carry_out(app, command, options, output):
    name, *more = command
    arguments = [name] if name == "--help" else [name, str(app), *more]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        [sys.executable, *options, "-m", "orchestra.cli", *arguments],
        stdout=output,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=ROOT,
        check=False,
    )


def test_main_takes_the_arguments_of_the_process_by_default(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["orchestra", "--help"])
    assert main() == 0
    assert "Usage: orchestra" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["info"], ["info", "--json"], ["inspect", "total"]])
def test_closed_streams_are_no_mistake_of_ours(app, command):
    """The folder's files must not be taken for standard output either."""
    name, *more = command
    line = shlex.join([sys.executable, "-m", "orchestra.cli", name, str(app), *more])
    run = partial(subprocess.run, ["sh", "-c", f"{line} >&- 2>&- <&-"], cwd=ROOT, check=False)
    assert run().returncode == 0
    assert verify_folder(app).ok


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("ascii", b"\\xb5s m\\udcff\n"),
        ("latin-1", b"\xb5s m\\udcff\n"),
        ("utf-8", b"\xc2\xb5s m\xff\n"),
    ],
)
def test_units_and_names_that_a_locale_does_not_have_are_escaped(monkeypatch, encoding, said):
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding=encoding, errors="strict"))
    main(["--version"])
    print("µs m\udcff", flush=True)
    assert out.getvalue().endswith(said)

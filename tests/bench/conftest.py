"""The command line called in this process, and the options of a quick benchmark."""

import pytest

from orchestra.bench.storage import StorageOptions
from orchestra.cli.main import main


@pytest.fixture
def call(capsys):
    """Call the command line: its status, what it printed, and what it said on stderr."""

    def call_main(*arguments):
        status = main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return call_main


@pytest.fixture
def quick():
    """Make options with which a row takes milliseconds."""

    def options(*rows, **changes):
        return StorageOptions(
            **{"drive_length": 1 << 20, "seconds": 0.001, "runs": 2, "rows": rows or ("*",)}
            | changes
        )

    return options

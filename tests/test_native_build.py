"""Building the extensions says what a host lacks."""

import runpy
from pathlib import Path

import pytest

BUILD = Path(__file__).parents[1] / "orchestra/_build.py"


def test_missing_python_headers_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    monkeypatch.setattr("sys.argv", [str(BUILD)])
    with pytest.raises(SystemExit, match=rf"no Python.h in {tmp_path}: .*python3-dev"):
        runpy.run_path(str(BUILD), run_name="__main__")

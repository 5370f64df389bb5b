"""Building the extensions says what a host lacks."""

import pytest

from orchestra import _build


def test_missing_python_headers_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    with pytest.raises(SystemExit, match=rf"no Python.h in {tmp_path}: .*python3-dev"):
        _build.build("orchestra.io._native", tmp_path)

"""Rows and their lines, the JSON of DESIGN §7, and tables that fit."""

import io
import json

import pytest
from rich.console import Console

from orchestra.bench.report import Report, Row, describe_host, print_tables

ROW = Row("roll", "op/s", (4100.0, 4500.0, 4321.0), "ext4", at_least=4000.0)


def test_a_row_is_its_median_and_its_extremes():
    assert ROW.as_json() == {
        "name": "roll",
        "filesystem": "ext4",
        "value": 4321.0,
        "unit": "op/s",
        "spread": [4100.0, 4500.0],
        "runs": 3,
        "at_least": 4000.0,
        "ok": True,
    }


@pytest.mark.parametrize(
    ("value", "lines", "ok"),
    [
        (4000, {"at_least": 4000}, True),
        (3999, {"at_least": 4000}, False),
        (0.05, {"at_most": 0.05}, True),
        (0.051, {"at_most": 0.05}, False),
        (0, {"at_most": 0}, True),
        (1, {}, True),
    ],
)
def test_a_row_is_ok_when_its_median_is_at_its_line(value, lines, ok):
    row = Row("row", "op/s", (value,), **lines)
    assert row.ok is ok
    assert Report("storage", {}, (ROW, row)).ok is ok
    assert row.as_json().keys() & {"at_least", "at_most"} == lines.keys()


def test_a_report_is_one_json_document_with_the_host():
    document = json.loads(json.dumps(Report("storage", describe_host(), (ROW,)).as_json()))
    assert document.keys() == {"benchmark", "host", "rows", "ok"}
    assert document["host"]["processors"] >= 1
    assert document["host"]["memory_bytes"] > 1 << 20
    assert document["rows"] == [ROW.as_json()]


@pytest.mark.parametrize(("width", "tables"), [(80, 3), (200, 1)])
def test_a_narrow_terminal_gets_a_table_for_each_file_system(width, tables):
    rows = tuple(
        Row("mb-per-snapshot/roll", "MB", (0.0491, 0.05), kind, at_most=0.01)
        for kind in ("ext4", "btrfs", "xfs")
    )
    text = io.StringIO()
    print_tables(Report("storage", {}, rows), Console(file=text, width=width))
    assert text.getvalue().count("mb-per-snapshot/roll") == tables
    assert text.getvalue().count("≤ 0.01 ✗") == 3
    assert max(map(len, text.getvalue().splitlines())) <= width

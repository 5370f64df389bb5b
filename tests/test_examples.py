"""Every example prints what its docstring says; `...` there stands for what may differ."""

import ast
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def expected_output(program: Path) -> str:
    text = ast.get_docstring(ast.parse(program.read_text()))
    assert text is not None
    _, found, output = text.partition("\nOutput:\n\n")
    assert found, "the docstring has no Output:"
    return textwrap.dedent(output)


def matches(found: str, expected: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in expected.split("..."))
    return re.fullmatch(pattern, found) is not None


def test_the_readme_shows_what_its_program_prints(tmp_path):
    text = (ROOT / "README.md").read_text()
    program, output = re.search(r"```python\n(.*?)```\n```\n(.*?)```", text, re.DOTALL).groups()
    for backend in ("", ', backend="trio"'):
        folder = tmp_path / f"in{len(backend)}"
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program.replace("(main)", f"(main{backend})")],
            capture_output=True,
            text=True,
            cwd=folder,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
            check=False,
        )
        assert matches(done.stdout, output), done.stdout + done.stderr


def test_there_are_examples():
    assert len(EXAMPLES) >= 4


@pytest.mark.parametrize("program", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_prints_what_its_docstring_says(program):
    done = subprocess.run(
        [sys.executable, "-W", "error", str(program)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert done.stderr == ""
    found, expected = done.stdout.splitlines(), expected_output(program).splitlines()
    assert len(found) == len(expected), done.stdout
    for line, pattern in zip(found, expected, strict=True):
        assert matches(line, pattern), f"{line!r} is not {pattern!r}"
    assert done.returncode == 0


@pytest.mark.parametrize("program", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_little_that_may_differ(program):
    assert len(program.read_text().splitlines()) <= 80
    exact = [line for line in expected_output(program).splitlines() if "..." not in line]
    assert len(exact) >= 2

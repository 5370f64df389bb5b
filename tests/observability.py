"""The tables of OBSERVABILITY.md, for tests that compare them with the code."""

from pathlib import Path

import orchestra

DOCUMENT = Path(orchestra.__file__).with_name("OBSERVABILITY.md")


def table(heading):
    """Return a table's rows by the name in their first cell: the other cells."""
    _, _, rest = DOCUMENT.read_text().partition(f"\n## {heading}\n")
    section, _, _ = rest.partition("\n## ")
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in row] for row in rows]
    found = {row[0].strip("`"): row[1:] for row in cells}
    assert len(found) == len(cells), "a name is there twice"
    return found

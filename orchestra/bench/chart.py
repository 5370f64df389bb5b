"""A chart of the storage benchmark: our rows beside the seed's, on a logarithmic scale."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from orchestra.errors import BadConfig

from .anchors import SEED
from .report import RATE

if TYPE_CHECKING:
    from pathlib import Path

    from .report import Report, Row

__all__ = ["draw_storage", "require_plotting"]

OURS, THEIRS, LINE = "#1f6f8b", "#c9ccd1", "#c0392b"
BAR = 0.38  # of the distance between two rows


def require_plotting() -> Any:
    """Import the plotting library; BadConfig says how to get it."""
    try:
        matplotlib = importlib.import_module("matplotlib")
    except ImportError:
        raise BadConfig("--plot", "no matplotlib", "pip install 'orchestra[plot]'") from None
    matplotlib.use("agg")  # draws files, needs no display
    return importlib.import_module("matplotlib.pyplot")


def draw_storage(report: Report, path: Path) -> None:
    """Draw operations per second into a file: PNG, SVG or PDF, by its suffix."""
    pyplot = require_plotting()
    filesystems = list(dict.fromkeys(row.filesystem for row in report.rows))
    names = list(dict.fromkeys(row.name for row in report.rows if row.unit == RATE))
    figure, panels = pyplot.subplots(
        *(1, len(filesystems)),
        figsize=(3.2 + 4 * len(filesystems), 1.6 + 0.36 * len(names)),
        sharey=True,
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for panel, filesystem in zip(panels[0], filesystems, strict=True):
        rows = {row.name: row for row in report.rows if row.filesystem == filesystem}
        _draw_panel(panel, names, rows, filesystem or "")
    panels[0][0].set_yticks(range(len(names)), names)
    panels[0][0].invert_yaxis()
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle("operations per second, each advancing 1000 cycles", fontsize=11)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _draw_panel(panel: Any, names: list[str], rows: dict[str, Row], filesystem: str) -> None:
    ours = [(place, rows[name]) for place, name in enumerate(names) if name in rows]
    places = [place - BAR / 2 for place, _ in ours]
    values = [row.value for _, row in ours]
    low = [row.value - row.spread[0] for _, row in ours]
    high = [row.spread[1] - row.value for _, row in ours]
    panel.barh(
        *(places, values, BAR),
        xerr=(low, high),
        color=OURS,
        error_kw={"elinewidth": 0.8, "ecolor": "#333333"},
        label="orchestra, here (median, spread)",
    )
    for place, row in ours:
        panel.annotate(
            f"{row.value:,.0f}",
            (row.spread[1], place - BAR / 2),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
    seed = [
        (place + BAR / 2, SEED[name][filesystem])
        for place, name in enumerate(names)
        if filesystem in SEED.get(name, {})
    ]
    if seed:
        panel.barh(*zip(*seed, strict=True), BAR, color=THEIRS, label="the seed, on its hardware")
    lines = [(row.at_least, place) for place, row in ours if row.at_least is not None]
    if lines:
        panel.scatter(*zip(*lines, strict=True), marker="|", s=220, color=LINE, label="the line")
    panel.set_xscale("log")
    panel.set_title(filesystem, fontsize=10)
    panel.grid(axis="x", color="#e6e6e6", linewidth=0.6)
    panel.set_axisbelow(b=True)
    panel.tick_params(labelsize=8)
    panel.margins(x=0.25, y=0.01)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)

"""Charts of the benchmarks: our rows beside the seed's or the peer's, on a logarithmic scale."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from orchestra.errors import BadConfig

from .anchors import SEED
from .report import RATES

if TYPE_CHECKING:
    from pathlib import Path

    from .report import Report, Row

__all__ = ["draw_cpu", "draw_fleet", "draw_storage", "require_plotting"]

OURS, THEIRS, LINE = "#1f6f8b", "#c9ccd1", "#c0392b"
BAR = 0.38  # of the distance between two rows
WE, THEY = "orchestra, here (median, spread)", "the seed, on its hardware"


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
    names = list(dict.fromkeys(row.name for row in report.rows if row.unit in RATES.values()))
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
    cpu = any(row.unit == RATES["cpu"] for row in report.rows)
    seconds = "second of processor time" if cpu else "second"
    figure.suptitle(f"operations per {seconds}, each advancing 1000 cycles", fontsize=11)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def draw_cpu(report: Report, path: Path) -> None:
    """Draw millions of instructions per second into a file: PNG, SVG or PDF, by its suffix."""
    pyplot = require_plotting()
    rows = [row for row in report.rows if row.unit == "MIPS"]
    names = list(dict.fromkeys(row.name.partition("/")[2] for row in rows))
    figure, panel = pyplot.subplots(figsize=(7, 1.4 + 0.36 * len(names)), layout="constrained")
    for prefix, label, color, ink, side in (
        ("mips", f"orchestra, {report.host['engine']}", OURS, "white", -1),
        ("qemu", f"QEMU {report.host.get('qemu', '')}", THEIRS, "#555555", 1),
    ):
        bars = [
            (names.index(row.name.partition("/")[2]) + side * BAR / 2, row.value)
            for row in rows
            if row.name.startswith(f"{prefix}/")
        ]
        _draw_bars(panel, bars, color, ink, label)
    panel.set_yticks(range(len(names)), names)
    panel.invert_yaxis()
    panel.set_xlabel("million instructions per second of processor time", fontsize=9)
    _style(panel)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def draw_fleet(report: Report, path: Path) -> None:
    """Draw inspects per second, and how long they take, against concurrency."""
    pyplot = require_plotting()
    figure, panels = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    kinds = {
        "inspects": (0, "answers", OURS),
        "latency-p50": (1, "median", OURS),
        "latency-p99": (1, "99 of 100", "#8aa9b5"),
    }
    for kind, (side, label, color) in kinds.items():
        points = [
            (int(row.name.partition("/c")[2]), row)
            for row in report.rows
            if row.name.startswith(f"{kind}/c")
        ]
        tasks, values = [n for n, _ in points], [row.value for _, row in points]
        panels[side].plot(tasks, values, marker="o", markersize=4, color=color, label=label)
        lines = [(n, line) for n, row in points if (line := row.at_least or row.at_most)]
        if lines:
            panels[side].scatter(
                *zip(*lines, strict=True), marker="_", s=260, color=LINE, label="the line"
            )
    for panel, title in zip(panels, ("inspects per second", "microseconds each"), strict=True):
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("asked at once", fontsize=9)
        panel.grid(color="#e6e6e6", linewidth=0.6)
        panel.tick_params(labelsize=8)
        panel.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _draw_panel(panel: Any, names: list[str], rows: dict[str, Row], filesystem: str) -> None:
    ours = [(place, rows[name]) for place, name in enumerate(names) if name in rows]
    seed = [
        (place, SEED[name][filesystem])
        for place, name in enumerate(names)
        if filesystem in SEED.get(name, {})
    ]
    _draw_bars(panel, [(place - BAR / 2, row.value) for place, row in ours], OURS, "white", WE)
    _draw_bars(panel, [(place + BAR / 2, value) for place, value in seed], THEIRS, "#555555", THEY)
    for place, row in ours:
        panel.plot(row.spread, (place - BAR / 2,) * 2, color="#333333", linewidth=0.9)
    lines = [(row.at_least, place) for place, row in ours if row.at_least is not None]
    if lines:
        panel.scatter(*zip(*lines, strict=True), marker="|", s=260, color=LINE, label="the line")
    panel.set_title(filesystem, fontsize=10)
    _style(panel)


def _style(panel: Any) -> None:
    panel.set_xscale("log")
    panel.set_xlim(left=1)
    panel.grid(axis="x", color="#e6e6e6", linewidth=0.6)
    panel.set_axisbelow(b=True)
    panel.tick_params(labelsize=8)
    panel.margins(y=0.02)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)


def _draw_bars(
    panel: Any, bars: list[tuple[float, float]], color: str, ink: str, label: str
) -> None:
    """Each with its number at its foot, where nothing else is."""
    if not bars:
        return
    panel.barh(*zip(*bars, strict=True), BAR, color=color, label=label)
    for place, value in bars:
        panel.text(1.15, place, f"{value:,.0f}", va="center", fontsize=6.5, color=ink)

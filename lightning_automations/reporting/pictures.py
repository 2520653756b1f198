"""The same charts as pictures, for papers and tickets."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning_automations.reporting.chart import Chart, Kind, thinned
from lightning_automations.reporting.figures import number

__all__ = ["save_pictures"]

_COLOURS = ("#2a6fd0", "#d9730d", "#17826a", "#8250c4")
_QUIET, _AXIS, _BAND = "#a9adb5", "#a6a8a6", "#17826a"
_MARKS = {
    Kind.ADJUSTMENT: ("o", "#16181d", "adjustment"),
    Kind.RESCUE: ("D", "#c9302c", "trouble met"),
    Kind.OUTLIER: ("^", "#d9730d", "far outlier"),
    Kind.STOP: ("s", "#8250c4", "stop"),
}


def save_pictures(charts: Iterable[Chart], folder: Path) -> list[Path]:
    """One PNG for each chart, named after it.

    Args:
        charts: What to draw.
        folder: Where to; made where it is not there.
    """
    # Not pyplot, which asks for a screen and keeps every figure.
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    saved = []
    for chart in charts:
        figure = Figure(figsize=(8, 4.2), layout="constrained")
        _draw(chart, figure.subplots())
        saved.append(folder / f"{chart.key}.png")
        figure.savefig(saved[-1], dpi=120)
    return saved


def _draw(chart: Chart, axes: Any) -> None:
    colours = iter(_COLOURS * (1 + len(chart.lines) // len(_COLOURS)))
    for line in chart.lines:
        points = thinned(line.points)
        axes.plot(
            points.steps,
            [value if number(value) is not None else float("nan") for value in points.values],
            color=_QUIET if line.quiet else next(colours),
            drawstyle="steps-post" if line.stepped else "default",
            zorder=1 if line.quiet else 2,
            label=_literal(line.name),
        )
    for level in chart.levels:
        axes.axhline(level.value, color=_AXIS, linestyle="--", label=_literal(level.name))
    for band in chart.bands:
        axes.axhspan(band.low, band.high, color=_BAND, alpha=0.15, label=_literal(band.name))
    for step in chart.sessions:
        axes.axvline(step, color=_AXIS, linestyle=":", label="resumed")
    for kind, (symbol, colour, name) in _MARKS.items():
        marks = [mark for mark in chart.marks if mark.kind is kind and number(mark.value) is not None]
        if marks:
            places = [mark.step for mark in marks], [mark.value for mark in marks]
            axes.scatter(*places, marker=symbol, color=colour, edgecolor="white", zorder=3, label=name)
    axes.set(title=_literal(chart.title), xlabel="optimizer steps", ylabel=_literal(chart.axis))
    if chart.logarithmic:
        axes.set_yscale("log")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")


def _literal(text: str) -> str:
    """Names are no formulas, and one that begins with _ would be left out of the legend."""
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text

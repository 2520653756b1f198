"""Charts as figures of Plotly: plain JSON, with colours by the names that the page gives them."""

from __future__ import annotations

import math
from typing import Any

from lightning_automations.reporting.chart import Chart, Kind, Line, Mark, thinned

__all__ = ["figure_of"]

_COLOURS = ("var(--line-1)", "var(--line-2)", "var(--line-3)", "var(--line-4)")
_QUIET = "var(--quiet)"
_SYMBOLS = {
    Kind.ADJUSTMENT: ("circle", "var(--adjustment)", "adjustment"),
    Kind.RESCUE: ("diamond", "var(--rescue)", "trouble met"),
    Kind.OUTLIER: ("triangle-up", "var(--outlier)", "far outlier"),
    Kind.STOP: ("square", "var(--stop)", "stop"),
}


def figure_of(chart: Chart) -> dict[str, Any]:
    """Data and layout for ``Plotly.newPlot``; names are escaped, for Plotly reads some HTML in texts."""
    colours = iter(_COLOURS * (1 + len(chart.lines) // len(_COLOURS)))
    data = [_trace(line, _QUIET if line.quiet else next(colours)) for line in chart.lines]
    # What is in the background comes first.
    data.sort(key=lambda trace: trace["line"]["color"] != _QUIET)
    data += [_marks(kind, chart) for kind in Kind if any(mark.kind is kind for mark in chart.marks)]
    return {"data": data, "layout": _layout(chart)}


def _trace(line: Line, colour: str) -> dict[str, Any]:
    points = thinned(line.points)
    few = len(points.steps) <= 12
    return {
        "type": "scatter",
        "mode": "lines+markers" if few else "lines",
        "name": _plain(line.name),
        "x": list(points.steps),
        "y": [number(value) for value in points.values],
        "line": {"color": colour, "width": 2, "shape": "hv" if line.stepped else "linear"},
        "marker": {"size": 5},
        "hovertemplate": "%{y:.4g}",
    }


def _marks(kind: Kind, chart: Chart) -> dict[str, Any]:
    symbol, colour, name = _SYMBOLS[kind]
    marks = [mark for mark in chart.marks if mark.kind is kind]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [mark.step for mark in marks],
        "y": [number(mark.value) for mark in marks],
        "text": [_wrapped(mark) for mark in marks],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"symbol": symbol, "size": 10, "color": colour, "line": {"color": "var(--surface)", "width": 2}},
    }


def _layout(chart: Chart) -> dict[str, Any]:
    grid = {"gridcolor": "var(--grid)", "linecolor": "var(--axis)", "zeroline": False}
    shapes = [_across(level.value) for level in chart.levels]
    shapes += [_between(band.low, band.high) for band in chart.bands]
    shapes += [_upright(step) for step in chart.sessions]
    levels: dict[float, list[str]] = {}
    for level in chart.levels:
        levels.setdefault(level.value, []).append(level.name)
    labels = [(value, ", ".join(names)) for value, names in levels.items()]
    labels += [(band.high, band.name) for band in chart.bands]
    notes = [_label(x=1, y=value, text=name, xref="paper", xanchor="right") for value, name in labels]
    notes += [_label(x=step, y=1, text="resumed", yref="paper", xanchor="left") for step in chart.sessions]
    return {
        "xaxis": {"title": {"text": "optimizer steps"}, "rangemode": "tozero", **grid},
        "yaxis": {
            "title": {"text": _plain(chart.axis), "standoff": 8},
            **({} if chart.logarithmic or not _is_share(chart) else {"rangemode": "tozero"}),
            "type": "log" if chart.logarithmic else "linear",
            **({"dtick": 1 if _decades(chart) > 3 else "D2", "tickformat": "~g"} if chart.logarithmic else {}),
            "automargin": True,
            **grid,
        },
        "shapes": shapes,
        "annotations": notes,
        "hovermode": "x unified",
        "hoverlabel": {"bgcolor": "var(--surface)", "font": {"color": "var(--text)"}, "namelength": -1},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "margin": {"l": 64, "r": 16, "t": 16, "b": 48},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": "var(--muted)", "size": 12},
    }


def _is_share(chart: Chart) -> bool:
    """Whether nothing in it is below 0: an axis that begins there shows how much there is."""
    values = [value for line in chart.lines for value in line.points.values if math.isfinite(value)]
    return chart.axis.endswith("0 to 1") and min(values, default=0.0) >= 0


def _decades(chart: Chart) -> float:
    values = [value for line in chart.lines for value in line.points.values if math.isfinite(value) and value > 0]
    return math.log10(max(values) / min(values)) if values else 0.0


def _across(value: float) -> dict[str, Any]:
    line = {"color": "var(--axis)", "width": 1.5, "dash": "dash"}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": value, "y1": value, "line": line}


def _between(low: float, high: float) -> dict[str, Any]:
    place = {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "y0": low, "y1": high}
    return {**place, "fillcolor": "var(--band)", "line": {"width": 0}, "layer": "below"}


def _upright(step: int) -> dict[str, Any]:
    line = {"color": "var(--axis)", "width": 1, "dash": "dot"}
    return {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": step, "x1": step, "line": line}


def _label(*, text: str, **place: Any) -> dict[str, Any]:
    return {"text": _plain(text), "showarrow": False, "yanchor": "bottom", "font": {"size": 11}, **place}


def _wrapped(mark: Mark, *, width: int = 60) -> str:
    lines = [""]
    for word in _plain(f"step {mark.step}, {mark.text}").split(" "):
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "<br>".join(lines)


def _plain(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def number(value: float | None) -> float | None:
    """As JSON has it, which knows no NaN: a gap in a curve."""
    return value if value is not None and math.isfinite(value) else None

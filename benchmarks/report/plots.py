"""Plots of RESULTS.md: small PNG files that are the same for the same outcomes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL.Image import Dither, Quantize, fromarray

from benchmarks.scoring import (
    CONTROL,
    GROUPS,
    PLAIN,
    Run,
    Sensitivity,
    Share,
    compare,
    is_ours,
    of_study,
    optimizers_of,
    ours_with_defaults,
    select,
    sensitivities,
)
from benchmarks.stopping.front import Point, front

__all__ = ["clipping_plot", "fronts_plot", "rate_plot"]

_DOTS_PER_INCH = 90
_COLOURS = 128
_OPTIMIZER_COLOURS = ("#1b6ca8", "#d1495b")
_OURS_COLOURS = ("#d1495b", "#f0a202")
_PEER_COLOURS = ("#1b6ca8", "#2e933c", "#7d5ba6", "#00a6a6", "#8c6d46", "#e377c2", "#5b7553", "#3a506b", "#9a031e")
_STYLE: dict[str, Any] = {"font.size": 8, "axes.titlesize": 8, "axes.spines.top": False, "axes.spines.right": False}


def clipping_plot(path: Path, runs: Sequence[Run], methods: Sequence[str]) -> bool:
    """Rescue beside harm of every clipping method, with intervals; one colour an optimizer.

    Args:
        path: The PNG file to write.
        runs: All of the scoreboard.
        methods: Names of the methods of the clipping study.

    Returns:
        Whether there was anything to plot.
    """
    shown = [method for method in methods if method not in {PLAIN, CONTROL}]
    here = select(runs, methods=methods)
    shown = [method for method in shown if any(run.method == method for run in here)]
    if not shown:
        return False
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 1.2 + 0.3 * len(shown)), layout="constrained")
        axes = figure.subplots(1, 4, sharey=True)
        panels = [(group, kind) for group in GROUPS["clipping"][:2] for kind in ("rescued", "harmed")]
        for panel, (group, kind) in zip(axes, panels, strict=True):
            panel.set_title(f"{kind}, {group.name} (%)")
            panel.set_xlim(-3, 103)
            panel.grid(axis="x", alpha=0.3)
            _intervals(panel, [run for run in here if group.includes(run.scenario)], shown, kind)
        axes[0].set_yticks(range(len(shown)), shown)
        axes[0].invert_yaxis()
        for label in axes[0].get_yticklabels():
            label.set_fontweight("bold" if is_ours(label.get_text()) else "normal")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
        _write(figure, path)
    return True


def _intervals(panel: Axes, runs: Sequence[Run], methods: Sequence[str], kind: str) -> None:
    optimizers = optimizers_of(runs)
    for number, optimizer in enumerate(optimizers):
        own = [run for run in runs if run.outcome.cell.optimizer == optimizer]
        comparisons = [compare(own, method) for method in methods]
        shares = [found.rescued if kind == "rescued" else found.harmed for found in comparisons]
        rows = list(_drawable(shares))
        shift = 0.22 * (number - (len(optimizers) - 1) / 2)
        panel.errorbar(
            [value for _, value, _, _ in rows],
            [row + shift for row, _, _, _ in rows],
            xerr=[[below for _, _, below, _ in rows], [above for _, _, _, above in rows]],
            fmt="o",
            markersize=3.5,
            linewidth=1.2,
            color=_OPTIMIZER_COLOURS[number % len(_OPTIMIZER_COLOURS)],
            label=optimizer,
        )


def _drawable(shares: Sequence[Share]) -> Iterator[tuple[int, float, float, float]]:
    """Row, percent, and how far the interval reaches to either side, of those that are shares of something."""
    for row, found in enumerate(shares):
        value, interval = found.value, found.interval
        if value is not None and interval is not None:
            yield row, 100 * value, max(0.0, 100 * (value - interval[0])), max(0.0, 100 * (interval[1] - value))


def rate_plot(path: Path, runs: Sequence[Run], methods: Sequence[str]) -> bool:
    """What each method makes of a rate that is off: a panel for each task and optimizer.

    Args:
        path: The PNG file to write.
        runs: All of the scoreboard.
        methods: Names of the methods of the learning-rate study.

    Returns:
        Whether there was anything to plot.
    """
    shown = [method for method in methods if method != CONTROL]
    found = sensitivities(select(of_study("rate", runs), methods=shown))
    if not found:
        return False
    columns = min(4, len(found))
    rows = math.ceil(len(found) / columns)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(2.5 * columns, 0.8 + 2.1 * rows + 0.07 * len(shown)), layout="constrained")
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        lines = _lines(shown)
        handles: dict[str, Any] = {}
        for panel, ((task, optimizer), by_method) in zip(panels, found.items(), strict=False):
            panel.set_title(f"{task}, {optimizer}")
            handles |= _curves(panel, by_method, lines)
        for panel in panels[len(found) :]:
            panel.set_axis_off()
        figure.supxlabel("initial learning rate, as a multiple of the tuned one", fontsize=8)
        figure.supylabel("loss left (0: as tuned, 1: nothing learnt)", fontsize=8)
        names = [method for method in shown if method in handles]
        figure.legend(
            [handles[name] for name in names], names, loc="outside upper center", ncols=columns, frameon=False
        )
        _write(figure, path)
    return True


def _curves(panel: Axes, by_method: Mapping[str, Sensitivity], lines: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Draw a curve a method; the handles by method."""
    panel.set_xscale("log")
    panel.grid(alpha=0.3)
    handles = {}
    for method, found in by_method.items():
        if found.scale > 0:
            values = [excess / found.scale for excess in found.excess.values()]
            (handles[method],) = panel.plot(list(found.excess), values, markersize=2.5, **lines[method])
    return handles


def _lines(methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour and width of each method: plain black and dashed, ours thick, our defaults solid."""
    defaults = ours_with_defaults(methods)
    ours = [method for method in methods if is_ours(method)]
    peers = [method for method in methods if method != PLAIN and method not in ours]
    lines = {PLAIN: {"color": "black", "linestyle": "--", "linewidth": 1.2, "marker": "o", "zorder": 3}}
    for number, method in enumerate(peers):
        colour = _PEER_COLOURS[number % len(_PEER_COLOURS)]
        style = "-" if number < len(_PEER_COLOURS) else "-."
        lines[method] = {"color": colour, "linestyle": style, "linewidth": 0.8, "marker": "o", "zorder": 2}
    for number, method in enumerate(ours):
        colour = _OURS_COLOURS[number % len(_OURS_COLOURS)]
        style = "-" if method in defaults else ":"
        lines[method] = {"color": colour, "linestyle": style, "linewidth": 2.0, "marker": "o", "zorder": 4}
    return lines


def fronts_plot(path: Path, panels: Mapping[str, Sequence[Point]]) -> None:
    """Compute saved against runs that ended worse, a panel for each regime; a line joins the rules nobody beats.

    Args:
        path: The PNG file to write.
        panels: The points of the rules by the panel's title.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 8), layout="constrained")
        for axes, (title, found) in zip(figure.subplots(2, 2).ravel(), panels.items(), strict=False):
            best = front(found)
            axes.plot([100 * one.saved for one in best], [100 * one.worse for one in best], color="#9aa5b1", zorder=1)
            for point in found:
                ours = is_ours(point.rule)
                colour = "#d1495b" if ours else "#1b6ca8" if point in best else "#9aa5b1"
                axes.scatter(100 * point.saved, 100 * point.worse, s=36 if ours else 16, color=colour, zorder=2)
            _label(axes, found)
            axes.set_title(title)
            axes.set_xlabel("compute saved, %")
            axes.set_ylabel("runs that ended more than 5 % worse, %")
            axes.grid(alpha=0.3)
            axes.margins(x=0.2, y=0.25)
        _write(figure, path)


def _label(axes: Axes, found: Sequence[Point]) -> None:
    """Names of ours and of the rules on the front; the tables name the others."""
    best = front(found)
    for point in found:
        ours = is_ours(point.rule)
        if ours or point in best:
            axes.annotate(
                point.rule,
                (100 * point.saved, 100 * point.worse),
                (2, 5),
                textcoords="offset points",
                rotation=30,
                weight="bold" if ours else "normal",
            )


def _write(figure: Figure, path: Path) -> None:
    """With few colours, which makes the file a quarter as large, and nothing that differs from day to day."""
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(_DOTS_PER_INCH)
    canvas.draw()
    picture = fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.quantize(_COLOURS, method=Quantize.FASTOCTREE, dither=Dither.NONE).save(path, optimize=True)

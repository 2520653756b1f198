"""The report as one file of HTML that needs nothing from elsewhere."""

from __future__ import annotations

import base64
import gzip
import time
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from lightning_automations.reporting.chart import kind_of, shown
from lightning_automations.reporting.charts import charts_of
from lightning_automations.reporting.figures import figure_of
from lightning_automations.reporting.record import Change, RunRecord
from lightning_automations.reporting.verdict import verdict_of

__all__ = ["page_of"]

ROWS_SHOWN = 1000
"""Adjustments in the table; a run with more has a bound to mend, and its journal has them all."""


def page_of(run: RunRecord) -> str:
    """The page of a run, about 2 MB, nearly all of it Plotly's code: compressed, for a run is kept for long.

    Args:
        run: What is known of it.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("lightning_automations.reporting", "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    charts, left_out = charts_of(run)
    return environment.get_template("page.html").render(
        run=run,
        began=_date(run.sessions[0].began),
        verdict=verdict_of(run),
        charts=[(chart, figure_of(chart)) for chart in charts],
        left_out=left_out,
        rows=[_row(change) for change in run.changes[:ROWS_SHOWN]],
        rows_left_out=max(0, len(run.changes) - ROWS_SHOWN),
        settings={name: _settings(values) for name, values in run.settings.items()},
        version=version("lightning-automations"),
        plotly=_plotly(),
    )


def _row(change: Change) -> dict[str, str]:
    return {
        "step": str(change.step),
        "epoch": shown(change.epoch),
        "automation": change.automation,
        "parameter": change.parameter,
        "old": shown(change.old),
        "new": shown(change.new) + ("" if change.applied else " (dry run)"),
        "why": change.why,
        "evidence": ", ".join(f"{name} {shown(value)}" for name, value in change.evidence.items()),
        "kind": kind_of(change).value,
    }


def _settings(values: Any) -> list[tuple[str, str]]:
    return [(name, shown(value)) for name, value in values.items()]


def _date(seconds: float | None) -> str:
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


@cache
def _plotly() -> str:
    """Plotly's code, 4.8 MB of text in 2.0 MB."""
    code = files("plotly").joinpath("package_data").joinpath("plotly.min.js").read_bytes()
    return base64.b64encode(gzip.compress(code, mtime=0)).decode("ascii")

"""Which charts a run gives, from what is known of it. What is not known is left out, with a word."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from lightning_automations.core.recorded import VALUES_PREFIX, snake_case, value_name
from lightning_automations.reporting.chart import Band, Chart, Kind, Level, Line, Mark, marks_of, shown, spans_decades
from lightning_automations.reporting.record import Change, Outlier, RunRecord, Series

__all__ = ["METRICS_NAMES", "charts_of"]

RATE, BATCH = "IntelligentLearningRateScheduler", "DynamicBatchSizeOptimizer"
CLIPPING, STOPPING = "AdaptiveGradientClipping", "IntelligentEarlyStopping"
LOSSES = "DynamicLossScheduling"

METRICS_NAMES = {
    RATE: "intelligent_learning_rate_scheduler",
    BATCH: "dynamic_batch_size_optimizer",
    CLIPPING: "adaptive_gradient_clipping",
    STOPPING: "early_stopping",
    LOSSES: "dynamic_loss_scheduling",
}
"""The names of the automations among logged values."""

_LOSSES_SHOWN = 4
_METRICS_SHOWN = 3
_NO_METRIC = re.compile(r"(^|[/_-])(lr|epoch|time|step|rate)([/_-]|$)|^lr-", re.IGNORECASE)
_OF_OPTIMIZER = re.compile(r"_\d+$")


def charts_of(run: RunRecord) -> tuple[list[Chart], list[str]]:
    """The charts in the order in which they are read, and in words what is left out."""
    charts: list[Chart] = []
    left_out: list[str] = []
    sections: tuple[tuple[str, Callable[[RunRecord], list[Chart]]], ...] = (
        ("loss", _loss),
        ("metrics besides the loss", _metrics),
        ("learning rate", _rate),
        ("gradient norm", _gradients),
        ("batch size", _batch),
        ("memory", _memory),
        ("stopping", _stopping),
    )
    for name, make in sections:
        found = make(run)
        charts += found
        if not found:
            left_out.append(name)
    # few runs have several terms, or automations of someone else: without them nothing is missing
    return charts + _loss_weights(run) + _of_others(run), left_out


def _loss(run: RunRecord) -> list[Chart]:
    names = sorted((name for name in _own(run) if _is_loss(name)), key=lambda name: (_is_validation(name), name))
    smoothed = _value(run, RATE, "smoothed_loss")
    # The loss of single batches would hide the other curves: where there is a smooth one, it goes behind them.
    lines = [] if smoothed is None else [Line("smoothed, as it is judged", smoothed)]
    lines += [
        Line(name, run.series[name], quiet=bool(lines) and not _is_validation(name)) for name in names[:_LOSSES_SHOWN]
    ]
    changes = [change for change in run.changes if change.automation in (RATE, BATCH)]
    note = _not_shown(names, _LOSSES_SHOWN)
    return _chart(run, "loss", "Loss", "loss", lines, changes, logarithmic=spans_decades(lines), note=note)


def _metrics(run: RunRecord) -> list[Chart]:
    monitored = _monitored(run)
    others = [name for name in _own(run) if not _is_loss(name) and not _NO_METRIC.search(name)]
    names = sorted(others, key=lambda name: (name not in monitored, not _is_validation(name), name))
    charts: list[Chart] = []
    for number, name in enumerate(names[:_METRICS_SHOWN]):
        changes = [change for change in run.changes if name in monitored and _speaks_of_metric(change)]
        lines = [Line(name, run.series[name])]
        note = _not_shown(names, _METRICS_SHOWN) if number + 1 == _METRICS_SHOWN else ""
        charts += _chart(run, f"metric_{number + 1}", name, name, lines, changes, note=note)
    return charts


def _rate(run: RunRecord) -> list[Chart]:
    lines = []
    effective, scheduled = _value(run, RATE, "learning_rate"), _value(run, RATE, "scheduled_learning_rate")
    if effective is not None:
        lines.append(Line("effective", effective, stepped=True))
    if scheduled is not None:
        lines.append(Line("scheduled", scheduled, stepped=True, quiet=True))
    changes = [change for change in run.changes if change.automation == RATE]
    changes += [change for change in run.changes if change.automation == BATCH and change.parameter == "batch_size"]
    decades = spans_decades(lines, ratio=5.0)
    return _chart(run, "learning_rate", "Learning rate", "learning rate", lines, changes, logarithmic=decades)


def _gradients(run: RunRecord) -> list[Chart]:
    lines = _of_optimizers(run, "norm", "norm, median between decisions")
    thresholds = _of_optimizers(run, "threshold", "threshold", stepped=True)
    changes = [change for change in run.changes if change.automation == CLIPPING]
    outliers = [Mark(item.step, item.norm, Kind.OUTLIER, _outlier(item)) for item in run.outliers]
    charts = _chart(
        run,
        "gradient_norm",
        "Gradient norm and threshold",
        "gradient norm",
        [*thresholds, *lines],
        changes,
        marks=(*outliers, *_skips(run, thresholds)),
        logarithmic=spans_decades([*lines, *thresholds], ratio=5.0),
        note="Marks on the threshold are its changes; far outliers stand where their norm is.",
    )
    shares = _of_optimizers(run, "clipped_share", "share of the steps clipped", stepped=True)
    return charts + _chart(run, "clipped", "Clipped steps", "share of steps, 0 to 1", shares, [])


def _batch(run: RunRecord) -> list[Chart]:
    lines = [
        Line(label, series, stepped=True)
        for value, label in (("batch_size", "batch of the loader"), ("micro_batch_size", "largest piece in memory"))
        if (series := _value(run, BATCH, value)) is not None
    ]
    changes = [change for change in run.changes if change.automation == BATCH]
    return _chart(run, "batch_size", "Batch size", "samples", lines, changes)


def _memory(run: RunRecord) -> list[Chart]:
    share = _value(run, BATCH, "memory_share")
    if share is None:
        return []
    settings = run.settings.get(BATCH, {})
    target, margin = settings.get("target_vram_usage"), settings.get("safety_margin")
    bands = []
    if isinstance(target, float) and isinstance(margin, float):
        bands.append(Band(f"target {shown(target - margin)} to {shown(target)}", target - margin, target))
    changes = [change for change in run.changes if change.automation == BATCH]
    lines = [Line("peak between decisions", share, stepped=True)]
    return _chart(run, "memory", "Memory", "share of the memory, 0 to 1", lines, changes, bands=bands)


def _stopping(run: RunRecord) -> list[Chart]:
    waited = _value(run, STOPPING, "wait_steps")
    if waited is None:
        return []
    settings = run.settings.get(STOPPING, {})
    names = ("patience", "max_no_improvement")
    levels = [Level(name, float(settings[name])) for name in names if isinstance(settings.get(name), int)]
    gates = [f"{name} {settings[name]}" for name in ("min_iterations", "min_epochs") if settings.get(name)]
    note = f"The run is never stopped before {' and '.join(gates)}." if gates else ""
    changes = [change for change in run.changes if change.automation == STOPPING]
    lines = [Line("steps since the last improvement that counted", waited)]
    title = "How long early stopping has waited"
    return _chart(run, "stopping", title, "optimizer steps", lines, changes, levels=levels, note=note)


# Pieces --------------------------------------------------------------------------------------------------------------


def _chart(
    run: RunRecord,
    key: str,
    title: str,
    axis: str,
    lines: Iterable[Line],
    changes: Iterable[Change],
    *,
    marks: Iterable[Mark] = (),
    levels: Iterable[Level] = (),
    bands: Iterable[Band] = (),
    logarithmic: bool = False,
    note: str = "",
) -> list[Chart]:
    """The chart, or nothing where there is no line to draw."""
    drawn = tuple(line for line in lines if line.points.steps)
    if not drawn:
        return []
    chart = Chart(
        key=key,
        title=title,
        axis=axis,
        lines=drawn,
        levels=tuple(levels),
        bands=tuple(bands),
        marks=(*marks_of(changes, drawn[0].points), *marks),
        sessions=tuple(session.first_step for session in run.sessions[1:]),
        logarithmic=logarithmic,
        note=note,
    )
    return [chart]


def _loss_weights(run: RunRecord) -> list[Chart]:
    start = value_name(METRICS_NAMES[LOSSES], "weight_")
    names = sorted(name for name in run.series if name.startswith(start))
    lines = [Line(name.removeprefix(start), run.series[name], stepped=True) for name in names]
    changes = [change for change in run.changes if change.automation == LOSSES]
    return _chart(run, "loss_weights", "Weights of the terms of the loss", "weight", lines, changes)


def _of_others(run: RunRecord) -> list[Chart]:
    """Every value that an automation of someone else has logged, with the changes that it made to it."""
    charts: list[Chart] = []
    for name in sorted(set(run.settings) - set(METRICS_NAMES)):
        start = value_name(snake_case(name), "")
        for logged in sorted(logged for logged in run.series if logged.startswith(start)):
            value = logged.removeprefix(start)
            changes = [change for change in run.changes if (change.automation, change.parameter) == (name, value)]
            key, lines = re.sub(r"\W", "_", logged), [Line(value, run.series[logged], stepped=True)]
            charts += _chart(run, key, f"{name}: {value}", value, lines, changes, logarithmic=spans_decades(lines))
    return charts


def _own(run: RunRecord) -> list[str]:
    """What the user's module logged."""
    return [name for name in run.series if not name.startswith(f"{VALUES_PREFIX}/")]


def _value(run: RunRecord, automation: str, value: str) -> Series | None:
    return run.series.get(value_name(METRICS_NAMES[automation], value))


def _of_optimizers(run: RunRecord, value: str, label: str, *, stepped: bool = False) -> list[Line]:
    """A value of the clipping, of which there is one for each optimizer."""
    start = value_name(METRICS_NAMES[CLIPPING], value)
    lines = []
    for name in sorted(name for name in run.series if _OF_OPTIMIZER.sub("", name) == start):
        number = name[len(start) + 1 :]
        lines.append(Line(f"{label}, optimizer {number}" if number else label, run.series[name], stepped=stepped))
    return lines


def _skips(run: RunRecord, thresholds: list[Line]) -> Iterable[Mark]:
    skipped = _value(run, CLIPPING, "skipped_steps")
    if skipped is None or not thresholds:
        return
    before = 0.0
    for step, count in zip(skipped.steps, skipped.values, strict=True):
        if count > before:
            text = f"{shown(count - before)} step(s) with non-finite gradients kept from the weights"
            yield Mark(step, thresholds[0].points.at(step), Kind.RESCUE, text)
        before = count


def _outlier(outlier: Outlier) -> str:
    place = f", most of it in {outlier.parameter}" if outlier.parameter else ""
    return f"norm {shown(outlier.norm)}, far above {shown(outlier.threshold)}{place}"


def _monitored(run: RunRecord) -> set[str]:
    named = (run.settings.get(name, {}).get("monitor_metric") for name in (STOPPING, RATE))
    return {name for name in named if isinstance(name, str)}


def _speaks_of_metric(change: Change) -> bool:
    return change.automation == STOPPING or change.reason in ("plateau", "overfitting")


def _is_loss(name: str) -> bool:
    return "loss" in name.lower()


def _is_validation(name: str) -> bool:
    return name.lower().startswith(("val", "valid"))


def _not_shown(names: list[str], most: int) -> str:
    return f"Logged too, and not shown: {', '.join(names[most:])}." if len(names) > most else ""

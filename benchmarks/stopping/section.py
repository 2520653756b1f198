"""The section of RESULTS.md on stopping rules, made from recorded curves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, median, quantiles
from typing import Any

from benchmarks.report.text import named, percent, share_text, table
from benchmarks.scoring import Share
from benchmarks.stopping.checks import check
from benchmarks.stopping.curve import Curve
from benchmarks.stopping.front import front, panels, points
from benchmarks.stopping.jobs import VALIDATIONS, Regime
from benchmarks.stopping.replay import WORSE, Replay, curves_of, replayed
from benchmarks.stopping.rules import RULES, Rule

__all__ = ["section"]

_HOW = f"""\
Recorded once, replayed many times: each job was trained once for each seed to the end of its budget, with {VALIDATIONS}
validations, and every rule then decided on the same curves. All rules watch the validation loss; what they give up is
judged on test data that no rule sees. The weights that count are those of the best validation before the stop, for
the stopped run as for the full one: *slack* is how far their test loss is above that of the full run, *worse* counts
the runs with more than {percent(WORSE)} %, *within the margin* those whose test score is as close to the full run's as
the task asks. *Slack at the stop* is the same for whoever does not put the best weights back. Rules that count in steps
are told the length of the run, in steps and in epochs. The budget saved is a median with its quartiles, slack a median
with the 10th and the 90th percentile, a share stands with its Wilson interval of 95 %. The held-out task has a table of
its own. Rules on the *front* are beaten by no other one in both of mean compute saved and share of worse runs."""

_TITLES = {
    Regime.LATE: "Late: slow improvers with more budget than they need",
    Regime.EARLY: "Early: over-long training with noise in the training targets",
    Regime.SLOW: "Slow improvers: runs that improve until near the end and must not be stopped",
}


def section(recorded: Mapping[str, Any], rules: Sequence[Rule] = RULES, *, plots_folder: Path | None = None) -> str:
    """Markdown: the checks of the regimes, a table for each, the held-out task apart, rules and jobs.

    Args:
        recorded: What ``measure`` returned.
        rules: The rules.
        plots_folder: Gets a picture of the fronts; the page is expected to lie beside this folder. None: no picture.
    """
    replays = replayed(recorded, rules)
    curves = curves_of(recorded)
    shown = [replay for replay in replays if not replay.curve.held_out]
    held_out = [replay for replay in replays if replay.curve.held_out]
    parts = [_HOW, *_fronts(shown, plots_folder), _checks(curves)]
    for regime, title in _TITLES.items():
        of_regime = _of(regime, shown)
        if of_regime:
            parts += [f"### {title}", _table(of_regime)]
    if held_out:
        parts += ["### The held-out task", *_held_out(held_out)]
    parts += [*_notes(rules), "### Rules", _rules(rules), "### Jobs", _jobs(curves)]
    return "\n\n".join(parts)


def _fronts(replays: Sequence[Replay], folder: Path | None) -> Iterable[str]:
    if folder is not None:
        # Matplotlib takes a second to import, which the console's table does not need.
        from benchmarks.report.plots import fronts_plot

        fronts_plot(folder / "stopping.png", panels(replays))
        yield f"![Compute saved against runs that ended worse]({folder.name}/stopping.png)"


def _of(regime: Regime, replays: Iterable[Replay]) -> list[Replay]:
    return [replay for replay in replays if replay.curve.regime == regime.value]


def _by_rule(replays: Iterable[Replay]) -> dict[str, list[Replay]]:
    grouped: dict[str, list[Replay]] = {}
    for replay in replays:
        grouped.setdefault(replay.rule, []).append(replay)
    return grouped


# The checks -----------------------------------------------------------------------------------------------------------


def _checks(curves: Sequence[Curve]) -> str:
    """Where the best steps of the recorded runs lie, without the held-out task."""
    rows = []
    for regime in Regime:
        chosen = [curve for curve in curves if curve.regime == regime.value and not curve.held_out]
        if not chosen:
            continue
        found = check(regime, chosen)
        rows.append(
            (
                regime.value,
                str(len(chosen)),
                _spread([curve.best_share for curve in chosen]),
                f"{found.budget_over_best:.1f}",
                found.asked,
                "yes" if found.holds else "**no**",
            )
        )
    head = ("regime", "runs", "best step, % of the budget", "budget / median best step", "asked", "met")
    return table(head, rows)


# The tables -----------------------------------------------------------------------------------------------------------


def _table(replays: Sequence[Replay]) -> str:
    """One regime: a row for each rule."""
    best = {point.rule for point in front(points(replays))}
    rows = [
        (
            named(rule),
            f"{sum(one.stopped for one in found)}/{len(found)}",
            _spread([one.saved for one in found]),
            percent(mean(one.saved for one in found)),
            _tails([one.slack for one in found]),
            percent(round(mean(one.slack for one in found), 4) + 0.0, digits=2),
            share_text(_share(one.is_worse for one in found)),
            share_text(_share(one.succeeded for one in found)),
            _tails([one.slack_at_stop for one in found]),
            "yes" if rule in best else "",
        )
        for rule, found in _by_rule(replays).items()
    ]
    head = (
        "rule", "stopped", "budget saved, %", "mean", "slack, %", "mean", f"over {percent(WORSE)} % worse",
        "within the margin", "slack at the stop, %", "front",
    )  # fmt: skip
    return table(head, rows)


def _held_out(replays: Sequence[Replay]) -> Iterable[str]:
    """Few runs: one table, saved and worse for each regime."""
    regimes = [regime for regime in Regime if _of(regime, replays)]
    rows = []
    for rule, found in _by_rule(replays).items():
        cells = [
            (percent(median(one.saved for one in chosen)), f"{sum(one.is_worse for one in chosen)}/{len(chosen)}")
            for chosen in (_of(regime, found) for regime in regimes)
        ]
        rows.append((named(rule), *(cell for pair in cells for cell in pair)))
    head = ["rule"]
    for regime in regimes:
        share = median(one.curve.best_share for one in _of(regime, replays))
        head += [f"{regime.value} (best step at {percent(share)} %): saved, %", "worse"]
    yield f"`{replays[0].curve.task}`, which no rule was designed on. Medians."
    yield table(head, rows)


def _spread(values: Sequence[float]) -> str:
    """Median and quartiles in percent."""
    return _median_between(values, parts=4, digits=0)


def _tails(values: Sequence[float]) -> str:
    """Median, 10th and 90th percentile in percent: most rules give up nothing in most runs."""
    return _median_between(values, parts=10, digits=1)


def _median_between(values: Sequence[float], *, parts: int, digits: int) -> str:
    bounds = quantiles(values, n=parts, method="inclusive") if len(values) > 1 else values
    # A tiny negative value would be written as -0.0.
    middle, low, high = (
        percent(round(value, digits + 2) + 0.0, digits=digits) for value in (median(values), bounds[0], bounds[-1])
    )
    return f"{middle} ({low} to {high})"


def _share(hits: Iterable[bool]) -> Share:
    listed = list(hits)
    return Share(sum(listed), len(listed))


# Notes and lists ------------------------------------------------------------------------------------------------------


def _notes(rules: Sequence[Rule]) -> Iterable[str]:
    absent = [rule.name for rule in rules if not rule.is_installed]
    if absent:
        yield f"Not installed, and therefore not replayed: {', '.join(absent)}."


def _rules(rules: Sequence[Rule]) -> str:
    return table(("rule", "source and settings"), [(named(rule.name), rule.source) for rule in rules])


def _jobs(curves: Sequence[Curve]) -> str:
    """How each job is trained, and where its best steps are."""
    jobs: dict[str, list[Curve]] = {}
    for curve in curves:
        jobs.setdefault(curve.job, []).append(curve)
    rows = [
        (
            found[0].regime,
            f"{found[0].task}{' (held out)' if found[0].held_out else ''}",
            found[0].kind,
            str(found[0].budget),
            str(found[0].epochs),
            ", ".join(percent(curve.best_share) for curve in found),
        )
        for found in jobs.values()
    ]
    head = ("regime", "task", "trained with", "steps", "epochs", "best step of each run, % of the budget")
    return table(head, rows)

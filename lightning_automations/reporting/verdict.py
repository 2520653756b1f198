"""What the automations were worth in this run, in words that the journal bears out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lightning_automations.core.recorded import WOULD_RUN_IN_PIECES, value_name
from lightning_automations.reporting.chart import Kind, kind_of
from lightning_automations.reporting.charts import CLIPPING, METRICS_NAMES
from lightning_automations.reporting.record import Change, RunRecord

__all__ = ["Verdict", "verdict_of"]

_STEPS_NAMED = 8
_RULES = {"auto": "by the square root", "sqrt": "by the square root", "linear": "in proportion"}
"""How ``lr_scaling`` carries a larger batch over to the learning rate."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Sentences, grouped; a group may be empty.

    Args:
        headline: All in one line.
        rescued: Where the run was in trouble and was helped.
        saved: Training that was not needed.
        adjusted: What else was changed.
        left_alone: What was found to be in order, could not be judged, or was handed back.
    """

    headline: str
    rescued: tuple[str, ...]
    saved: tuple[str, ...]
    adjusted: tuple[str, ...]
    left_alone: tuple[str, ...]


def verdict_of(run: RunRecord) -> Verdict:
    """Judge a run by its journal alone: what would have happened without a change, nobody knows."""
    taken_back = _trials_taken_back(run)
    rescues = [change for change in run.changes if _is_rescue(change) and change not in taken_back]
    rescued = [*_grouped(run, rescues), *_skipped(run), *_passed(run)]
    saved = [_stop(run, change) for change in run.changes if kind_of(change) is Kind.STOP]
    others = [change for change in run.changes if change not in rescues and kind_of(change) is not Kind.STOP]
    return Verdict(
        headline=_headline(run, len(rescued)),
        rescued=tuple(rescued),
        saved=tuple(saved),
        adjusted=tuple(_grouped(run, (change for change in others if change not in taken_back))),
        left_alone=(*_trials(taken_back), *_idle(run), *_retired(run)),
    )


def _is_rescue(change: Change) -> bool:
    """A lower rate at the start counts where it was kept: only later is it known whether there was trouble."""
    return kind_of(change) is Kind.RESCUE or change.reason == "start_not_falling"


def _headline(run: RunRecord, rescues: int) -> str:
    makers = {change.automation for change in run.changes}
    made = f"{_count(len(run.changes), 'adjustment')} by {_count(len(makers), 'automation')}" if makers else "No change"
    parts = [f"{made} in {_count(run.last_step, 'step')}"]
    if len(run.sessions) > 1:
        parts.append(f"{len(run.sessions)} fits")
    parts.append(_count(rescues, "kind of trouble", "kinds of trouble") + " met" if rescues else "no trouble met")
    parts.append(_end(run))
    return ("Dry run, nothing was changed: " if run.dry_run else "") + ", ".join(parts) + "."


def _end(run: RunRecord) -> str:
    """How the run ended, as far as a journal tells: an interrupt and a limit of the trainer look alike."""
    grew = any(change.applied and change.parameter == "batch_size" for change in run.changes)
    planned = None if grew else run.planned_steps  # a batch that grew made another plan
    stops = [change for change in run.changes if kind_of(change) is Kind.STOP]
    early = [change for change in stops if planned is None or change.step < planned]
    if any(change.applied for change in early):
        return "stopped early"
    if planned is not None and run.last_step < planned:
        return f"ended before the {planned} steps that were planned"
    return "would have been stopped early" if early else "not stopped early"


def _grouped(run: RunRecord, changes: Iterable[Change]) -> list[str]:
    """One sentence for each automation and reason; parameters that were changed at the same steps share it."""
    groups: dict[tuple[str, str, str, bool], list[Change]] = {}
    for change in changes:
        groups.setdefault((change.automation, change.parameter, change.why, change.applied), []).append(change)
    together: dict[tuple[str, str, bool, str], list[str]] = {}
    for (automation, parameter, why, applied), group in groups.items():
        together.setdefault((automation, why, applied, _at_steps(group)), []).append(parameter)
    return [
        f"{automation} {'changed' if applied else 'would have changed'} {' and '.join(parameters)} {steps}: {why}"
        f"{_with_it(run, automation, parameters)}."
        for (automation, why, applied, steps), parameters in together.items()
    ]


def _with_it(run: RunRecord, automation: str, parameters: Sequence[str]) -> str:
    """What else a change moves: a batch that grew takes the learning rate along, which is no adjustment of its own."""
    rule = run.settings.get(automation, {}).get("lr_scaling")
    if "batch_size" not in parameters or rule not in _RULES:
        return ""
    return f", and the learning rate went with it {_RULES[rule]}"


def _at_steps(changes: list[Change]) -> str:
    steps = [str(change.step) for change in changes]
    if len(steps) == 1:
        return f"at step {steps[0]}"
    if len(steps) <= _STEPS_NAMED:
        return f"{len(steps)} times, at steps {', '.join(steps)}"
    return f"{len(steps)} times between steps {steps[0]} and {steps[-1]}"


def _skipped(run: RunRecord) -> list[str]:
    series = run.series.get(value_name(METRICS_NAMES[CLIPPING], "skipped_steps"))
    count = int(series.last or 0) if series is not None else 0
    if not count:
        return []
    verb = "would have kept" if run.settings.get(CLIPPING, {}).get("dry_run") else "kept"
    return [f"{CLIPPING} {verb} {_count(count, 'step')} with non-finite gradients from the weights."]


def _passed(run: RunRecord) -> list[str]:
    """Out-of-memory errors that a dry run let pass."""
    start = WOULD_RUN_IN_PIECES
    return [
        f"{told.automation} would have run a batch again in pieces at step {told.step}:{told.text.removeprefix(start)}"
        for told in run.told
        if told.text.startswith(start)
    ]


def _stop(run: RunRecord, change: Change) -> str:
    # The stopper's own account: it knows the plan as it was when it stopped, with a batch that may have grown.
    said = [end.summary for end in run.ends if (end.session, end.automation) == (change.session, change.automation)]
    if change.applied and said:
        return f"{change.automation} {said[-1]}."
    verb = "stopped" if change.applied else "would have stopped"
    return f"{change.automation} {verb} the run at step {change.step}: {change.why}."


def _trials_taken_back(run: RunRecord) -> list[Change]:
    """A lower rate at the start that did no better, and the change that took it back."""
    found: list[Change] = []
    for number, change in enumerate(run.changes):
        if change.reason == "no_better_rate":
            tried = [item for item in run.changes[:number] if item.reason == "start_not_falling"]
            found += [*tried, change]
    return found


def _trials(changes: list[Change]) -> list[str]:
    if not changes:
        return []
    steps = " and ".join(str(step) for step in dict.fromkeys(change.step for change in changes))
    return [f"Other learning rates were tried at the start (steps {steps}); the given one was kept."]


def _idle(run: RunRecord) -> list[str]:
    active = {change.automation for change in run.changes}
    sentences = []
    for name in run.settings:
        if name not in active:
            summary = next((end.summary for end in reversed(run.ends) if end.automation == name), "")
            sentences.append(f"{name} changed nothing" + (f" ({summary})." if summary else "."))
    return sentences


def _retired(run: RunRecord) -> list[str]:
    return [f"{told.automation} retired at step {told.step}: {told.text}." for told in run.told if told.retired]


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"

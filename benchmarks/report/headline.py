"""The headline table and the bars."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.report.text import named, percent, share_text, table
from benchmarks.scoring import HARM_BAR, OVERHEAD_BAR_PERCENT, PLAIN, SUCCESS_BAR, Headline, Share

__all__ = ["headline_section", "missed_bars", "of_defaults"]

DEFAULTS = "ours, defaults"
"""The configuration that is held against the bars."""


def headline_section(headlines: Sequence[Headline]) -> str:
    """Markdown: the one pooled figure, with what is in it."""
    rows = [
        (
            named(found.method),
            str(found.paired.successes.total),
            share_text(found.paired.successes, digits=1),
            share_text(found.paired.rescued, digits=1),
            share_text(found.paired.harmed, digits=1),
            str(found.extra.total),
            str(found.paired.missing),
        )
        for found in headlines
    ]
    head = ("method", "runs", "succeeded", "rescued", "harmed", "of the runs: batches beyond memory", "no partner")
    return "\n\n".join(
        [
            f"Clean runs, faults, and wrong rates within the reach of the default bounds, on all tasks, the held-out "
            f"one included, and batches that do not fit memory. The bars: more than {percent(SUCCESS_BAR, digits=1)} % "
            f"succeed with the defaults, and at most {percent(HARM_BAR)} % are harmed.",
            table(head, rows),
        ]
    )


def of_defaults(headlines: Sequence[Headline]) -> Headline | None:
    """The entry that is held against the bars."""
    return next((found for found in headlines if found.method == DEFAULTS), None)


def missed_bars(found: Headline | None, overhead_percent: float | None) -> list[str]:
    """A sentence for each bar that is missed, or cannot be judged.

    Args:
        found: The entry of our defaults.
        overhead_percent: Of a step of 20 ms; None when it was not measured.
    """
    nothing = Share(0, 0)
    successes, harmed = (found.paired.successes, found.paired.harmed) if found else (nothing, nothing)
    sentences = []
    if successes.value is None:
        sentences.append("The success rate was not measured.")
    elif successes.value <= SUCCESS_BAR:
        sentences.append(
            f"The bar of {percent(SUCCESS_BAR, digits=1)} % successes is missed: {share_text(successes, digits=1)}."
        )
    if harmed.value is None:
        sentences.append(f"The harm rate was not measured: there is no pair in which {PLAIN} succeeds.")
    elif harmed.value > HARM_BAR:
        sentences.append(f"The bar of {percent(HARM_BAR)} % harm is missed: {share_text(harmed, digits=1)}.")
    if overhead_percent is None:
        sentences.append("The overhead was not measured with these runs.")
    elif overhead_percent >= OVERHEAD_BAR_PERCENT:
        sentences.append(f"The bar of {OVERHEAD_BAR_PERCENT:g} % overhead is missed: {overhead_percent:.2f} %.")
    return sentences

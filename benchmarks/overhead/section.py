"""Writes what was measured as a section of RESULTS.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.overhead.clipping import clipping_table
from benchmarks.overhead.workload import START_STEPS, WARM_UP_STEPS

__all__ = ["BAR_PERCENT", "bar_percent", "section"]

BAR_PERCENT = 1.0
BAR_STEP_MS = 20
SMALLEST_PART_US = 5.0


def bar_percent(measured: Mapping[str, Any]) -> float:
    """The figure that is held against the bar: percent of a plain step of 20 ms, replaced clipping not subtracted.

    Args:
        measured: What ``measure`` gave.
    """
    return float(_at_bar(measured)["percent"])


def section(measured: Mapping[str, Any]) -> str:
    """Markdown without a heading.

    Args:
        measured: What ``measure`` gave, also after a round trip through JSON.
    """
    parts = [
        _bar_sentence(measured),
        _steps_table(measured["steps"]),
        _how_to_read(measured),
        _split_table(measured),
        _reads_sentence(measured),
        _memory_table(measured["memory"]),
        _memory_sentence(measured["memory"]),
        *_clipping(measured.get("clipping", ())),
        *_uncounted_warning(measured["border"]["uncounted"]),
    ]
    return "\n\n".join(parts) + "\n"


def _at_bar(measured: Mapping[str, Any]) -> Mapping[str, Any]:
    return next(row for row in measured["steps"] if row["step_ms"] == BAR_STEP_MS)


def _bar_sentence(measured: Mapping[str, Any]) -> str:
    row, alone = _at_bar(measured), _totals(measured)
    verdict = "missed" if row["percent"] >= BAR_PERCENT else "held"
    name, most = max(alone.items(), key=lambda item: item[1])
    return (
        f"The bar of {BAR_PERCENT:g} % of a step of {BAR_STEP_MS} ms is {verdict}: all four automations together take "
        f"{row['inside_us'] + row['empty_us']:.0f} us of a plain step of {row['plain_us'] / 1e3:.1f} ms, "
        f"{row['percent']:.2f} %. Less the clipping of Lightning's that ours takes the place of, "
        f"{row['percent_less_clipping']:.2f} %. The largest part is `{name}`, {most:.0f} us."
    )


def _steps_table(rows: Iterable[Mapping[str, Any]]) -> str:
    head = (
        "plain step", "parameter tensors", "inside our functions", "empty callbacks", "% of the step",
        "Lightning's clipping, replaced", "% less clipping", "pairs: ratio (interval)", "reads per step above plain",
    )  # fmt: skip
    return _table(
        head,
        [
            (
                f"{row['plain_us'] / 1e3:.1f} ms",
                f"{row['parameter_tensors']}",
                f"{row['inside_us']:.0f} us",
                f"{row['empty_us']:.0f} us",
                f"{row['percent']:.2f}",
                f"{row['clipping_us']:.0f} us",
                f"{row['percent_less_clipping']:.2f}",
                _interval(row["pairs"]),
                f"{row['reads']['above_plain']:.2f}",
            )
            for row in rows
        ],
    )


def _interval(pairs: Mapping[str, Any]) -> str:
    return f"{pairs['median']:.3f} ({pairs['low']:.3f} to {pairs['high']:.3f})"


def _of_the_start(measured: Mapping[str, Any]) -> str:
    if "at_start_us" not in measured["split"]:
        return ""  # of before it was measured: the learning-rate automation did not look so closely
    return (
        f" All of this leaves out the first {WARM_UP_STEPS} steps: in the first ones, and for 50 after each of its "
        "changes, the learning-rate automation reads where the gradient points at every step; the last line of the "
        "next table says what that takes."
    )


def _how_to_read(measured: Mapping[str, Any]) -> str:
    pairs, border = _at_bar(measured)["pairs"], measured["border"]
    left_out = ", ".join(f"`{name}`" for name in border["left_out"])
    stopwatch = max(row["stopwatch_us"] for row in measured["steps"])
    return (
        f"Defaults, journal off, no validation, one thread, AdamW. The first figure is the time inside our "
        f"{len(border['entries'])} entry points, less that of what Lightning would have called itself ({left_out}); "
        f"the stopwatch's own {stopwatch:.0f} us are in it. Empty callbacks are what Lightning needs to call four that "
        f"do nothing. Ratios are medians of {pairs['count']} alternating pairs of runs, plain Lightning clipping at "
        f"1.0, with the sign-test interval ({100 * pairs['coverage']:.0f} %): "
        f"wall-clock time varies more from run to run than a bar of 1 % allows.{_of_the_start(measured)}"
    )


def _totals(measured: Mapping[str, Any]) -> dict[str, float]:
    return {name: sum(entries.values()) for name, entries in measured["split"]["automations"].items()}


def _split_table(measured: Mapping[str, Any]) -> str:
    split, row = measured["split"], _at_bar(measured)
    totals = {f"`{name}`": value for name, value in _totals(measured).items()}
    totals["all four, with a journal"] = split["with_journal_us"]
    parts = [*map(_parts, split["automations"].values()), ""]
    if "at_start_us" in split:  # results of before it was measured have none
        totals[f"all four, in the first {START_STEPS} steps of a fit"] = split["at_start_us"]
        parts.append("")
    lines = [
        (name, f"{value:.0f}", f"{100 * value / row['plain_us']:.2f}", part)
        for (name, value), part in zip(totals.items(), parts, strict=True)
    ]
    return _table((f"alone, step of {split['step_ms']} ms", "us", "% of the step", "of which (us)"), lines)


def _parts(entries: Mapping[str, float]) -> str:
    shown = {name: value for name, value in entries.items() if value >= SMALLEST_PART_US}
    rest = sum(entries.values()) - sum(shown.values())
    return ", ".join([*(f"`{name}` {value:.0f}" for name, value in shown.items()), f"the rest {rest:.0f}"])


def _reads_sentence(measured: Mapping[str, Any]) -> str:
    reads = _at_bar(measured)["reads"]
    kinds = ", ".join(f"`{name}` {value:.2f}" for name, value in reads["by_method"].items())
    return (
        f"Blocking reads per step above those of plain Lightning: {reads['above_plain']:.2f} ({kinds or 'none'}). One "
        "a step is allowed, the flag of the skip of non-finite steps. Plain Lightning's own are those of torch's AdamW "
        "on a CPU, which reads its step counters there."
    )


def _memory_table(rows: Sequence[Mapping[str, Any]]) -> str:
    return _table(
        ("steps", "held in memory", "state in a checkpoint, as JSON", "retired"),
        [
            (
                f"{row['steps']:,}",
                f"{row['bytes'] / 1e3:.1f} kB",
                f"{row['saved_bytes'] / 1e3:.1f} kB",
                ", ".join(row["retired"]) or "none",
            )
            for row in rows
        ],
    )


def _memory_sentence(rows: Sequence[Mapping[str, Any]]) -> str:
    *_, before, last = rows
    growth = f"{last['bytes'] / before['bytes']:.2f} times what it was after {before['steps']:,}"
    return (
        "All that the four automations hold, walked recursively (objects, tensors, copies of weights), the largest of "
        "20 readings up to that step, in one run of a model of two parameters with a validation every 100 steps. "
        f"After {last['steps']:,} steps it is {growth}."
    )


def _clipping(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return []
    head, *lines = clipping_table(rows)
    told = (
        f"`AdaptiveGradientClipping` alone, in place of Lightning's clipping at 1.0 under the same optimizer, in "
        f"{rows[0]['count']} alternating pairs of runs of a network so small that a step is little but bookkeeping:"
    )
    return [told, _table(head, lines)]


def _uncounted_warning(names: Sequence[str]) -> list[str]:
    return [f"Not counted, though it is ours and runs in a step: {', '.join(names)}."] if names else []


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    marks = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, marks, *rows))

"""The section on the rules of clipping that were tried before one was chosen."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from benchmarks.report.text import DASH, figure, percent, table
from benchmarks.scenarios import Family, scenario_named
from benchmarks.scoring import share

__all__ = ["rules_tried_section"]

Row = Mapping[str, Any]


def rules_tried_section(tried: Mapping[str, Any]) -> str:
    """Markdown without a heading.

    Args:
        tried: ``rules``, what each one is by its name, the chosen one last; ``seeds``; and ``rows``, one a run.
    """
    *_, chosen = tried["rules"]
    runs = {rule: {_place(row): row for row in tried["rows"] if row["rule"] == rule} for rule in tried["rules"]}
    rows = [
        (rule, what, *_figures(runs[rule].values()), *_figures(_at(runs[chosen], runs[rule])))
        for rule, what in tried["rules"].items()
    ]
    of_all = max(len(places) for places in runs.values())
    head = ("rule", "what it is", "succeeded", "clean steps clipped", "chosen rule there", "clean steps clipped there")
    seeds = " and ".join(map(str, tried["seeds"]))
    return (
        f"Development evidence: clean runs and faults of the tasks that are not held out, seeds {seeds}, which stand "
        f"in no other table; clipping alone, with the defaults. Rules that were given up early have fewer than "
        f"{of_all} runs, so beside each stands the chosen rule on the same ones. The rule was chosen on these figures, "
        "which for that reason say too much good of it: the tables of the study do not. Numbers inside a rule (8 "
        "norms, three times, ten times) were set with the rule and not searched over.\n\n" + table(head, rows, words=2)
    )


def _place(row: Row) -> tuple[Any, ...]:
    return row["task"], row["optimizer"], row["scenario"], row["seed"]


def _at(runs: Mapping[tuple[Any, ...], Row], places: Collection[tuple[Any, ...]]) -> Sequence[Row]:
    return [row for place, row in runs.items() if place in places]


def _figures(rows: Iterable[Row]) -> tuple[str, str]:
    """Successes of all runs, and the share of the steps of clean ones that were clipped."""
    listed = list(rows)
    clean = [row for row in listed if scenario_named(row["scenario"]).family is Family.CLEAN]
    steps = sum(row["steps"] for row in clean)
    clipped = f"{percent(sum(row['clipped_steps'] for row in clean) / steps, digits=2)} %" if steps else DASH
    return figure(share(row["succeeded"] for row in listed)), clipped

"""Numbers that are written so that some reader takes them for texts, and counts that are none."""

from __future__ import annotations

from collections.abc import Iterator

from lightning_automations.config.analysis.facts import TrainingFacts
from lightning_automations.config.analysis.recipe import CLIP_KEYS
from lightning_automations.config.diagnosis.automation import finding_at
from lightning_automations.config.diagnosis.finding import Finding

__all__ = ["numbers_taken_for_texts"]

_LONGEST = 12
"""Digits of a whole number that are written out."""


def numbers_taken_for_texts(facts: TrainingFacts) -> Iterator[Finding]:
    """Numbers in quotes, no counts and open interpolations of the program's, and numbers of ours YAML 1.1 has not.

    All of them are notes.

    Args:
        facts: About the file.
    """
    for fact in facts.quoted_numbers:
        yield finding_at(
            facts,
            fact.path,
            found=f"{fact.path} is the text {fact.value!r}",
            why="a number in quotes is none: it was not taken into account here",
            mend=f"Write {fact.value} without quotes.",
            note=True,
        )
    for fact in facts.no_counts:
        expected = "a number, true or false" if fact.path.endswith(CLIP_KEYS) else "a whole number of 1 or more"
        yield finding_at(
            facts,
            fact.path,
            found=f"{fact.path} is {fact.value}",
            why=f"{expected} was expected: it was not taken into account here",
            mend=f"Write {expected}.",
            note=True,
        )
    yield from _open_interpolations(facts)
    ours = tuple(f"{one.path}." for one in (*facts.automations, *([facts.section] if facts.section else ())))
    for path, written in facts.document.loose_numbers.items():
        if path.startswith(ours):
            yield finding_at(
                facts,
                path,
                found=f"{path.rpartition('.')[2]} is written as {written}",
                why="it is a number here and a text in YAML 1.1: the schema in an editor refuses it, and so does "
                "AutomationsCLI where a whole number is expected",
                mend=f"Write {_plainly(written)}.",
                note=True,
            )


def _open_interpolations(facts: TrainingFacts) -> Iterator[Finding]:
    for fact in facts.unresolved:
        yield finding_at(
            facts,
            fact.path,
            found=f"{fact.path} is {fact.value}",
            why="it was not taken into account here",
            mend="Check the name, unless it is filled in by the program later.",
            note=True,
        )


def _plainly(written: str) -> str:
    """The number as YAML 1.1 knows it, too; a whole number without an exponent, which would make a fraction of it.

    >>> _plainly("5e3"), _plainly(".5E-4")
    ('5000', '0.5e-4')
    """
    digits = written.replace("_", "").lower()
    if float(digits).is_integer() and abs(float(digits)) < 10**_LONGEST:
        return str(int(float(digits)))
    mantissa, _, exponent = digits.partition("e")
    whole, _, rest = mantissa.partition(".")
    sign = "" if exponent[0] in "+-" else "+"
    return f"{whole if whole.strip('+-') else whole + '0'}.{rest or '0'}e{sign}{exponent}"

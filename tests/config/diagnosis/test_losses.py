"""Loss scheduling in the section is judged as every other automation is."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_automations.config.diagnosis.finding import Status
from tests.config.diagnosis.test_diagnosing import diagnosed, findings

LOSSES = "DynamicLossScheduling"
SEVERAL = "  losses: [{type: l1}, {type: ssim}]\n"


def _file(values: str, *, losses: str = SEVERAL, rest: str = "") -> str:
    return f"train:\n  total_iter: 4000\n{losses}{rest}  training_automations:\n    {LOSSES}: {values}\n"


def test_invalid_settings_of_loss_scheduling_are_found(tmp_path: Path) -> None:
    """Every one, at its line: the file does not train with them."""
    found = findings(diagnosed(_file("{momentum: 7, momentun: 1}"), tmp_path), LOSSES)
    assert [(one.status, one.note, one.line) for one in found] == [(Status.INVALID, False, 5)] * 2


@pytest.mark.parametrize(
    ("values", "words", "status", "note"),
    [
        ("{enabled: false}", "turned off", Status.WITHOUT_EFFECT, True),
        ("{max_adjustments: 0}", "max_adjustments is 0", Status.WITHOUT_EFFECT, False),
        ("{baseline_iterations: 5000}", "baseline_iterations is 5000", Status.WITHOUT_EFFECT, False),
        ("{max_adjustments: 3}", "a decision falls every 50 steps", Status.PARTLY, False),
    ],
)
def test_what_keeps_loss_scheduling_from_its_work(
    values: str, words: str, status: Status, note: bool, tmp_path: Path
) -> None:
    """As with the others."""
    (found,) = findings(diagnosed(_file(values), tmp_path), LOSSES)
    assert words in found.found
    assert (found.status, found.note) == (status, note)


def test_a_single_term_has_nothing_to_balance(tmp_path: Path) -> None:
    """A note: the module may make several of it."""
    (found,) = findings(diagnosed(_file("", losses="  losses: [{type: l1}]\n"), tmp_path), LOSSES)
    assert found.note
    assert "single term" in found.found


def test_sound_loss_scheduling_is_right(tmp_path: Path) -> None:
    """With defaults and several terms nothing speaks against it."""
    diagnosis = diagnosed(_file(""), tmp_path)
    assert findings(diagnosis, LOSSES) == []
    assert "the loss has 2 terms" in diagnosis.subjects[-1].present


def test_older_loss_scheduling_beside_ours_is_a_second_owner(tmp_path: Path) -> None:
    """Both weigh the terms."""
    (found,) = findings(diagnosed(_file("", rest="  dynamic_loss_scheduling: {enabled: true}\n"), tmp_path), LOSSES)
    assert "is on beside" in found.found


def test_wrong_values_in_the_older_place_are_found_without_a_section(tmp_path: Path) -> None:
    """Training would not start with them."""
    diagnosis = diagnosed("train:\n  dynamic_loss_scheduling: {enabled: true, momentum: 7}\n", tmp_path)
    found = findings(diagnosis, "training_automations")
    assert [(one.status, one.path) for one in found if one.status is Status.INVALID] == [
        (Status.INVALID, "train.dynamic_loss_scheduling.momentum")
    ]

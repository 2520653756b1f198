"""Adjustments as the journal and checkpoints have them, with reasons of ours and of others."""

from __future__ import annotations

import json
from enum import Enum

import pytest

from lightning_automations.core.decision import Adjustment, Reason, describe, explanation


class OwnReason(str, Enum):
    """As the author of an automation may write it."""

    TOO_LARGE = "weights_too_large"


def adjustment(reason: Reason | str) -> Adjustment:
    """One with this reason."""
    return Adjustment(step=4, epoch=1, automation="Own", parameter="factor", old=1.0, new=2.0, reason=reason)


@pytest.mark.parametrize("reason", [Reason.PLATEAU, "weights_too_large", OwnReason.TOO_LARGE])
def test_it_comes_back_from_json_with_its_reason(reason: Reason | str) -> None:
    """A reason of ours as a member, any other as its text, which a member with that text equals."""
    values = adjustment(reason).as_dict()
    assert values["reason"] == str.__str__(reason)
    restored = Adjustment.from_dict(json.loads(json.dumps(values)))
    assert restored == adjustment(reason)
    assert isinstance(restored.reason, Reason) is isinstance(reason, Reason)


@pytest.mark.parametrize("reason", ["weights_too_large", OwnReason.TOO_LARGE])
def test_a_reason_of_others_says_itself_what_it_means(reason: str) -> None:
    """In the log, the report and wherever a sentence is made of it."""
    assert explanation(reason) == "weights too large"
    assert describe(adjustment(reason)) == "step 4: Own changed factor from 1 to 2: weights too large"


@pytest.mark.parametrize("reason", list(Reason))
def test_a_reason_of_ours_is_explained_from_its_text_too(reason: Reason) -> None:
    """The report has read it from a file."""
    assert explanation(reason.value) == explanation(reason)
    assert explanation(reason) != ""
    assert str(reason) == reason.value


def test_a_reason_that_is_no_text_is_refused() -> None:
    """A damaged checkpoint is told as such by whoever loads it."""
    with pytest.raises(TypeError, match="expected a reason as a text, got int"):
        Adjustment.from_dict({**adjustment("a").as_dict(), "reason": 3})

"""The norms of the steps since the last decision."""

from __future__ import annotations

import torch

from lightning_automations.probes.step_norms import MOST_BEHIND, Dominant, StepNorms


def test_what_is_behind_a_norm_is_kept_of_the_last_steps_only() -> None:
    """A decision may be a million steps away; the norms themselves are all kept."""
    steps, parameter = StepNorms(), torch.zeros(1)
    for step in range(MOST_BEHIND + 3):
        steps.add(0, torch.tensor(float(step)), step=step)
        steps.add_behind([parameter], torch.tensor([float(step)]))
    found = [steps.dominant(place, {id(parameter): "weight"}) for place in range(MOST_BEHIND + 3)]
    assert found[:3] == [None, None, None]
    assert found[3:] == [Dominant("weight", 1.0)] * MOST_BEHIND
    assert len(steps.by_optimizer()[0]) == MOST_BEHIND + 3


def test_owners_are_the_optimizers_whose_steps_wait() -> None:
    """Until they are cleared."""
    steps = StepNorms()
    steps.add(2, 1.0, step=0)
    steps.add(0, 1.0, step=1)
    assert steps.owners() == {0, 2}
    steps.clear()
    assert steps.owners() == set()

"""Where a run can go back to, against a twin that keeps whole copies of everything it was told to keep."""

from __future__ import annotations

import copy
import io
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lightning.pytorch.plugins import Precision

from lightning_automations.callbacks.rollback_points import RollbackPoints
from tests.callbacks.helpers import Regression

INTERVAL = 3


class Run:
    """What the points need of a trainer and its module; each step changes the weights and the optimizer's state."""

    def __init__(self) -> None:
        self.module = Regression()
        optimizer = torch.optim.Adam(self.module.parameters(), lr=0.1)
        self.trainer: Any = SimpleNamespace(
            optimizers=[optimizer], callbacks=[], precision_plugin=Precision(), global_step=0
        )

    @property
    def step(self) -> int:
        """Steps done."""
        return self.trainer.global_step

    def train(self) -> None:
        """One step with a gradient of its own."""
        (optimizer,) = self.trainer.optimizers
        for parameter in self.module.parameters():
            parameter.grad = torch.full_like(parameter, 1.0 + self.step)
        optimizer.step()
        self.trainer.global_step += 1

    def everything(self) -> Any:
        """A copy of all that a return has to bring back."""
        (optimizer,) = self.trainer.optimizers
        return copy.deepcopy((self.module.state_dict(), optimizer.state_dict()["state"]))


class Twin:
    """The same with one whole copy for every step that was kept, and the rules written down one by one."""

    def __init__(self, everything: Any) -> None:
        self.copies: dict[int, Any] = {0: everything}
        self.kept = [0]
        self.has_newest = False
        self.left: tuple[int, Any] | None = None
        self.last = 0

    def keep(self, step: int, everything: Any) -> None:
        """A copy is made where the last one, or the last return, is so many steps ago; what was left is gone then."""
        if step - self.last >= INTERVAL:
            self.copies[step] = everything
            self.kept.append(step)
            self.has_newest = True
            self.last, self.left = step, None

    def bring_back(self, step: int, everything: Any) -> tuple[int, Any]:
        """To the copy before the newest one, which is forgotten; to the same one again where there is none newer."""
        if self.has_newest:
            self.kept.pop()
            self.has_newest = False
        self.left, self.last = (step, everything), step
        # A copy that a run has gone back to stays the proved one until two newer ones were made.
        return self.kept[-1], self.copies[self.kept[-1]]

    def take_back(self) -> Any:
        """To what was left behind by the last return; nothing where it is gone."""
        left, self.left = self.left, None
        return left[1] if left is not None else None


def same(one: Any, other: Any) -> bool:
    """Whether weights and optimizer state are the same bit for bit."""
    (weights, state), (other_weights, other_state) = one, other
    return (
        all(torch.equal(weights[name], other_weights[name]) for name in weights)
        and state.keys() == other_state.keys()
        and all(torch.equal(state[key][name], other_state[key][name]) for key in state for name in state[key])
    )


def resumed(points: RollbackPoints, run: Run) -> RollbackPoints:
    """The points after a checkpoint was written and read."""
    buffer = io.BytesIO()
    torch.save(points.state_dict(), buffer)
    buffer.seek(0)
    again = RollbackPoints("host")
    again.begin(run.trainer, run.module, torch.load(buffer, weights_only=True))
    return again


def trained(*told: str) -> list[str]:
    """What a run is told, with enough steps before each word that a copy is due."""
    return [word for each in told for word in ("train",) * INTERVAL + (each,)]


@settings(max_examples=100)
@given(st.lists(st.sampled_from(["train", "train", "train", "keep", "keep", "bring_back", "take_back", "save"])))
@example(trained("keep", "keep", "bring_back"))
@example(trained("keep", "keep", "keep", "bring_back"))
@example(trained("keep", "bring_back", "keep", "keep", "bring_back"))
@example(trained("keep", "bring_back", "keep", "bring_back"))
@example(trained("keep", "bring_back", "save", "take_back"))
@example([*trained("keep", "keep"), "bring_back", "bring_back"])
@example(trained("bring_back", "keep", "take_back"))
@example([*trained("keep"), "save", "train", *("keep", "bring_back")])
def test_every_return_is_that_of_a_twin_that_keeps_everything(told: list[str]) -> None:
    """In whatever order it is told to keep, to go back, and to take that back, with checkpoints anywhere."""
    run, points = Run(), RollbackPoints("host")
    points.begin(run.trainer, run.module, None)
    twin = Twin(run.everything())
    for what in told:
        before = run.everything()
        if what == "train":
            run.train()
        elif what == "keep":
            points.keep(run.trainer, run.module, interval_steps=INTERVAL)
            twin.keep(run.step, before)
        elif what == "bring_back":
            step, expected = twin.bring_back(run.step, before)
            assert points.bring_back(run.trainer, run.module) == step
            assert same(run.everything(), expected)
        elif what == "take_back":
            points.take_back(run.trainer, run.module)
            left = twin.take_back()
            assert same(run.everything(), before if left is None else left)
        else:
            points = resumed(points, run)


def test_without_a_place_there_is_nothing_to_go_back_to() -> None:
    """No copy is made, told of, or saved."""
    run, points = Run(), RollbackPoints("none")
    assert points.begin(run.trainer, run.module, None) is None
    run.train()
    points.keep(run.trainer, run.module, interval_steps=1)
    assert not points.available
    assert points.state_dict() == {}
    assert points._proved.nbytes == points._newest.nbytes == 0


@pytest.mark.parametrize("place", ["host", "device"])
def test_the_user_is_told_what_memory_it_takes_and_where(place: Any) -> None:
    """Twice the weights, before the optimizer has a state."""
    run = Run()
    told = RollbackPoints(place).begin(run.trainer, run.module, None)
    assert told is not None
    assert f"2 x 0.0 MB on the {place}" in told

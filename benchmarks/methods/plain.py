"""What every other method is compared with, and what that comparison shows where there is no difference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from torch.nn import Parameter
from torch.optim import Optimizer

from benchmarks.methods.method import Method, RunSetup, Study, users_optimizer

__all__ = ["NOISE", "PLAIN"]

NOISE_RATE = 1.01
"""Too little to matter, enough for every weight to be another one."""

PLAIN = Method(
    name="plain",
    source="Lightning with the user's optimizer: no clipping, a constant learning rate",
    studies=frozenset(Study),
)


def _a_little_faster(parameters: Iterable[Parameter], setup: RunSetup) -> Optimizer:
    return users_optimizer(parameters, replace(setup, rate=NOISE_RATE * setup.rate))


NOISE = Method(
    name="plain, rate +1 %",
    source="noise control: plain Lightning once more, at a rate 1 % higher; what it rescues and harms is chance",
    studies=frozenset(Study),
    optimizer=_a_little_faster,
)

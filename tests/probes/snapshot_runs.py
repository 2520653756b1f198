"""Small runs to take snapshots of."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_automations.probes.snapshot import SnapshotParts

OPTIMIZERS: dict[str, Callable[[Any], Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.1, amsgrad=True),
    "adamw fused": lambda parameters: torch.optim.AdamW(parameters, lr=0.1, fused=True),
    "adamw foreach": lambda parameters: torch.optim.AdamW(parameters, lr=0.1, foreach=True),
    "rmsprop": lambda parameters: torch.optim.RMSprop(parameters, lr=0.1, momentum=0.5),
    "adagrad": lambda parameters: torch.optim.Adagrad(parameters, lr=0.1),
    "lbfgs": lambda parameters: torch.optim.LBFGS(parameters, lr=0.1, max_iter=3, history_size=4),
    "adafactor": lambda parameters: torch.optim.Adafactor(parameters, lr=0.1),
}


class Net(nn.Module):
    """Two layers with batch normalization, a frozen layer, tied weights, and buffers of all kinds."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.first = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.first.weight
        self.register_buffer("hidden", torch.zeros(3), persistent=False)
        self.register_buffer("late", None)
        self.register_buffer("expanded", torch.ones(1).expand(5))

    def forward(self, inputs: Tensor) -> Tensor:
        self.hidden += 1
        result: Tensor = self.tied(torch.tanh(self.norm(self.first(self.frozen(inputs)))))
        return result


def train(module: nn.Module, optimizer: Optimizer, *, first: int, steps: int) -> None:
    """Some steps, each with the data of its number."""
    kind = next(module.parameters()).dtype
    for step in range(first, first + steps):
        inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(step)).to(kind)

        def closure(inputs: Tensor = inputs) -> Tensor:
            optimizer.zero_grad()
            loss = (module(inputs) - inputs).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)  # type: ignore[arg-type]


def assert_same(one: Any, other: Any) -> None:
    """The same types and the same bits, however nested."""
    assert type(one) is type(other)
    if isinstance(one, Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one.detach().contiguous().view(-1), other.detach().contiguous().view(-1))
    elif isinstance(one, dict):
        assert set(one) == set(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    else:
        assert one == other


def everything(module: nn.Module, optimizer: Optimizer) -> list[Any]:
    """Parameters, buffers and optimizer state, those without a parameter left out."""
    return [
        dict(module.named_parameters()),
        dict(module.named_buffers()),
        optimizer.state_dict()["state"],
    ]


def started(kind: str = "momentum", *, steps: int = 3) -> tuple[Net, Optimizer, SnapshotParts]:
    """A run after some steps."""
    module = Net()
    optimizer = OPTIMIZERS[kind](p for p in module.parameters() if p.requires_grad)
    train(module, optimizer, first=0, steps=steps)
    return module, optimizer, SnapshotParts([module], [optimizer])


def twin_of(module: Net, optimizer: Optimizer, kind: str) -> tuple[Net, Optimizer]:
    """A copy of a run. A copied LBFGS cannot step, so the optimizer is a new one with copied state."""
    twin, state = copy.deepcopy((module, dict(optimizer.state)))
    twin_optimizer = OPTIMIZERS[kind](p for p in twin.parameters() if p.requires_grad)
    twin_optimizer.state.update(state)
    return twin, twin_optimizer

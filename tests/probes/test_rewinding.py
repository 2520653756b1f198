"""What a step changes is put back as it was."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchmetrics import CatMetric, MeanMetric, MeanSquaredError, MetricCollection

from lightning_automations.probes.rewinding import (
    SMALL_BUFFER,
    GradientsAside,
    GradientsKept,
    ModuleBuffers,
    ModuleMetrics,
    RandomStates,
)


def draw() -> tuple[float, float, float]:
    """One number from each generator."""
    return float(torch.rand(())), random.random(), float(np.random.rand())


def test_random_generators_go_on_from_where_they_were() -> None:
    """torch, Python and NumPy draw the same numbers again."""
    states = RandomStates(torch.device("cpu"))
    first = draw()
    states.put_back()
    assert draw() == first


def test_numpy_is_left_alone_where_it_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody draws from a generator that was never imported."""
    monkeypatch.delitem(__import__("sys").modules, "numpy.random")
    states = RandomStates(torch.device("cpu"))
    first = float(torch.rand(()))
    states.put_back()
    assert float(torch.rand(())) == first


def test_the_generator_of_the_device_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the device's own module."""

    class Device:
        state = 1

        def get_rng_state(self) -> int:
            return self.state

        def set_rng_state(self, state: int) -> None:
            self.state = state

    device = Device()
    monkeypatch.setattr(torch, "get_device_module", lambda _: device)
    states = RandomStates(torch.device("cuda"))
    device.state = 2
    states.put_back()
    assert device.state == 1


class Buffers(nn.Module):
    """Batch normalization, a large mask, an expanded buffer, one that may be replaced and one that is None."""

    def __init__(self, *, replaces: bool = True) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("mask", torch.zeros(SMALL_BUFFER + 1))
        self.register_buffer("positions", torch.arange(3).expand(4, 3))
        self.register_buffer("replaced", torch.zeros(2))
        self.register_buffer("absent", None)
        self.replaces = replaces
        self.mask: Tensor
        self.replaced: Tensor

    def step(self) -> None:
        """What a training step may do."""
        self.norm(torch.randn(8, 3))
        self.mask += 1
        if self.replaces:
            self.replaced = self.replaced + 1


def contents(module: nn.Module) -> list[Tensor]:
    """Copies of all buffers."""
    return [buffer.clone() for buffer in module.buffers()]


def same(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    """Whether two lists of tensors are equal to the bit."""
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("replaces", [False, True])
def test_buffers_are_put_back_step_after_step(replaces: bool) -> None:
    """Batch normalization does not raise a version counter, a mask does, a replaced buffer is another object."""
    module = Buffers(replaces=replaces)
    buffers = ModuleBuffers(module)
    for _ in range(3):
        buffers.keep()
        before, norm = contents(module), module.norm.running_mean
        module.step()
        assert not same(contents(module), before)
        buffers.put_back()
        assert same(contents(module), before)
        assert module.norm.running_mean is norm
        module.step()  # this one counts


def test_a_buffer_that_a_failed_step_took_away_comes_back() -> None:
    """None is a value too."""
    module = Buffers()
    buffers = ModuleBuffers(module)
    buffers.keep()
    module.replaced = None  # type: ignore[assignment]
    buffers.put_back()
    assert torch.equal(module.replaced, torch.zeros(2))


def test_a_module_without_buffers_has_nothing_put_back() -> None:
    """Parameters are none of its business: what a step did to them stays."""
    module = nn.Linear(2, 2)
    buffers = ModuleBuffers(module)
    buffers.keep()
    with torch.no_grad():
        module.weight.fill_(7.0)
    buffers.put_back()
    assert torch.equal(module.weight, torch.full((2, 2), 7.0))


class Metrics(nn.Module):
    """Metrics of sums and of lists, alone and sharing a state."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = MeanMetric()
        self.all = CatMetric()
        self.untouched = MeanMetric()
        self.group = MetricCollection({"a": MeanSquaredError(), "b": MeanSquaredError(squared=False)})

    def step(self, value: float) -> None:
        """What a training step may do."""
        self.mean.update(value)
        self.all.update(value)
        self.group.update(torch.tensor([value]), torch.tensor([0.0]))

    def results(self) -> list[float]:
        """What the metrics say."""
        group = self.group.compute()
        return [float(self.mean.compute()), float(self.all.compute().sum()), float(group["a"]), float(group["b"])]


def test_metrics_forget_a_failed_step() -> None:
    """Those that held something hold it again, in the same places; those that held nothing hold nothing."""
    module, reference = Metrics(), Metrics()
    kept = ModuleMetrics(module)
    for value in (1.0, 2.0, 5.0):
        kept.keep()
        module.step(100.0)
        kept.put_back()
        module.step(value)
        reference.step(value)
        assert module.results() == pytest.approx(reference.results())
    assert module.mean.update_count == reference.mean.update_count == 3
    assert not module.untouched.update_called


def test_gradients_set_aside_are_added_to_the_fresh_ones() -> None:
    """Bit-identical to what autograd would have accumulated; also a sparse gradient, and parameters without one."""
    torch.manual_seed(0)
    layer, embedding, unused = nn.Linear(3, 3), nn.Embedding(5, 3, sparse=True), nn.Parameter(torch.zeros(2))

    def backward(seed: int) -> None:
        torch.manual_seed(seed)
        layer(torch.randn(4, 3) + embedding(torch.randint(0, 5, (4,)))).square().sum().backward()

    parameters = [*layer.parameters(), *embedding.parameters(), unused]
    for seed in (1, 2, 3):
        backward(seed)
    expected = [None if item.grad is None else item.grad.to_dense().clone() for item in parameters]
    for item in parameters:
        item.grad = None

    gradients = GradientsAside(parameters)
    for seed in (1, 2, 3):
        gradients.take()
        assert all(item.grad is None for item in parameters)
        backward(seed)
        gradients.merge()
    for item, value in zip(parameters, expected, strict=True):
        assert (item.grad is None) == (value is None)
        assert value is None or item.grad is None or torch.equal(item.grad.to_dense(), value)


def test_a_failed_backward_pass_leaves_the_gradients_of_before() -> None:
    """The same objects with the same values; what was written since is gone, also where nothing was before."""
    first, second = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    first.sum().backward()
    before = first.grad
    gradients = GradientsAside([first, second])
    gradients.take()
    (first.sum() * 5 + second.sum()).backward()
    gradients.put_back()
    assert first.grad is before
    assert torch.equal(first.grad, torch.ones(2))  # type: ignore[arg-type]
    assert second.grad is None


def test_gradients_that_get_nothing_fresh_stay() -> None:
    """A parameter that this batch does not use keeps what it had."""
    parameter = nn.Parameter(torch.ones(2))
    parameter.sum().backward()
    gradients = GradientsAside([parameter])
    gradients.take()
    gradients.merge()
    assert parameter.grad is not None
    assert torch.equal(parameter.grad, torch.ones(2))


def test_gradients_that_stay_in_place_are_put_back_from_copies() -> None:
    """The same objects with the same values, also sparse ones; what was not there is gone again."""
    torch.manual_seed(0)
    layer, embedding = nn.Linear(3, 3), nn.Embedding(5, 3, sparse=True)

    def backward() -> None:
        layer(torch.randn(4, 3) + embedding(torch.randint(0, 5, (4,)))).square().sum().backward()

    for parameters in (list(layer.parameters()), [*layer.parameters(), *embedding.parameters()]):
        layer.zero_grad()
        embedding.zero_grad()
        gradients = GradientsKept(parameters)
        gradients.take()  # nothing is there yet
        backward()
        gradients.put_back()
        assert all(item.grad is None for item in parameters)

        backward()
        before = [item.grad for item in parameters]
        expected = [item.grad.to_dense().clone() for item in parameters]  # type: ignore[union-attr]
        gradients.take()
        backward()
        gradients.put_back()
        for item, gradient, value in zip(parameters, before, expected, strict=True):
            assert item.grad is gradient
            assert torch.equal(item.grad.to_dense(), value)  # type: ignore[union-attr]


def test_gradients_that_stay_in_place_add_up_as_autograd_does() -> None:
    """A pass that ends well has nothing to merge, and nothing to go back to."""
    parameter = nn.Parameter(torch.ones(2))
    gradients = GradientsKept([parameter])
    for _ in range(3):
        gradients.take()
        parameter.sum().backward()
        gradients.merge()
    assert torch.equal(parameter.grad, torch.full((2,), 3.0))  # type: ignore[arg-type]
    gradients.put_back()
    assert parameter.grad is None

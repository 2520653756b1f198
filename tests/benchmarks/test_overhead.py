"""The overhead bench: what it counts is what there is, once."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import Callback
from torch import Tensor, nn

from benchmarks.overhead import __main__ as command
from benchmarks.overhead import bar_percent, measure, measuring, section, workload
from benchmarks.overhead.entry_points import Border, border, overridden_hooks, own_seconds, uncounted
from benchmarks.overhead.intervals import median_interval
from benchmarks.overhead.measuring import Effort, reads_per_step
from benchmarks.overhead.memory import deep_size, memory_after
from benchmarks.overhead.reads import counted_reads
from benchmarks.overhead.stopwatch import Stopwatch
from benchmarks.overhead.workload import ValidatedNetwork, Workload, automations, calibrated
from lightning_automations import IntelligentLearningRateScheduler

SMALL = Workload(layers=2, width=4, samples=2)
STEPS = 20


class Clock:
    """Time that passes when somebody says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def ours() -> Border:
    """The border of the four automations."""
    return border(automations)


# Time inside our functions --------------------------------------------------------------------------------------------


def test_stopwatch_leaves_lightnings_time_out() -> None:
    """Time goes to the innermost function that is known, and none to Lightning's."""
    clock = Clock()
    watch = Stopwatch(clock)

    def spend(seconds: float) -> None:
        clock.now += seconds

    back = watch.ours(lambda: spend(4.0), "called back")
    theirs = watch.lightnings(lambda: (spend(100.0), back()))
    watch.ours(lambda: (spend(1.0), theirs(), spend(2.0)), "hook")()

    assert watch.seconds == {"hook": 3.0, "called back": 4.0}
    assert watch.calls == {"hook": 1, "called back": 1}
    assert not watch.runs


def test_time_inside_a_hook_is_counted_per_step() -> None:
    """A hook that takes a quarter of a second in each step costs that much per step, warm-up and start left out."""
    clock = Clock()

    class Slow(Callback):
        def on_train_start(self, *_: Any) -> None:
            clock.now += 50.0

        def on_before_zero_grad(self, *_: Any) -> None:
            clock.now += 0.25

    slow = Slow()
    at = Border(tuple(overridden_hooks(slow)), ())

    found = own_seconds([slow], SMALL, at, steps=STEPS, watch=Stopwatch(clock))

    assert found == {"on_before_zero_grad": 0.25}


def test_every_overridden_hook_is_found() -> None:
    """A hook counts as soon as a class between ours and Lightning's overrides it; an empty callback has none."""

    class Base(Callback):
        def on_after_backward(self, *_: Any) -> None: ...

    class Newer(Base):
        def on_before_backward(self, *_: Any) -> None: ...

    assert {str(home).rsplit(".", 1)[-1] for home in overridden_hooks(Newer())} == {
        "on_after_backward",
        "on_before_backward",
    }
    assert overridden_hooks(Callback()) == []


def test_nothing_of_ours_runs_uncounted(ours: Border) -> None:
    """Whatever Lightning calls of ours in a step is on the list, closures and held-back hooks too."""
    names = set(map(str, ours.entries))

    assert {"AutomationCallback.on_train_batch_end", "SplittingClosure.__call__"} <= names
    assert "Survival._hold_back_hooks.post_backward" in names
    assert uncounted(automations(), ours) == []


def test_what_lightning_would_have_called_itself_is_left_out(ours: Border) -> None:
    """Forward, backward and zero_grad run inside our closure, and are not our time."""
    left_out = set(map(str, ours.left_out))

    assert {"Closure.closure", "Precision.post_backward", "_AutomaticOptimization._make_closure"} <= left_out
    assert not [name for name in left_out if "global_step" in name]


@pytest.mark.parametrize("missing", ["AdaptiveGradientClipping.on_before_optimizer_step", "SplittingClosure.__call__"])
def test_an_entry_that_is_not_counted_is_told(ours: Border, missing: str) -> None:
    """The check of completeness sees what the list lacks."""
    kept = tuple(home for home in ours.entries if str(home) != missing)

    assert missing in uncounted(automations(), Border(kept, ours.left_out))


def test_wrapped_scheduler_is_counted() -> None:
    """With a factor on the rate, a scheduler's step runs through our writer: that is ours, the step itself is not."""

    class Scheduled(ValidatedNetwork):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.01)
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    class Halved(IntelligentLearningRateScheduler):
        def begin(self, trainer: Any, pl_module: Any) -> None:
            super().begin(trainer, pl_module)
            self.session.rate.set_factor("test", 0.5)

    found = border(lambda: [Halved(journal=False)], network=Scheduled)

    assert "rate._wrapped_class.step" in set(map(str, found.entries))
    assert "LRScheduler.step" in set(map(str, found.left_out))
    assert uncounted([Halved(journal=False)], found, network=Scheduled) == []


# Blocking reads -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "read",
    [
        lambda one: one.item(),
        lambda one: one.tolist(),
        lambda one: bool(one > 0),
        lambda one: float(one),
        lambda one: int(one),
        lambda one: "abc"[one.long()],
        lambda one: one.cpu(),
        lambda one: one.to("cpu"),
        lambda one: one.to(device="cpu"),
        lambda one: one.numpy(),
        lambda one: np.asarray(one),
        lambda one: torch.equal(one, one),
        lambda one: one.reshape(1).nonzero(),
        lambda one: f"{one:.1f}",
    ],
)
def test_each_read_is_counted_once(read: Callable[[Tensor], Any]) -> None:
    """Every way to a number on the host is seen by one of the two nets, and not by both."""
    with counted_reads() as counter:
        read(torch.tensor(1.0))

    assert counter.counts.total() == 1


@pytest.mark.parametrize(
    "act",
    [
        lambda one: one.to(torch.float64),
        lambda one: one.to(one.device),
        lambda one: one.to(one),
        lambda one: one.to("cpu", non_blocking=True),
        lambda one: one.to("meta"),
        lambda one: torch.where(one > 0, one, -one).detach(),
        lambda one: one.clone().copy_(one),
    ],
)
def test_what_cannot_block_is_not_counted(act: Callable[[Tensor], Any]) -> None:
    """Another type, the same device, or a copy that nobody waits for."""
    with counted_reads() as counter:
        act(torch.tensor(1.0))

    assert counter.counts.total() == 0


def test_tensors_are_left_as_they_were() -> None:
    """After counting, no method of a tensor is patched any more."""
    before = {name: getattr(Tensor, name) for name in ("item", "to", "cpu", "__bool__", "__array__")}
    with counted_reads() as counter:
        pass
    torch.tensor(1.0).item()

    assert {name: getattr(Tensor, name) for name in before} == before
    assert counter.counts.total() == 0


def test_a_callback_that_reads_costs_one_read_per_step() -> None:
    """Lightning's and the optimizer's own reads are the same with an empty callback; one ``item`` a step adds one."""

    class Reads(Callback):
        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            next(pl_module.parameters()).sum().item()

    plain = reads_per_step([], SMALL, steps=STEPS)
    reading = reads_per_step([Reads()], SMALL, steps=STEPS)

    assert reads_per_step([Callback()], SMALL, steps=STEPS) == plain
    assert reading["item"] - plain["item"] == 1.0


def test_automations_read_one_flag_per_step() -> None:
    """The norm, which is the flag of the skip, is the only read of every step; the losses of a period come in one."""
    plain = reads_per_step([], SMALL, steps=STEPS)
    ours = reads_per_step(automations(), SMALL, steps=STEPS)
    above = {name: count - plain.get(name, 0.0) for name, count in ours.items() if count != plain.get(name)}

    assert above == {"item": 1.0, "tolist": pytest.approx(0.1)}


# Ratios, memory, calibration ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "low", "high", "coverage"),
    [(5, 1, 5, 0.9375), (6, 1, 6, 0.96875), (12, 3, 10, 0.96143), (20, 6, 15, 0.95861)],
)
def test_interval_is_that_of_the_sign_test(count: int, low: int, high: int, coverage: float) -> None:
    """Ranks as in the tables of the sign test; fewer than six values have no interval of 95 %."""
    found = median_interval([float(rank) for rank in range(count, 0, -1)])

    assert (found.low, found.high) == (low, high)
    assert found.coverage == pytest.approx(coverage, abs=1e-5)


@given(st.lists(st.floats(0.5, 2.0), min_size=1, max_size=60))
def test_interval_holds_the_median(values: list[float]) -> None:
    """Whatever the values are, the median lies inside."""
    found = median_interval(values)

    assert min(values) <= found.low <= found.median <= found.high <= max(values)


def test_what_is_held_is_measured_once() -> None:
    """Elements of tensors count, what is held twice counts once, modules belong to others."""
    big = torch.zeros(1000)

    class Holder:
        def __init__(self, *held: Any) -> None:
            self.held = held

    empty = deep_size([Holder()])

    assert 4000 < deep_size([Holder(big, big)]) - empty < 4500
    assert deep_size([Holder(nn.Linear(100, 100))]) - empty < 100
    assert deep_size([Holder([0.5 + place for place in range(100)])]) - empty > 2400


def test_memory_is_measured_on_the_way() -> None:
    """One run gives a row for each mark, with the state as a checkpoint would hold it."""
    rows = memory_after([200, 400])

    assert [row["steps"] for row in rows] == [200, 400]
    assert all(row["bytes"] > row["saved_bytes"] > 1000 for row in rows)


@pytest.mark.parametrize("target", [0.002, 0.02, 0.1])
def test_width_is_found_for_a_length_of_step(monkeypatch: pytest.MonkeyPatch, target: float) -> None:
    """Whatever the machine, a constant and a square of the width are hit within a tenth."""

    def seconds(width: int) -> float:
        return 0.0005 + 1e-6 * width**1.9

    monkeypatch.setattr(workload, "train", lambda tried, *_, **__: seconds(tried.width))

    found = calibrated(Workload(layers=50, width=96, samples=8), seconds=target, steps=4)

    assert seconds(found.width) == pytest.approx(target, rel=0.1)


# What is told ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    """A whole measurement, of a network that is small and stays so."""
    short = Effort(
        step_ms=(20,), pairs=1, pair_seconds=0.2, rounds=1, direct_seconds=0.2, split_seconds=0.2, small_steps=10,
        memory_after=(150, 300), clipping_tensors=(4,), clipping_pairs=1, clipping_seconds=0.02,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(measuring, "QUICK", short)
        patched.setattr(measuring, "calibrated", lambda *_, **__: SMALL)
        return measure(quick=True)


def test_measurement_goes_through_json_into_a_section(measured: dict[str, Any]) -> None:
    """Every figure of a real measurement survives JSON and finds its place."""
    text = section(json.loads(json.dumps(measured)))

    assert text == section(measured)
    assert f"{bar_percent(measured):.2f} %" in text
    assert "`adaptive_gradient_clipping`" in text
    assert "| 300 |" in text
    assert "| 4 | exact, fused optimizer |" in text
    assert "Not counted" not in text
    assert measured["steps"][0]["inside_us"] > 0
    assert measured["steps"][0]["clipping_us"] > 0
    assert measured["steps"][0]["reads"]["above_plain"] == pytest.approx(1.1)


@pytest.mark.parametrize(("percent", "verdict", "status"), [(0.99, "held", 0), (1.0, "missed", 1)])
def test_bar_is_judged_by_the_figure(
    measured: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    percent: float,
    verdict: str,
    status: int,
) -> None:
    """The sentence follows the figure; the exit status does so only when asked."""
    row = {**measured["steps"][0], "percent": percent}
    monkeypatch.setattr(command, "measure", lambda **_: {**measured, "steps": [row]})

    assert command.main([]) == 0
    assert f"20 ms is {verdict}" in capsys.readouterr().out
    assert command.main(["--check"]) == status


def test_quick_and_full_exclude_each_other() -> None:
    """One measurement has one effort."""
    with pytest.raises(ValueError, match="quick or full") as raised:
        measure(quick=True, full=True)
    assert str(raised.value) == "expected quick or full, got both"

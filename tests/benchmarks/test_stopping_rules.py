import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.stopping.curve import Validation
from benchmarks.stopping.libraries import lightning_rule
from benchmarks.stopping.ours import block, our_rule
from benchmarks.stopping.published import AdaptivePatience, GeneralizationLoss, ProgressQuotient, SuccessiveRises
from benchmarks.stopping.rules import RULES, Rule, stop_of
from lightning_automations.core.settings import RunLength
from tests.benchmarks.stopping_curves import made_up_curve

LOSSES = st.lists(st.sampled_from([0.5, 0.8, 0.9, 1.0, 1.04, 1.1, 1.5]), min_size=1, max_size=40)


def first(stops: Callable[[Validation], bool], losses: Sequence[float], training: Sequence[float] = ()) -> int | None:
    """Index of the loss at which a rule stops."""
    curve = made_up_curve(losses, training_losses=training or None)
    return next((index for index, now in enumerate(curve.validations()) if stops(now)), None)


def earliest(condition: Callable[[int], bool], count: int) -> int | None:
    """The first index that meets a condition, for the slow twins below."""
    return next((index for index in range(count) if condition(index)), None)


# By hand --------------------------------------------------------------------------------------------------------------


def test_generalization_loss_is_taken_from_the_lowest_loss() -> None:
    """0.839 is 4.9 % above 0.8 and goes on, 0.841 is 5.1 % above it and stops."""
    assert first(GeneralizationLoss(5), [1.0, 0.8, 0.839, 0.841]) == 3
    assert first(GeneralizationLoss(5), [1.0, 0.8, 0.839, 0.839]) is None


@pytest.mark.parametrize(("last", "stopped"), [(1.44, None), (1.45, 4)])
def test_the_quotient_holds_loss_against_progress(last: float, stopped: int | None) -> None:
    """Training losses 1, 1, 1, 1, 0.9: progress 88.9, so that PQ0.5 stops at a generalization loss above 44.4."""
    training = [1.0, 1.0, 1.0, 1.0, 0.9]
    assert first(ProgressQuotient(0.5), [1.0, 1.0, 1.0, 1.0, last], training) == stopped


def test_a_strip_without_progress_stops_what_is_above_its_lowest() -> None:
    """The quotient is infinite there, and 0 at the lowest itself."""
    assert first(ProgressQuotient(0.5), [1.0, 1.0, 1.0, 1.0, 1.01]) == 4
    assert first(ProgressQuotient(0.5), [1.0] * 10) is None


def test_rises_are_counted_from_strip_end_to_strip_end() -> None:
    """Losses at the ends of strips: 1, 1.1, 1.2, 1.3; what lies between them does not matter."""
    ends = [1.0, 1.1, 1.2, 1.3]
    losses = [value for end in ends for value in (0.2, 3.0, 0.1, 2.0, end)]
    assert first(SuccessiveRises(2), losses) == 14
    assert first(SuccessiveRises(3), losses) == 19
    assert first(SuccessiveRises(4), losses) is None


def test_a_fall_starts_the_count_of_rises_anew() -> None:
    """Two rises, a fall, two rises: never three in a row."""
    ends = [1.0, 1.1, 1.2, 1.1, 1.2, 1.3]
    assert first(SuccessiveRises(3), [end for end in ends for _ in range(5)]) is None


def test_adaptive_patience_grows_with_the_best_round() -> None:
    """Best in round 0: ten rounds; best in round 20: sixteen."""
    assert first(AdaptivePatience(), [1.0] * 40) == 10
    assert first(AdaptivePatience(), [1.0 - 0.01 * min(index, 20) for index in range(60)]) == 36


def test_lightning_is_asked_itself() -> None:
    """Patience 3 as shipped: three losses without a new best. And it stops at the first NaN."""
    assert first(lightning_rule(), [1.0, 0.9, 0.9, 0.95, 0.8, 0.8, 0.8, 0.8]) == 7
    assert first(lightning_rule(patience=2), [1.0, 0.9, 0.9, 0.95, 0.8]) == 3
    assert first(lightning_rule(), [1.0, math.nan, 0.5]) == 1


# Slow twins, from the definitions -------------------------------------------------------------------------------------


@given(losses=LOSSES)
def test_generalization_loss_is_its_definition(losses: list[float]) -> None:
    """100 (E / min E - 1), Prechelt's definition."""
    twin = earliest(lambda t: 100 * (losses[t] / min(losses[: t + 1]) - 1) > 5, len(losses))
    assert first(GeneralizationLoss(5), losses) == twin


@given(losses=LOSSES, training=st.lists(st.sampled_from([0.5, 0.9, 1.0, 1.2]), min_size=40, max_size=40))
def test_the_quotient_is_its_definition(losses: list[float], training: list[float]) -> None:
    """GL over progress at the end of each strip, infinite where there is no progress."""

    def stops(t: int) -> bool:
        if (t + 1) % 5:
            return False
        strip = training[t - 4 : t + 1]
        progress = 1000 * (sum(strip) / (5 * min(strip)) - 1)
        loss = 100 * (losses[t] / min(losses[: t + 1]) - 1)
        return loss > 0 if progress == 0 else loss / progress > 0.5

    assert first(ProgressQuotient(0.5), losses, training[: len(losses)]) == earliest(stops, len(losses))


@given(losses=LOSSES, rises=st.integers(min_value=1, max_value=4))
def test_successive_rises_are_their_recursion(losses: list[float], rises: int) -> None:
    """UP_s stops at t if UP_(s-1) does a strip before and the loss is higher than there."""

    def rose(s: int, t: int) -> bool:
        if t < 5 or (t + 1) % 5 or losses[t] <= losses[t - 5]:
            return False
        return s == 1 or rose(s - 1, t - 5)

    assert first(SuccessiveRises(rises), losses) == earliest(lambda t: rose(rises, t), len(losses))


@given(losses=LOSSES)
def test_adaptive_patience_is_its_definition(losses: list[float]) -> None:
    """So many rounds since the first occurrence of the lowest."""

    def stops(t: int) -> bool:
        best = losses.index(min(losses[: t + 1]))
        return t - best >= round(0.3 * best + 10)

    assert first(AdaptivePatience(), losses) == earliest(stops, len(losses))


# The table ------------------------------------------------------------------------------------------------------------


def test_every_rule_is_started_anew_for_each_run() -> None:
    """A replay does not depend on what was replayed before."""
    curve = made_up_curve([1.0, 0.9, *[0.95] * 58])
    for rule in RULES:
        if rule.package is None:
            assert stop_of(rule, curve) == stop_of(rule, curve)


def test_names_of_rules_are_unique() -> None:
    """They are the keys of the tables."""
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_a_rule_whose_package_is_absent_is_known_as_such() -> None:
    """The table can be read where no peer is installed."""
    rule = Rule(name="a peer", source="", start=RULES[0].start, package="a_package_that_nobody_has")
    assert not rule.is_installed
    assert replace(rule, package="torch").is_installed
    assert RULES[0].is_installed


# Ours -----------------------------------------------------------------------------------------------------------------


def rule_named(name: str) -> Rule:
    """The rule of this name."""
    return next(rule for rule in RULES if rule.name == name)


def test_our_defaults_are_fitted_to_the_length_that_is_known() -> None:
    """400 steps: the patience is 120 and would end at 159; before that, twelve equal judgements have converged."""
    curve = made_up_curve([1.0, 0.9, 0.8, *[0.85] * 37])
    stop = stop_of(rule_named("ours, defaults"), curve)
    assert stop is not None
    assert curve.validations()[stop].step == 150


def test_the_seeds_block_holds_as_it_is_written() -> None:
    """Its 1000 epochs and 5000 steps are not shortened: it stops no short run, and this one after 1000 epochs."""
    rule = rule_named("ours, seed's block")
    assert stop_of(rule, made_up_curve([1.0] * 400)) is None
    long = replace(made_up_curve([1.0] * 2100))
    stop = stop_of(rule, long)
    assert stop is not None
    assert long.validations()[stop].epochs_done == 1000


def test_our_blocks_watch_the_validation_loss_and_nothing_else_is_changed() -> None:
    """The seed's block names val/psnr, which few tasks log; the defaults are empty."""
    assert block("defaults") == {"monitor_metric": "val/loss"}
    assert block("seed's block")["monitor_metric"] == "val/loss"
    assert block("seed's block")["max_no_improvement"] == 2000


def test_our_rule_sees_planned_drops_of_the_rate() -> None:
    """A drop half-way through the wait lets it start anew."""
    written = {"patience": 80, "max_no_improvement": 80, "min_epochs": 0, "min_iterations": 0, "warmup_iterations": 0}
    flat, run = [1.0] * 30, RunLength()
    curve = made_up_curve(flat, rates=[0.1] * 5 + [0.01] * 25)
    stops = our_rule(written, run)
    assert first(our_rule(written, run), flat) == 8
    assert next(index for index, now in enumerate(curve.validations()) if stops(now)) == 5 + 8

"""The decision at which norm gradients are clipped."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_automations.core.errors import ConfigError
from lightning_automations.core.gradient_clipping import GradientClippingBrain, Limit, Window
from lightning_automations.core.gradient_clipping_settings import GradientClippingSettings

FIRST = 1.5
"""The reach of a threshold where norms hardly vary, in usual norms."""
BOUNDS = ("min_threshold", "max_threshold")
NORM = st.floats(min_value=0) | st.floats(min_value=0.01, max_value=100) | st.just(math.nan)
NORMS = st.lists(NORM, max_size=40)
WINDOWS = st.lists(st.tuples(st.integers(0, 1), NORMS), max_size=12)


def brain(*written: str, **settings: Any) -> GradientClippingBrain:
    """A brain with these settings; bounds count as written where they are named."""
    return GradientClippingBrain(GradientClippingSettings(**settings), written=written)


def fed(subject: GradientClippingBrain, *norms: float, **place: Any) -> Any:
    """The brain's answer to one window of norms."""
    return subject.observe(**{"step": 10, "epoch": 0, **place}, norms=norms)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"initial_threshold": 0}, "initial_threshold: expected a number above 0"),
        ({"max_threshold": math.inf}, "max_threshold: expected a number above 0"),
        ({"min_threshold": math.nan}, "min_threshold: expected a number above 0"),
        ({"min_threshold": 20}, "min_threshold: expected at most max_threshold (10.0), got 20.0"),
        ({"adjustment_factor": 1}, "adjustment_factor: expected a number above 1"),
        ({"monitoring_frequency": 0}, "monitoring_frequency: expected a whole number at least 1"),
        ({"gradient_history_size": 1}, "gradient_history_size: expected a whole number at least 2"),
        ({"method": "zclip"}, "method: expected one of 'log_quantiles'"),
        ({"skip_nonfinite": True}, "skip_nonfinite: expected one of 'exact', 'zero', 'off', False, got True"),
        ({"lost_after_steps": 0}, "lost_after_steps: expected a whole number at least 1 or null, got 0"),
        ({"fallback": {"threshold": 0}}, "fallback.threshold: expected a number above 0"),
        ({"fallback": {"treshold": 1}}, "Did you mean 'threshold'?"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    """Every range is checked where the settings are made."""
    with pytest.raises(ConfigError) as refused:
        GradientClippingSettings(**settings)
    assert message in str(refused.value)


def test_the_fallback_is_one_where_it_is_not_written() -> None:
    """An empty fallback is allowed and means the default."""
    assert GradientClippingSettings(fallback={}).fallback_threshold == 1.0
    assert GradientClippingSettings(fallback={"threshold": 3}).fallback_threshold == 3.0


def test_a_written_initial_threshold_holds_until_enough_norms_are_known() -> None:
    """Seven norms are too few for a level, the eighth is enough."""
    subject = brain("initial_threshold")
    assert fed(subject, *[2.0] * 7) is None
    assert subject.limit().threshold == 1.0
    assert subject.begins([0])
    assert fed(subject, 2.0) is not None
    assert subject.limit() == Limit(threshold=pytest.approx(2 * FIRST), usual=pytest.approx(2.0))
    assert not subject.begins([0])


@pytest.mark.parametrize(("norm", "threshold"), [(4.0, 12.0), (0.2, 1.0), (0.01, 0.3), (1e-6, 3e-5)])
def test_an_initial_threshold_that_is_not_written_comes_near_the_norms(norm: float, threshold: float) -> None:
    """Ordinary first norms are not clipped in any unit, and a spike among them is: from 3 to 30 times their median."""
    subject = brain()
    assert subject.limit().threshold == 1.0
    fed(subject, norm)
    assert subject.limit().threshold == pytest.approx(threshold)
    assert subject.limit().usual == pytest.approx(norm)


def test_written_bounds_hold_from_the_first_norm_on() -> None:
    """What is near the norms is no reason to leave them."""
    for norm, bound in ((100.0, 10.0), (1e-4, 0.1)):
        subject = brain(*BOUNDS)
        fed(subject, norm)
        assert subject.limit().threshold == bound


def test_an_outlier_among_the_first_norms_does_not_lift_the_limit() -> None:
    """Not even as the second of two."""
    subject = brain()
    fed(subject, 2.0)
    fed(subject, 2000.0)
    assert subject.limit().threshold == pytest.approx(6.0)


def test_a_short_history_is_enough_for_itself() -> None:
    """With a history of two, two norms make a level."""
    subject = brain(gradient_history_size=2)
    fed(subject, 2.0, 2.0)
    assert subject.limit().threshold == pytest.approx(2 * FIRST)


@pytest.mark.parametrize(("bounds", "held"), [({"max_threshold": 0.5}, 0.5), ({"min_threshold": 2}, 2.0), ({}, 1.0)])
def test_an_initial_threshold_that_is_not_written_is_brought_inside_the_bounds(bounds: Any, held: float) -> None:
    """The default is no reason for an error; the bounds hold."""
    assert brain(*bounds, **bounds).limit().threshold == held


@pytest.mark.parametrize("initial", [50.0, 0.001])
def test_a_written_initial_threshold_moves_a_bound_that_is_not_written(initial: float) -> None:
    """What is written holds, and the moved bound goes on to hold."""
    subject = brain("initial_threshold", initial_threshold=initial)
    assert subject.limit().threshold == initial
    fed(subject, *[initial] * 20)
    assert subject.limit().threshold == pytest.approx(FIRST * initial)


@pytest.mark.parametrize(
    ("written", "bound"),
    [
        ({"initial_threshold": 50, "max_threshold": 10.0}, "max_threshold"),
        ({"initial_threshold": 1.0, "min_threshold": 2}, "min_threshold"),
    ],
)
def test_a_written_initial_threshold_outside_of_a_written_bound_is_refused(written: Any, bound: str) -> None:
    """Both were meant, also where one is the default's value: the error names all three and the way out."""
    with pytest.raises(ConfigError) as refused:
        GradientClippingSettings.from_mapping(written)
    settings = GradientClippingSettings(**written)
    assert str(refused.value) == (
        "AdaptiveGradientClipping.initial_threshold: expected a norm from min_threshold "
        f"({settings.min_threshold}) to max_threshold ({settings.max_threshold}), got {settings.initial_threshold}. "
        f"Change initial_threshold, or leave {bound} out: then it makes room."
    )
    del written[bound]
    assert GradientClippingSettings.from_mapping(written).initial_threshold == settings.initial_threshold


def test_an_adjustment_says_what_was_seen() -> None:
    """Old and new threshold, and the usual norm behind the change."""
    adjustment = fed(brain(), *[2.0] * 8, step=30, epoch=2, optimizer=1, parameter="threshold_1")
    assert (adjustment.step, adjustment.epoch, adjustment.parameter) == (30, 2, "threshold_1")
    assert adjustment.automation == "AdaptiveGradientClipping"
    assert adjustment.old == 1.0
    assert adjustment.new == pytest.approx(2 * FIRST)
    assert adjustment.evidence == {"usual_norm": pytest.approx(2.0), "upper_norm": pytest.approx(2.0), "norms": 8}


def test_the_evidence_is_what_the_threshold_is_made_of() -> None:
    """A reader computes a threshold that was followed at once from the numbers beside it."""
    adjustment = fed(brain(), *[2.0, 2.5] * 4)
    usual, upper = adjustment.evidence["usual_norm"], adjustment.evidence["upper_norm"]
    assert (usual, upper) == (pytest.approx(2.0), pytest.approx(2.5))
    assert adjustment.new == pytest.approx(usual * (upper / usual) ** 3)


@pytest.mark.parametrize("unit", [1e-4, 1.0, 1e4])
def test_a_tail_made_of_few_norms_does_not_lift_the_threshold_out_of_reach(unit: float) -> None:
    """Norms that fall a hundredfold in eight steps scatter widely; the first threshold stays near the usual one."""
    subject = brain()
    fed(subject, *[unit * 10.0 ** (-place / 4) for place in range(8)])
    assert subject.limit().threshold == pytest.approx(3 * subject.limit().usual)


def test_a_full_history_says_how_far_above_the_usual_norm_ordinary_ones_lie() -> None:
    """Where norms scatter by nature the threshold drifts to where hardly any lies, and no farther."""
    subject, source = brain(), random.Random(0)
    for _ in range(60):
        fed(subject, *[source.lognormvariate(0, 0.6) for _ in range(10)])
    assert math.exp(3 * 0.5) < subject.limit().threshold / subject.limit().usual < 10 * (1 + 1e-9)


@pytest.mark.parametrize("kind", ["even", "normal", "heavy"])
def test_ordinary_norms_are_hardly_ever_above_the_threshold(kind: str) -> None:
    """Less than one in a hundred, whatever their distribution; heavy: like Student's t with 5 degrees of freedom."""
    subject, source = brain(), random.Random(1)
    draw = {
        "even": lambda: math.exp(source.uniform(-1, 1)),
        "normal": lambda: source.lognormvariate(0, 0.5),
        "heavy": lambda: math.exp(0.3 * source.gauss(0, 1) / math.sqrt(source.gammavariate(2.5, 2) / 5)),
    }[kind]
    above = 0
    for _ in range(1000):
        norms = [draw() for _ in range(10)]
        above += sum(norm > subject.limit().threshold for norm in norms)
        fed(subject, *norms)
    assert above < 100


def test_outliers_among_ordinary_norms_do_not_move_the_threshold() -> None:
    """One norm in twelve a thousand times too large leaves the threshold where it was."""
    subject = brain()
    fed(subject, *[2.0] * 50)
    before = subject.limit().threshold
    for _ in range(10):
        fed(subject, *[2.0] * 11, 2000.0)
    assert subject.limit().threshold == before


def test_the_threshold_drifts_by_the_adjustment_factor_at_most() -> None:
    """A level that moves inside the band is followed step by step."""
    subject = brain(gradient_history_size=8)
    fed(subject, *[1.0] * 8)
    before = subject.limit().threshold
    fed(subject, *[1.4] * 8)
    assert subject.limit().threshold == pytest.approx(1.2 * before)


def test_a_threshold_near_the_wanted_one_stays() -> None:
    """A hundred norms do not say where the threshold belongs more exactly than that."""
    subject = brain(gradient_history_size=8)
    fed(subject, *[1.0] * 8)
    before = subject.limit().threshold
    fed(subject, *[1.1] * 8)
    assert subject.limit().threshold == before


@pytest.mark.parametrize("spread", [0.1, 0.3, 0.5])
def test_the_noise_of_a_steady_run_does_not_use_up_the_budget(spread: float) -> None:
    """20,000 steps whose norms only scatter leave more than half of the 100 adjustments."""
    subject, source = brain(), random.Random(0)
    windows = ([2 * source.lognormvariate(0, spread) for _ in range(10)] for _ in range(2000))
    assert sum(fed(subject, *norms) is not None for norms in windows) < 50


@pytest.mark.parametrize("level", [5.5, 0.5, 0.125, 1e-3])
def test_eight_norms_beyond_the_band_are_a_new_level(level: float) -> None:
    """Seven in a row leave the threshold in reach of its drift; with the eighth it follows at once."""
    subject = brain()
    fed(subject, *[2.0] * 50)
    before = subject.limit().threshold
    fed(subject, *[level] * 7)
    assert abs(math.log(subject.limit().threshold / before)) <= math.log(1.2) + 1e-12
    fed(subject, level)
    assert subject.limit().threshold == pytest.approx(level * FIRST)


def test_a_level_that_comes_back_from_little_is_followed_at_once() -> None:
    """A loss that weighed a hundredth at first: norms that return to an ordinary size are not held back."""
    subject = brain()
    fed(subject, *[0.004] * 50)
    fed(subject, *[0.4] * 8)
    assert subject.limit().threshold == pytest.approx(0.4 * FIRST)


@pytest.mark.parametrize("usual", [0.4, 40.0])
def test_a_level_that_rises_from_an_ordinary_one_is_let_up_slowly(usual: float) -> None:
    """A loss that weighs ten times as much from now on is a rate ten times too high: 1.2 times in a hundred norms."""
    subject = brain()
    fed(subject, *[usual] * 50)
    fed(subject, *[10 * usual] * 8)
    seen = [subject.limit().threshold]
    for _ in range(200):
        fed(subject, *[10 * usual] * 10)
        seen.append(subject.limit().threshold)
    assert seen[0] == pytest.approx(usual)
    assert seen[10] == pytest.approx(1.2 * usual)
    assert seen[40] == pytest.approx(1.2**4 * usual)
    assert seen[-1] > 9.9 * usual


def test_a_run_that_blows_up_in_stages_is_held_where_the_first_one_began() -> None:
    """Each stage is a new level above the last; none of them lifts the threshold."""
    subject = brain()
    fed(subject, *[0.4] * 50)
    for stage in range(1, 6):
        fed(subject, *[0.4 * 10**stage] * 10)
    assert subject.limit().threshold == pytest.approx(0.4)


def test_a_trend_inside_the_history_does_not_hide_a_new_level() -> None:
    """Norms that fell fiftyfold make a wide tail; ten times the usual norm is beyond the band all the same."""
    subject = brain()
    for place in range(10):
        fed(subject, *[0.5 * 50 ** (-(10 * place + step) / 100) for step in range(10)])
    assert subject.limit().threshold <= 1.2 * 10 * subject.limit().usual
    fed(subject, *[0.9] * 8)
    assert subject.limit().threshold == pytest.approx(1.0)


def test_outliers_on_both_sides_are_no_new_level() -> None:
    """Norms beyond the band that change sides do not add up."""
    subject = brain()
    fed(subject, *[1.0] * 50)
    before = subject.limit().threshold
    fed(subject, *[8.0] * 7, 0.1, *[8.0] * 7, 1.0, *[0.1] * 7)
    assert subject.limit().threshold <= 1.2 * before


def test_norms_without_a_logarithm_leave_no_trace() -> None:
    """Zero, NaN and infinity are not in the history."""
    with_them, without = brain(), brain()
    fed(with_them, 0.0, math.nan, *[2.0] * 8, math.inf, 0.0)
    fed(without, *[2.0] * 8)
    assert with_them.state_dict() == without.state_dict()


@pytest.mark.parametrize(("level", "bound"), [(1e4, 10.0), (1e-4, 0.1)])
def test_written_bounds_hold_whatever_the_unit_of_the_loss(level: float, bound: float) -> None:
    """Who writes a bound means that norm."""
    subject = brain(*BOUNDS)
    fed(subject, *[level] * 20)
    assert subject.limit().threshold == pytest.approx(bound)


@pytest.mark.parametrize(
    ("level", "problem"),
    [
        (1e4, "the usual gradient norm is above max_threshold (10): most steps are clipped"),
        (1e-4, "the usual gradient norm is far below min_threshold (0.1): only huge ones are clipped"),
        (0.05, None),
        (3.0, None),
    ],
)
def test_written_bounds_that_do_not_fit_the_norms_are_named(level: float, problem: str | None) -> None:
    """Bounds that clip everything or nothing are a mistake of the configuration; that shows once a level is known."""
    subject = brain(*BOUNDS)
    assert subject.bounds_problem() is None
    fed(subject, *[level] * 20)
    assert subject.bounds_problem() == problem
    roomy = brain()
    fed(roomy, *[level] * 20)
    assert roomy.bounds_problem() is None


@pytest.mark.parametrize("level", [1e-30, 1e-4, 1.0, 1e4, 1e30])
def test_bounds_that_are_not_written_make_room_for_the_unit_of_the_loss(level: float) -> None:
    """The threshold lies above the usual norm and near it in any unit."""
    subject = brain()
    fed(subject, *[level] * 20)
    assert subject.limit().threshold == pytest.approx(FIRST * level)


def test_the_room_upward_is_that_of_the_first_level() -> None:
    """A run whose norms grow and grow, slowly enough to be followed, is held at the upper bound, written or not."""
    for written in ((), BOUNDS):
        subject = brain(*written)
        for window in range(120):
            fed(subject, *[1.1**window] * 10)
        assert subject.limit().threshold == pytest.approx(10.0)


def test_a_run_that_has_blown_up_before_its_first_level_is_held_by_its_first_norm() -> None:
    """The first norm is that of the initial weights: a hundred times it is the room, whatever the next seven say."""
    subject = brain()
    fed(subject, *[4.0 * 100.0**place for place in range(10)])
    assert subject.limit().threshold == pytest.approx(400.0)
    assert subject.bounds_problem() == (
        "the usual gradient norm is above max_threshold (400, as it is not written): most steps are clipped"
    )


def test_the_first_norm_counts_from_before_a_history_that_is_shorter_than_a_period() -> None:
    """It is remembered once it has left the history, and not asked for again after a new start."""
    subject = brain(gradient_history_size=8)
    fed(subject, 4.0, *[4e6] * 20)
    assert subject.limit().threshold == pytest.approx(400.0)
    subject.start_anew()
    fed(subject, *[4e6] * 20)
    assert subject.limit().threshold == pytest.approx(400.0)


def test_bounds_and_initial_threshold_written_for_a_resumed_run_hold_at_once() -> None:
    """What the checkpoint says gives way to the settings given now; the next decision reports it."""
    first = brain()
    fed(first, *[4.0] * 20)
    saved = first.state_dict()
    for name, bound in (("max_threshold", 2.0), ("min_threshold", 9.9)):
        resumed = brain(name, **{name: bound})
        resumed.load_state_dict(saved)
        assert resumed.limit().threshold == bound
        assert resumed.limit().usual <= bound
        adjustment = fed(resumed, 4.0)
        assert (adjustment.old, adjustment.new) == (first.limit().threshold, bound)
    early = brain()
    fed(early, 6.0)
    resumed = brain("initial_threshold", initial_threshold=50.0)
    resumed.load_state_dict(early.state_dict())
    assert resumed.limit().threshold == 50.0


def test_only_a_threshold_that_left_the_counted_one_is_an_adjustment() -> None:
    """Small moves are made in silence; their sum is counted once it is large."""
    subject = brain(gradient_history_size=8)
    counted = fed(subject, *[1.0] * 8)
    assert fed(subject, *[1.3] * 8) is None
    moved = subject.limit().threshold
    assert moved > counted.new
    late = fed(subject, *[1.6] * 8)
    assert late.old == counted.new
    assert late.new > 1.2 * counted.new


def test_after_a_new_start_the_threshold_stays_until_enough_norms_are_known() -> None:
    """Another meaning of the loss: the old norms say nothing about it, and the next level is followed at once."""
    subject = brain()
    fed(subject, *[4.0] * 20)
    before = subject.limit().threshold
    subject.start_anew()
    fed(subject, *[0.5] * 7)
    assert subject.limit().threshold == before
    fed(subject, 0.5)
    assert subject.limit().threshold == pytest.approx(0.5 * FIRST)


def test_optimizers_are_judged_apart() -> None:
    """What one optimizer's gradients do is nothing to the other."""
    subject = brain()
    fed(subject, *[4.0] * 20, optimizer=1)
    assert subject.limit(0).threshold == 1.0
    assert subject.limit(1).threshold > 4.0


@given(windows=WINDOWS, written=st.sets(st.sampled_from(BOUNDS)))
def test_the_threshold_is_always_a_positive_number_and_within_written_bounds(windows: Any, written: set[str]) -> None:
    """Whatever the norms, clipping has a threshold to clip at, and what is left of an outlier is not above it."""
    subject = brain(*written)
    for optimizer, norms in windows:
        fed(subject, *norms, optimizer=optimizer)
        threshold = subject.limit(optimizer).threshold
        assert 0 < subject.limit(optimizer).usual <= threshold < math.inf
        assert "min_threshold" not in written or threshold >= 0.1
        assert "max_threshold" not in written or threshold <= 10


@given(windows=WINDOWS, at=st.integers(0, 12))
def test_the_state_as_json_gives_the_same_future(windows: Any, at: int) -> None:
    """A brain that is saved and loaded at any place decides as the one that went on."""
    whole, parts = brain(), brain()
    for place, (optimizer, norms) in enumerate(windows):
        if place == at:
            saved = json.loads(json.dumps(parts.state_dict()))
            parts = brain()
            parts.load_state_dict(saved)
        assert fed(whole, *norms, optimizer=optimizer) == fed(parts, *norms, optimizer=optimizer)
    assert whole.state_dict() == parts.state_dict()


@given(windows=WINDOWS, size=st.integers(2, 20))
def test_the_history_is_bounded(windows: Any, size: int) -> None:
    """Memory does not grow with the run."""
    subject = brain(gradient_history_size=size)
    for optimizer, norms in windows:
        fed(subject, *norms, optimizer=optimizer)
    for state in subject.state_dict().values():
        assert len(state["norms"]) <= size
        assert len(state["beyond"]) < 8


@pytest.mark.parametrize(("norm", "left"), [(0.0, 0.0), (2.0, 2.0), (5.0, 2.0), (6.0, 2.0), (6.5, 0.5), (1e300, 0.5)])
def test_what_a_limit_leaves_of_a_norm(norm: float, left: float) -> None:
    """All below the threshold, the threshold above it, the usual norm of a far outlier."""
    limit = Limit(threshold=2.0, usual=0.5)
    assert limit.left_of(norm) == left
    assert limit.is_far(norm) == (left == 0.5)


def test_a_window_says_what_was_done_to_its_steps() -> None:
    """Medians of the finite norms before and after; the share is one of all steps."""
    limit = Limit(threshold=2.0, usual=0.5)
    assert Window.of([1.0, 3.0, 3.5, math.nan], limit) == Window(norm=3.0, norm_after=2.0, clipped_share=0.5)
    assert math.isnan(Window.of([math.inf], limit).norm)


def test_quartiles_are_those_of_the_history() -> None:
    """On the logarithm, as everything about norms; unknown while there are too few."""
    subject = brain()
    assert all(map(math.isnan, subject.quartiles()))
    fed(subject, *[1.0, 2.0, 4.0, 8.0, 16.0] * 2)
    assert subject.quartiles() == (pytest.approx(2.0), pytest.approx(8.0))


def test_an_optimizer_that_makes_no_steps_is_no_beginning() -> None:
    """Nor one whose gradients are all zero: it would have every other one decide at each step for ever."""
    subject = brain()
    fed(subject, *[0.0] * 8)
    assert not subject.begins([0])
    assert not subject.begins([])


def test_a_new_start_is_a_beginning() -> None:
    """Each of the first norms after it is taken up at once again."""
    subject = brain()
    fed(subject, *[2.0] * 20)
    subject.start_anew()
    assert subject.begins([0])


def test_a_long_tail_above_makes_no_room_below() -> None:
    """Norms that fall by half are a new level, though outliers of three times as much are ordinary."""
    subject = brain()
    for _ in range(5):
        fed(subject, *[1.0] * 16, *[3.0] * 4)
    fed(subject, *[0.5] * 8)
    assert subject.limit().usual == pytest.approx(0.5)

"""What always holds of the learning rate, whatever is read."""

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lightning_automations.core.decision import Reason
from lightning_automations.core.learning_rate import LearningRateBrain
from lightning_automations.core.learning_rate_settings import LearningRateSettings
from tests.core.learning_rates import NEGATIVE, POINTS_ON, UNDECIDED, brain_of, lost, play, window

LEVELS = st.sampled_from([-1.0, 0.0, 0.5, 0.9, 1.0, 1.0, 1.0, 1.1, 5.0, 100.0, 1e9])
NOISE = st.lists(st.floats(-0.01, 0.01), min_size=10, max_size=10)
STEADY = st.builds(lambda level, noise: [level * (1 + each) for each in noise], LEVELS, NOISE)
WILD = st.lists(st.one_of(st.floats(-1e3, 1e3), st.just(math.nan), st.floats(1e6, 1e9)), max_size=10)
READINGS = st.lists(
    st.fixed_dictionaries(
        {
            "losses": st.one_of(STEADY, STEADY, STEADY, WILD),
            "alignments": st.one_of(
                st.sampled_from([POINTS_ON, POINTS_ON, NEGATIVE, UNDECIDED]),
                st.lists(st.one_of(st.floats(-1, 1), st.just(math.nan)), max_size=10),
            ),
            "metric": st.one_of(st.just(math.nan), st.just(math.nan), st.floats(-1e3, 1e3)),
            "can_go_back": st.sampled_from([True, True, False]),
            "rates": st.sampled_from([(0.1,), (0.1,), (0.1,), (0.05,), (0.2,), (0.1, 0.3), ()]),
        }
    ),
    max_size=60,
)
SETTINGS = st.builds(
    LearningRateSettings,
    plateau_patience=st.integers(1, 200),
    min_lr_factor=st.floats(1e-3, 1.0),
    max_lr_factor=st.floats(1.0, 1e3),
    adaptation_threshold=st.floats(1e-3, 1.0),
    max_rollbacks=st.integers(0, 5),
    anneal_share=st.floats(0, 1),
    find_start=st.booleans(),
    raise_rate=st.booleans(),
)
HORIZONS = st.sampled_from([None, 100, 400, 1000])


def begun(settings: LearningRateSettings, horizon: int | None, *, fresh: bool) -> LearningRateBrain:
    """A brain at the beginning of a fit."""
    brain = LearningRateBrain(settings)
    brain.begin(step=0 if fresh else 1, horizon_steps=horizon)
    return brain


@given(settings=SETTINGS, readings=READINGS, fresh=st.booleans(), horizon=HORIZONS)
def test_the_factor_stays_within_its_bounds(
    settings: LearningRateSettings, readings: Any, fresh: bool, horizon: int | None
) -> None:
    """The one that holds, and both of every adjustment; and each begins where the one before has ended."""
    brain = begun(settings, horizon, fresh=fresh)
    before = 1.0
    for adjustment, factor, *_ in play(brain, readings, start=0):
        assert settings.min_lr_factor <= factor <= settings.max_lr_factor
        if adjustment is None:
            continue
        assert adjustment.old == before
        assert settings.min_lr_factor <= adjustment.new <= settings.max_lr_factor
        before = before if adjustment.reason is Reason.ANNEALING else adjustment.new


@given(settings=SETTINGS, readings=READINGS, fresh=st.booleans(), horizon=HORIZONS)
def test_it_goes_back_only_where_there_is_a_snapshot_and_at_most_so_often(
    settings: LearningRateSettings, readings: Any, fresh: bool, horizon: int | None
) -> None:
    """Each return comes with an adjustment that says why; what a trial does is not counted."""
    brain = begun(settings, horizon, fresh=fresh)
    counted = 0
    for item, (adjustment, _, goes_back, takes_back, is_healthy) in zip(
        readings, play(brain, readings, start=0), strict=True
    ):
        if not goes_back:
            assert not takes_back or adjustment.reason is Reason.LOSS_CHANGED
            continue
        assert item["can_go_back"]
        assert not takes_back
        assert not is_healthy or adjustment.reason is Reason.NO_BETTER_RATE
        counted += adjustment.reason in (Reason.DIVERGENCE, Reason.NON_FINITE)
    assert counted == brain.state.rollbacks <= settings.max_rollbacks


@given(readings=READINGS, horizon=HORIZONS)
def test_a_rate_that_blew_up_is_never_reached_again(readings: Any, horizon: int | None) -> None:
    """Unless the loss, seen with the weights of before, has only changed its meaning: that one alone is freed."""
    brain = brain_of(steps=horizon)
    limits = [math.inf]
    for adjustment, _, goes_back, takes_back, _ in play(brain, readings, start=0):
        if takes_back:
            limits.pop()
        elif goes_back:
            limits.append(min(limits[-1], max(0.6 * adjustment.old, 0.01)))
        if adjustment is not None:
            assert adjustment.new <= limits[-1] or adjustment.reason is Reason.ANNEALING


@given(settings=SETTINGS, readings=READINGS, fresh=st.booleans(), horizon=HORIZONS)
def test_it_is_raised_only_on_its_evidence_and_in_time(
    settings: LearningRateSettings, readings: Any, fresh: bool, horizon: int | None
) -> None:
    """To at most three times what it was, by the gradient's word or a steady metric, in the first 60 % of a run."""
    brain = begun(settings, horizon, fresh=fresh)
    for adjustment, *_ in play(brain, readings, start=0):
        if adjustment is None or adjustment.new <= adjustment.old:
            continue
        if adjustment.reason in (Reason.LOSS_CHANGED, Reason.NO_BETTER_RATE):
            continue  # what was taken away is given back
        assert settings.raise_rate
        assert adjustment.new <= 3.0 * adjustment.old
        assert horizon is None or adjustment.step <= 0.6 * horizon
        evidence = adjustment.evidence
        if adjustment.reason is Reason.GRADIENT_POINTS_ON:
            assert evidence["cosine"] > 0.02
            assert evidence["deviations"] > 3.5
        else:
            assert adjustment.reason is Reason.STEADY_PROGRESS
            assert evidence["deviations"] > -2.0


@given(settings=SETTINGS, readings=READINGS, cut=st.integers(0, 60), fresh=st.booleans(), horizon=HORIZONS)
def test_a_state_round_trip_at_any_window_gives_the_same_future(
    settings: LearningRateSettings, readings: Any, cut: int, fresh: bool, horizon: int | None
) -> None:
    """Saved as JSON and loaded, in the trial, in doubt and in the end too."""
    brain, resumed = begun(settings, horizon, fresh=fresh), begun(settings, horizon, fresh=False)
    play(brain, readings[:cut], start=0)
    state = brain.state_dict()
    assert set(state) == {"rate", "progress"}
    resumed.load_state_dict(json.loads(json.dumps(state)))
    assert resumed.state_dict() == state
    assert play(resumed, readings[cut:], start=cut) == play(brain, readings[cut:], start=cut)


def test_the_state_is_bounded() -> None:
    """A long run does not make it grow."""
    brain = brain_of(steps=None)
    for index in range(2000):
        losses = [1.0 + 0.01 * ((index + place) % 7) for place in range(10)]
        reading = {"losses": losses, "alignments": UNDECIDED, "rates": (0.1,), "can_go_back": True}
        brain.observe(step=10 * index, epoch=0, loss=losses[0], metric=float(index % 5), **reading)
    assert len(brain.progress.state.windows) == 100
    assert len(brain.progress.state.metrics) == 10
    assert len(brain.state.losses) == 60
    assert len(brain.state.alignments) == 30
    assert len(json.dumps(brain.state_dict())) < 6000


def test_bounds_that_are_given_now_win_over_the_saved_factor() -> None:
    """A factor from a run with wider bounds is brought into the bounds of this one."""
    brain = LearningRateBrain(LearningRateSettings(min_lr_factor=0.5))
    state = brain.state_dict()
    for saved, factor in ((0.125, 0.5), (30.0, 2.0), (1.5, 1.5)):
        brain.load_state_dict({**state, "rate": {**state["rate"], "factor": saved}})
        assert brain.factor == factor


def test_of_networks_that_train_against_each_other_only_numbers_are_asked_of_the_loss() -> None:
    """It may start flat, rise, and stand still: nothing follows. NaN takes the run back all the same."""
    brain = LearningRateBrain(LearningRateSettings(min_lr_factor=0.01, plateau_patience=100))
    brain.begin(step=0, horizon_steps=1000, one_objective=False)
    assert not brain.tries
    levels = [1.0] * 20 + [1.0 + 0.2 * index for index in range(40)] + [9.0] * 40
    for index, level in enumerate(levels):
        assert window(brain, 10 * (index + 1), level, can_go_back=True) is None
        assert brain.is_healthy
    assert brain.factor == 1.0
    assert lost(brain, 1010, can_go_back=True) is not None
    assert brain.goes_back


def test_of_networks_that_train_against_each_other_the_metric_is_judged() -> None:
    """A plateau of the metric lowers the rate as ever."""
    brain = LearningRateBrain(LearningRateSettings(plateau_patience=100))
    brain.begin(step=0, horizon_steps=None, one_objective=False)
    found = []
    for step in range(10, 610, 10):
        found += [window(brain, step, 1.0 + 0.01 * step), brain.observe(step=step, epoch=0, metric=1.0)]
    assert Reason.PLATEAU in {item.reason for item in found if item is not None}

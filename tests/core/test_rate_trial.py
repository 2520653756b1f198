"""Whether the first steps accept a rate, lower it or come back to it."""

import math
import random

import pytest

from lightning_automations.core.rate_trial import Attempt, Verdict, attempt_of, verdict_of
from tests.core.learning_rates import brain_of, window

BEFORE = Attempt(level=1.0, noise=0.02)
WORSE = Attempt(level=1.24, noise=0.02)
EXPLODED = Attempt(level=math.inf, noise=0.0)


def noisy(level: float, steps: int, *, slope: float = 0.0, noise: float = 0.02, seed: int = 0) -> list[float]:
    """Losses on a line."""
    source = random.Random(seed)
    return [level + slope * step + noise * source.gauss(0, 1) for step in range(steps)]


def judged(
    losses: list[float], *, start: float = 1.0, points_on: bool = False, before: Attempt | None = None
) -> Verdict:
    """The verdict on an attempt with these losses."""
    return verdict_of(losses, start_loss=start, points_on=points_on, before=before)


@pytest.mark.parametrize(
    ("losses", "before", "verdict"),
    [
        (noisy(1.0, 10, slope=-0.05), None, Verdict.ACCEPT),
        (noisy(1.0, 10), None, Verdict.GO_ON),
        (noisy(1.22, 10, slope=-0.01, noise=0.001), None, Verdict.GO_ON),
        (noisy(1.0, 20), None, Verdict.LOWER),
        (noisy(3.0, 10), None, Verdict.LOWER),
        (noisy(0.7, 10), BEFORE, Verdict.ACCEPT),
        ([0.9, 0.97, 0.88, 0.98, 0.85, 0.96, 0.9, 0.84, 0.98, 0.87], WORSE, Verdict.ACCEPT),
        (noisy(1.0, 10), BEFORE, Verdict.GO_ON),
        (noisy(1.0, 20), BEFORE, Verdict.COME_BACK),
        (noisy(1.0, 20), EXPLODED, Verdict.ACCEPT),
        (noisy(3.0, 10), EXPLODED, Verdict.LOWER),
        (noisy(3.0, 20), EXPLODED, Verdict.LOWER),
        (noisy(3.0, 10), BEFORE, Verdict.GO_ON),
        (noisy(3.0, 20), BEFORE, Verdict.COME_BACK),
    ],
)
def test_verdicts(losses: list[float], before: Attempt | None, verdict: Verdict) -> None:
    """A falling loss is accepted, one that stands still is tried lower once, one that explodes as long as it does."""
    assert judged(losses, before=before) is verdict


def test_a_gradient_that_points_on_accepts_at_once() -> None:
    """The loss need not have moved: the rate is low."""
    assert judged(noisy(1.0, 10), points_on=True) is Verdict.ACCEPT


def test_spikes_do_not_hide_a_loss_that_falls() -> None:
    """Three bad batches spoil a slope, but not the level."""
    losses = noisy(0.6, 20)
    for place in (3, 9, 12):
        losses[place] *= 1000
    assert judged(losses) is Verdict.ACCEPT


def test_an_explosion_needs_no_small_noise() -> None:
    """Losses that jump by orders of magnitude are noisy themselves."""
    assert judged([1.0, 20.0, 90.0, 30.0, 60.0, 99.0, 63.0, 49.0, 82.0, 52.0]) is Verdict.LOWER


def test_a_lower_rate_has_to_fall_below_the_start() -> None:
    """To be better than a rate that first made it worse is not enough: large rates often begin like that."""
    assert judged(noisy(1.0, 20), before=WORSE) is Verdict.COME_BACK


@pytest.mark.parametrize("noise", [0.01, 0.1])
def test_a_rate_that_works_is_seldom_lowered(noise: float) -> None:
    """Of 300 runs whose loss falls by 2 % a step under this noise, at most one in twenty starts again."""
    lowered = 0
    for seed in range(300):
        source = random.Random(seed)
        losses = [0.98**step * (1 + noise * source.gauss(0, 1)) for step in range(20)]
        first = judged(losses[:10], start=losses[0])
        last = judged(losses, start=losses[0]) if first is Verdict.GO_ON else first
        lowered += last is Verdict.LOWER
    assert lowered <= 15


@pytest.mark.parametrize(
    ("level", "noise", "is_below"), [(0.9, 0.06, True), (0.9, 0.12, False), (1.1, 0.0, False), (-math.inf, 0.0, True)]
)
def test_clearly_below_is_two_errors_of_both(level: float, noise: float, is_below: bool) -> None:
    """As far as the noise of both attempts goes: the error of a level is near half the noise of a loss."""
    assert Attempt(level=level, noise=noise).is_clearly_below(Attempt(level=1.0, noise=0.06)) is is_below


@pytest.mark.parametrize(
    ("level", "noise", "start", "exploded"),
    [
        (1.24, 0.0, 1.0, False),
        (1.26, 0.0, 1.0, True),
        (-0.74, 0.0, -1.0, True),
        (1.26, 0.3, 1.0, False),
        (6.0, 9.0, 1.0, True),
        (0.5, 0.0, 1.0, False),
    ],
)
def test_an_explosion_is_a_quarter_and_five_deviations_above_the_start(
    level: float, noise: float, start: float, exploded: bool
) -> None:
    """Where the loss is five times as high, no noise excuses it."""
    losses = [level + noise * each for each in (0.0, 1.0, -1.0, 0.5, -0.5, 0.3, -0.3, 0.0, 1.2, -1.2, 0.0)]
    assert attempt_of(losses).has_exploded(start) is exploded


def trial(seed: int, *, fall: float, noise: float, first: float) -> tuple[bool, float]:
    """Whether a run is started again whose loss falls by this share a step, and the factor that holds in the end.

    The rate makes no difference to it, the first loss is that of an odd batch, and the gradient says nothing.
    """
    source = random.Random(seed)
    brain = brain_of(fresh=True)
    is_new, was_lowered, step, place = True, False, 0, 0
    while brain.tries:
        losses = [(1 - fall) ** (place + each) * (1 + noise * source.gauss(0, 1)) for each in range(10)]
        losses[0] *= first if is_new else 1.0
        is_new, step, place = False, step + 10, place + 10
        window(brain, step, losses=losses, loss=sum(losses) / 10, can_go_back=True)
        if brain.goes_back:
            was_lowered, place = True, 0
    return was_lowered, brain.factor


@pytest.mark.parametrize(
    ("fall", "noise", "first", "lowered", "ends_lower"),
    [
        (0.02, 0.05, 1.0, 0.01, 0.01),
        (0.02, 0.05, 3.0, 0.01, 0.01),
        (0.01, 0.05, 1.0, 0.05, 0.05),
        (0.05, 0.2, 1.0, 0.02, 0.02),
        (0.0, 0.05, 1.0, 1.0, 0.08),
        (0.0, 0.2, 1.0, 1.0, 0.08),
        (0.0, 0.2, 3.0, 0.03, 0.02),
        (0.0, 0.05, 0.7, 1.0, 0.06),
        (0.0, 0.2, 0.5, 1.0, 0.06),
    ],
)
def test_false_alarms(fall: float, noise: float, first: float, lowered: float, ends_lower: float) -> None:
    """Of 1,000 runs, at most this share starts again at a lower rate, and at most this share keeps it.

    A flat one nearly always starts again, that is the trial, and comes back.
    """
    runs = [trial(seed, fall=fall, noise=noise, first=first) for seed in range(1000)]
    assert sum(was_lowered for was_lowered, _ in runs) <= 1000 * lowered
    assert sum(factor < 1.0 for _, factor in runs) <= 1000 * ends_lower


def test_a_gradient_that_points_on_spares_a_slow_run_the_lower_rate() -> None:
    """A loss that falls too slowly for its noise, 1 % a step under 20 %: no run of 300 starts again."""
    source = random.Random(0)
    for _ in range(300):
        losses = [0.99**step * (1 + 0.2 * source.gauss(0, 1)) for step in range(10)]
        brain = brain_of(fresh=True)
        cosines = [0.3 + 0.1 * source.gauss(0, 1) for _ in range(9)]
        window(brain, 10, losses=losses, alignments=cosines, can_go_back=True)
        assert not brain.goes_back
        assert not brain.tries

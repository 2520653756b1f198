"""Where a peer does better than our defaults, from the data, so that nothing is left out by taste."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.scoring.groups import GROUPS, NOISE, is_ours, of_study, optimizers_of, ours_with_defaults, select
from benchmarks.scoring.judging import Run
from benchmarks.scoring.pairs import PLAIN, Comparison, Share, compare, only_shared, share
from benchmarks.scoring.sensitivity import Sensitivity, sensitivities

__all__ = ["Ahead", "Loss", "Measure", "losses"]

RATE_STUDIES = frozenset({"rate", "together"})
"""Those in which learning-rate sensitivity is reported."""


class Measure:
    """What a method can be ahead by, as it stands in a sentence."""

    RESCUE = "runs rescued"
    HARM = "runs harmed"
    SUCCESS = "successes"
    SENSITIVITY = "learning-rate sensitivity"


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """A peer that is ahead.

    Args:
        method: Its name.
        peer: Its figure.
        ours: Ours in the cells that both have.
        gap: How far it is ahead, as a share between 0 and 1.
    """

    method: str
    peer: Share | float
    ours: Share | float
    gap: float

    @property
    def intervals_overlap(self) -> bool | None:
        """Whether chance may have made the gap; None where there are no intervals."""
        if not (isinstance(self.peer, Share) and isinstance(self.ours, Share)):
            return None
        peer, ours = self.peer.interval, self.ours.interval
        return None if peer is None or ours is None else peer[0] <= ours[1] and ours[0] <= peer[1]


@dataclass(frozen=True, kw_only=True)
class Loss:
    """One cell group of one table in which at least one peer is ahead.

    Args:
        study: Name of the study.
        place: Group and optimizer, or task and optimizer.
        measure: One of ``Measure``.
        ours: The configuration of ours that is behind.
        peers: Those ahead, the best first.
        held_out: Whether it is the held-out task's.
        one_task: Whether it is about a single task.
    """

    study: str
    place: str
    measure: str
    ours: str
    peers: tuple[Ahead, ...]
    held_out: bool
    one_task: bool

    @property
    def gap(self) -> float:
        """Of the best peer."""
        return self.peers[0].gap


def losses(runs: Iterable[Run], studies: Mapping[str, Sequence[str]]) -> list[Loss]:
    """Every cell group in which a peer, or plain Lightning, is ahead of ours with the defaults, the worst first.

    Args:
        runs: All of them.
        studies: Names of the methods of each study. What the tables of two studies say alike is told of the first.

    Raises:
        ValueError: If a study has methods of ours but none with the defaults.
    """
    listed = list(runs)
    found = [
        loss
        for study, methods in studies.items()
        for ours in ours_with_defaults(methods)
        for held_out in (False, True)
        for loss in _Search(
            study, ours, select(of_study(study, listed), methods=methods, held_out=held_out), held_out=held_out
        ).all()
    ]
    told = [loss for number, loss in enumerate(found) if not any(_tells(other, loss) for other in found[:number])]
    return sorted(told, key=lambda loss: (-loss.gap, loss.study, loss.place, loss.measure, loss.ours))


def _tells(loss: Loss, other: Loss) -> bool:
    """Whether a loss in one study says all that one in another study says: the same runs stand in several."""
    same = all(vars(loss)[name] == vars(other)[name] for name in ("place", "measure", "ours", "held_out"))
    return same and set(other.peers) <= set(loss.peers)


class _Search:
    """Goes through the tables of a study for one configuration of ours."""

    def __init__(self, study: str, ours: str, runs: Sequence[Run], *, held_out: bool) -> None:
        self._study, self._ours, self._runs, self._held_out = study, ours, runs, held_out
        methods = dict.fromkeys(run.method for run in runs)
        self._rivals = [method for method in methods if not is_ours(method) and method != NOISE]

    def all(self) -> Iterator[Loss]:
        """The losses in all tables."""
        for group in GROUPS[self._study]:
            for optimizer in optimizers_of(self._runs):
                here = [run for run in self._runs if group.includes(run.scenario)]
                yield from self._in_group(group.name, optimizer, [run for run in here if run.place[1] == optimizer])
        if self._study in RATE_STUDIES:
            yield from self._in_sensitivity()

    def _in_group(self, group: str, optimizer: str, runs: Sequence[Run]) -> Iterator[Loss]:
        place = f"{group}, {optimizer}"
        yield from self._loss(place, Measure.RESCUE, (_rescue(runs, self._ours, rival) for rival in self._rivals))
        yield from self._loss(place, Measure.HARM, (_harm(runs, self._ours, rival) for rival in self._rivals))
        for task in sorted({run.place[0] for run in runs}):
            own = [run for run in runs if run.place[0] == task]
            ahead = [_success(own, self._ours, rival) for rival in self._rivals]
            yield from self._loss(f"{group}, {task} with {optimizer}", Measure.SUCCESS, ahead, one_task=True)

    def _in_sensitivity(self) -> Iterator[Loss]:
        for (task, optimizer), by_method in sensitivities(self._runs).items():
            ahead = [_sensitivity(by_method, self._ours, rival) for rival in self._rivals]
            yield from self._loss(f"{task} with {optimizer}", Measure.SENSITIVITY, ahead, one_task=True)

    def _loss(
        self, place: str, measure: str, peers: Iterable[Ahead | None], *, one_task: bool = False
    ) -> Iterator[Loss]:
        ahead = tuple(sorted((peer for peer in peers if peer), key=lambda peer: (-peer.gap, peer.method)))
        if ahead:
            yield Loss(
                study=self._study,
                place=place,
                measure=measure,
                ours=self._ours,
                peers=ahead,
                held_out=self._held_out,
                one_task=one_task,
            )


def _rescue(runs: Sequence[Run], ours: str, rival: str) -> Ahead | None:
    return _paired(runs, ours, rival, lambda found: found.rescued, better=1)


def _harm(runs: Sequence[Run], ours: str, rival: str) -> Ahead | None:
    return _paired(runs, ours, rival, lambda found: found.harmed, better=-1)


def _paired(
    runs: Sequence[Run], ours: str, rival: str, figure: Callable[[Comparison], Share], *, better: int
) -> Ahead | None:
    """Compared in the cells that the three have, so that no one gains by runs that are missing."""
    shared = only_shared(runs, list({ours, rival, PLAIN}))
    return _ahead(rival, figure(compare(shared, rival)), figure(compare(shared, ours)), better=better)


def _success(runs: Sequence[Run], ours: str, rival: str) -> Ahead | None:
    shared = only_shared(runs, [ours, rival])
    theirs = share(run.success for run in shared if run.method == rival)
    return _ahead(rival, theirs, share(run.success for run in shared if run.method == ours), better=1)


def _ahead(rival: str, theirs: Share, own: Share, *, better: int) -> Ahead | None:
    if theirs.value is None or own.value is None:
        return None
    gap = better * (theirs.value - own.value)
    return Ahead(method=rival, peer=theirs, ours=own, gap=gap) if gap > 0 else None


def _sensitivity(by_method: Mapping[str, Sensitivity], ours: str, rival: str) -> Ahead | None:
    if ours not in by_method or rival not in by_method:
        return None
    own, theirs = by_method[ours].relative, by_method[rival].relative
    if own is None or theirs is None or theirs >= own:
        return None
    return Ahead(method=rival, peer=theirs, ours=own, gap=own - theirs)

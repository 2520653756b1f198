"""The section on where we lose. It is written from the figures; nobody edits it."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.report.text import STUDY_TITLES, figure, number, percent, quoted, table
from benchmarks.scoring import Ahead, Loss, Measure, Share

__all__ = ["losing_section"]

_OVER_TASKS = (
    "Every group of a table in which a peer, or plain Lightning, is ahead of ours with the defaults, the largest gap "
    "first. Plain Lightning harms nothing by definition, so every harm of ours is a loss to it."
)
_BY_TASK = "Tasks on which another method has more successes than ours with the defaults, the largest gap first."
NOTHING = "No bar is missed, and no peer is ahead of ours with the defaults in any table."


def losing_section(losses: Sequence[Loss], missed: Sequence[str]) -> str:
    """Markdown.

    Args:
        losses: The worst first.
        missed: Sentences on bars that are missed.
    """
    told = [loss for loss in losses if loss.measure != Measure.SUCCESS]
    listed = [loss for loss in losses if loss.measure == Measure.SUCCESS]
    parts = ["\n".join(f"- **{sentence}**" for sentence in missed)] if missed else []
    if told:
        parts += [_OVER_TASKS, "\n".join(f"- {sentence(loss)}" for loss in told)]
    if listed:
        parts += [_BY_TASK, _table(listed)]
    if not losses:
        parts.append("No peer is ahead of ours with the defaults in any table." if missed else NOTHING)
    return "\n\n".join(parts)


def sentence(loss: Loss) -> str:
    """One sentence on one group; a second one on the other peers that are ahead."""
    best, *others = loss.peers
    own, theirs, peer = _figure(best.ours), _figure(best.peer), quoted(best.method)
    what = {
        Measure.RESCUE: f"{peer} rescues {theirs}, {quoted(loss.ours)} {own}",
        Measure.HARM: f"{quoted(loss.ours)} harms {own}, {peer} {theirs}",
        Measure.SUCCESS: f"{peer} succeeds in {theirs}, {quoted(loss.ours)} in {own}",
        Measure.SENSITIVITY: f"rates that are off cost {quoted(loss.ours)} {own} of what there is to win, {peer} "
        f"{theirs}",
    }[loss.measure]
    also = f" Also ahead: {', '.join(f'{quoted(one.method)} {_figure(one.peer)}' for one in others)}." if others else ""
    return f"{_where(loss)}: {what}{_overlap(best)}.{also}"


def _where(loss: Loss) -> str:
    return f"{STUDY_TITLES[loss.study]}, {loss.place}{' (held-out task)' if loss.held_out else ''}"


def _overlap(ahead: Ahead) -> str:
    if ahead.intervals_overlap is None:
        return ""
    return "; the intervals overlap" if ahead.intervals_overlap else "; the intervals do not overlap"


def _figure(found: Share | float) -> str:
    if not isinstance(found, Share):
        return f"{percent(found)} %"
    return f"{figure(found)} ({percent(found.value or 0.0)} %)"


def _table(losses: Sequence[Loss]) -> str:
    rows = [
        (
            _where(loss),
            quoted(loss.ours),
            _figure(loss.peers[0].ours),
            quoted(loss.peers[0].method),
            _figure(loss.peers[0].peer),
            number(100 * loss.gap, digits=0),
            ", ".join(quoted(one.method) for one in loss.peers[1:]),
        )
        for loss in losses
    ]
    return table(("where", "ours", "succeeds in", "best peer", "succeeds in", "points", "also ahead"), rows, words=7)

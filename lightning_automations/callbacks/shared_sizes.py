"""What the ranks tell each other before they decide on the size of batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lightning_automations.callbacks.loader_batch import LEFT_ALONE, LoaderBatch
from lightning_automations.callbacks.ranks import Across
from lightning_automations.core.batch_size import BatchSizeBrain
from lightning_automations.core.batch_size_state import SMALLEST_OF_RANKS

__all__ = ["ACROSS", "grow_together", "own_sizes", "same_place"]

ACROSS: Mapping[str, Across] = {
    # What was seen: the fullest memory decides, and what it had to hold.
    **dict.fromkeys(("samples", "batch", "peak_share", "baseline"), Across.MAX),
    **dict.fromkeys(SMALLEST_OF_RANKS, Across.MIN),
    # Whether all have the same loader, at the same place; 0 where a rank's cannot grow.
    **dict.fromkeys(("smallest_batch", "smallest_epoch", "smallest_place"), Across.MIN),
    **dict.fromkeys(("largest_batch", "largest_epoch", "largest_place"), Across.MAX),
}


def own_sizes(brain: BatchSizeBrain, loader: LoaderBatch | None) -> dict[str, float]:
    """This rank's part, besides what it has seen of its memory."""
    own = (loader.current, loader.most, loader.free) if loader is not None else (0, 0, 0)
    batch, epoch, place = (float(number) for number in own)
    return {
        **brain.state.shared(),
        "smallest_batch": batch,
        "largest_batch": batch,
        "smallest_epoch": epoch,
        "largest_epoch": epoch,
        "smallest_place": place,
        "largest_place": place,
    }


def same_place(readings: Mapping[str, float]) -> bool:
    """Whether the loaders of all ranks have drawn so many batches of an epoch in which they can grow."""
    return readings["smallest_place"] == readings["largest_place"] > 0


def grow_together(loader: LoaderBatch, readings: Mapping[str, float], *, tell: Callable[[str], None]) -> bool:
    """Whether all ranks have batches, and epochs, of so many samples: else they would not end an epoch together.

    Args:
        loader: This rank's loader.
        readings: What the ranks have agreed in.
        tell: Is told once why the loader stays as it is.
    """
    same = all(readings[f"smallest_{name}"] == readings[f"largest_{name}"] > 0 for name in ("batch", "epoch"))
    if not same and loader.like_others:
        tell(f"{LEFT_ALONE}: the loaders of the ranks differ, or not all of them can grow")
    loader.like_others = same
    return same

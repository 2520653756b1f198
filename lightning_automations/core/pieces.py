"""How many samples the pieces of a batch have: as few pieces, and as even ones, as possible."""

from __future__ import annotations

__all__ = ["in_company", "largest_piece", "smaller_piece"]


def largest_piece(samples: int, size: int, *, least: int = 1) -> int:
    """Samples in the largest of the fewest even pieces that have at most ``size``.

    Args:
        samples: Of the batch.
        size: The most samples in a piece, unless another would then have fewer than ``least``.
        least: The fewest samples in a piece, where the batch has as many.

    Example:
        >>> largest_piece(7, 2)  # 1 + 2 + 2 + 2
        2
        >>> largest_piece(7, 2, least=2)  # 2 + 2 + 3
        3
    """
    pieces = max(1, min(-(-samples // size), samples // least))
    return -(-samples // pieces)


def smaller_piece(samples: int, failed: int, *, least: int) -> int | None:
    """What the largest piece may have after one of ``failed`` samples ran out of memory: half, where that can be.

    What leaves a remainder of fewer than ``least`` samples, or of a single one, is tried last.

    Args:
        samples: Of the batch.
        failed: Samples in the largest piece that was tried.
        least: ``min_batch_size``.

    Returns:
        None: there is nothing smaller to try.
    """
    half = -(-failed // 2)
    sizes = (max(half, largest_piece(samples, 1, least=in_company(least))), max(half, least))
    return next((size for size in sizes if size < failed), None)


def in_company(least: int) -> int:
    """``least``, but no single sample: batch normalization refuses one that has one value per channel."""
    return max(least, 2)

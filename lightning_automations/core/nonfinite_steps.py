"""When a run with gradients that are not finite counts as lost."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["NonFiniteSteps"]


class NonFiniteSteps:
    """Counts steps with non-finite gradients in a row, for each optimizer apart.

    Args:
        lost_after: So many in a row are a lost run, 1 or more. None: nothing is.
    """

    def __init__(self, lost_after: int | None) -> None:
        self._lost_after = lost_after
        self._in_a_row: dict[int, int] = {}

    def see(self, *, optimizer: int, finite: bool) -> bool:
        """Take up one step; whether the run is lost now. Then the count begins anew: who goes on is told again.

        Args:
            optimizer: Index of the optimizer whose step it was.
            finite: Whether its gradients were.
        """
        count = 0 if finite else self._in_a_row.get(optimizer, 0) + 1
        lost = self._lost_after is not None and count >= self._lost_after
        self._in_a_row[optimizer] = 0 if lost else count
        return lost

    def start_anew(self) -> None:
        """The weights are others than those that these steps met."""
        self._in_a_row.clear()

    def state_dict(self) -> dict[str, int]:
        """The counts, by the index of the optimizer as text."""
        return {str(index): count for index, count in self._in_a_row.items()}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Take up the counts that ``state_dict`` gave."""
        self._in_a_row = {int(index): count for index, count in state.items()}

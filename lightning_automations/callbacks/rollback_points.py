"""Where a run can go back to: two snapshots, of which the older one has proved healthy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer

from lightning_automations.callbacks.run_parts import run_parts
from lightning_automations.probes.snapshot import Snapshot
from lightning_automations.probes.snapshot_parts import refusal, size_of

__all__ = ["RollbackPoints"]


class RollbackPoints:
    """The newest snapshot, and the one before it.

    A loss shows what the weights before its step were worth. When a snapshot is taken nothing is known of the last
    step yet, so that the run goes back to the snapshot before it, all of whose later losses came back healthy.

    Args:
        place: ``host`` or ``device``, or ``none``: there is nothing to go back to.
    """

    def __init__(self, place: Literal["host", "device", "none"]) -> None:
        self._place = place
        self._proved = Snapshot(on_host=place == "host")
        self._newest = Snapshot(on_host=place == "host")
        self._has_newest = False
        self._has_left = False
        self._taken_at_step = 0

    @property
    def available(self) -> bool:
        """Whether there is a snapshot to go back to."""
        return self._proved.step is not None

    def begin(self, trainer: Trainer, pl_module: LightningModule, saved: Mapping[str, Any] | None) -> str | None:
        """Take the first snapshot, or take up those of a checkpoint.

        Returns:
            What the user should know: how much memory is taken, or why there are no snapshots.
        """
        if self._place == "none":
            return None
        parts = run_parts(trainer, pl_module)
        why_not = refusal(parts)
        if why_not is not None:
            return f"no snapshots are kept, and a diverged run does not go back: {why_not}"
        if saved:
            self._load(saved)
        else:
            self._proved.take(parts, step=trainer.global_step)
            self._taken_at_step = trainer.global_step
        megabytes = size_of(parts) / 1e6
        return (
            f"snapshots of weights and optimizer keep 2 x {megabytes:.1f} MB on the {self._place} and add as much to a "
            f"checkpoint, more once the optimizer has its state (snapshots)"
        )

    def keep(self, trainer: Trainer, pl_module: LightningModule, *, interval_steps: int) -> None:
        """The run is healthy: take a snapshot if the last one is so many steps old, which has proved itself by that."""
        if not self.available or trainer.global_step - self._taken_at_step < interval_steps:
            return
        if self._has_newest:
            self._proved, self._newest = self._newest, self._proved
        self._newest.take(run_parts(trainer, pl_module), step=trainer.global_step)
        self._has_newest, self._has_left = True, False
        self._taken_at_step = trainer.global_step

    def bring_back(self, trainer: Trainer, pl_module: LightningModule) -> int:
        """Put the run back to the snapshot that has proved itself, and return the step of it.

        What is left behind is kept in the place of the newest snapshot, until there is a newer one.
        """
        parts = run_parts(trainer, pl_module)
        self._newest.take(parts, step=trainer.global_step)
        self._proved.restore(parts)
        self._has_newest, self._has_left = False, True
        self._taken_at_step = trainer.global_step
        return self._proved.step or 0

    def take_back(self, trainer: Trainer, pl_module: LightningModule) -> int:
        """Going back was a mistake: put the run to where it was before, and return the step of that."""
        if self._has_left:
            self._newest.restore(run_parts(trainer, pl_module))
            self._has_left = False
        return self._newest.step or 0

    def state_dict(self) -> dict[str, Any]:
        """Both snapshots for a checkpoint, loadable with ``weights_only=True``; empty where there are none."""
        if not self.available:
            return {}
        return {
            "proved": self._proved.state_dict(),
            "newest": self._newest.state_dict() if self._has_newest or self._has_left else None,
            "has_left": self._has_left,
            "taken_at_step": self._taken_at_step,
        }

    def _load(self, state: Mapping[str, Any]) -> None:
        self._proved.load_state_dict(state["proved"])
        self._has_left = state["has_left"]
        self._has_newest = state["newest"] is not None and not self._has_left
        if state["newest"] is not None:
            self._newest.load_state_dict(state["newest"])
        self._taken_at_step = state["taken_at_step"]

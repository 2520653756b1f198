"""Changes a module class into one that trains in another way, and the data that some ways need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, IterableDataset

from tests.callbacks.helpers import Regression, regression_data, train_loader, val_loader

Kind = type[Regression]


def checkpointed(kind: Kind) -> Kind:
    """Activations are computed again in the backward pass."""

    class Checkpointed(kind):  # type: ignore[misc, valid-type]
        def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
            inputs, targets = batch
            outputs = checkpoint(self.layer, inputs, use_reentrant=False)
            return nn.functional.mse_loss(outputs, targets)  # type: ignore[arg-type]

    return Checkpointed


def compiled(kind: Kind) -> Kind:
    """The network is compiled; the backend only traces, for the tests are about what Lightning and we make of it.

    Of a whole module, Lightning's own ``self.log`` cannot be traced: that fails without us, too.
    """

    class Compiled(kind):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.layer.compile(backend="eager")

    return Compiled


def from_hooks(kind: Kind) -> Kind:
    """Loaders come from the module, so that Lightning can ask for them again."""

    class FromHooks(kind):  # type: ignore[misc, valid-type]
        def train_dataloader(self) -> Any:
            return train_loader()

        def val_dataloader(self) -> Any:
            return val_loader()

    return FromHooks


def manual(kind: Kind) -> Kind:
    """The training step calls the optimizer itself, and returns its loss."""

    class Manual(kind):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            output = super().training_step(batch, batch_idx)
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(output["loss"] if isinstance(output, dict) else output)
            optimizer.step()
            return output

    return Manual


class Adversarial(Regression):
    """A small GAN: a generator that imitates the targets, a judge that tells them apart, an optimizer for each."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.judge = nn.Linear(1, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = batch
        for_layer, for_judge = self.optimizers()
        judged = nn.functional.softplus(self.judge(self.layer(inputs).detach())) + nn.functional.softplus(
            -self.judge(targets)
        )
        self._step(for_judge, judged.mean())
        imitated = self.loss(batch) + 0.01 * nn.functional.softplus(-self.judge(self.layer(inputs))).mean()
        self._step(for_layer, imitated)
        return imitated

    def _step(self, optimizer: Any, loss: Tensor) -> None:
        self.toggle_optimizer(optimizer)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.untoggle_optimizer(optimizer)

    def configure_optimizers(self) -> Any:
        return (
            torch.optim.SGD(self.layer.parameters(), lr=self.rate, momentum=0.9),
            torch.optim.SGD(self.judge.parameters(), lr=0.01),
        )


def adversarial(_: Kind) -> Kind:
    """The small GAN, whatever the module was."""
    return Adversarial


def lbfgs(kind: Kind) -> Kind:
    """An optimizer that evaluates the loss several times in a step."""

    class WithClosure(kind):  # type: ignore[misc, valid-type]
        def configure_optimizers(self) -> Any:
            return torch.optim.LBFGS(self.parameters(), lr=self.rate, max_iter=2)

    return WithClosure


def returns_nothing_at_times(kind: Kind) -> Kind:
    """Every fifth training step returns None: Lightning leaves that batch out."""

    class Sparse(kind):  # type: ignore[misc, valid-type]
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None if batch_idx % 5 == 4 else super().training_step(batch, batch_idx)

    return Sparse


def several_validations(kind: Kind) -> Kind:
    """Two validation loaders, whose metrics Lightning tells apart by a suffix."""

    class Several(kind):  # type: ignore[misc, valid-type]
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            super().validation_step(batch, batch_idx)
            if dataloader_idx == 0:
                self.log("val/loss", self.loss(batch), add_dataloader_idx=False)

    return Several


def two_losses(kind: Kind) -> Kind:
    """The training step takes a batch of each of two loaders."""

    class Two(kind):  # type: ignore[misc, valid-type]
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return super().training_step([torch.cat(pair) for pair in zip(*batch.values(), strict=True)], batch_idx)

    return Two


def without_validation_step(kind: Kind) -> Kind:
    """No validation at all."""

    class Blind(kind):  # type: ignore[misc, valid-type]
        validation_step = pl.LightningModule.validation_step

    return Blind


def usual() -> tuple[Any, Any]:
    """Sixteen batches of four samples, and one of validation."""
    return train_loader(), val_loader()


def none() -> tuple[Any, Any]:
    """The module has its own."""
    return None, None


def combined() -> tuple[Any, Any]:
    """Two training loaders side by side."""
    return CombinedLoader({"one": train_loader(2), "other": train_loader(2)}, mode="min_size"), val_loader()


def several() -> tuple[Any, Any]:
    """Two validation loaders."""
    return train_loader(), [val_loader(), val_loader()]


def without_validation() -> tuple[Any, Any]:
    """Training data alone."""
    return train_loader(), None


class Stream(IterableDataset[Any]):
    """Samples one after the other, without a length."""

    def __iter__(self) -> Iterator[Any]:
        return iter(regression_data())


def streamed() -> tuple[Any, Any]:
    """Training data of unknown length."""
    return DataLoader(Stream(), batch_size=4), val_loader()

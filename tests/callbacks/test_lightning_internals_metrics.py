"""What we rely on in Lightning's store of logged values."""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torchmetrics import Metric

from lightning_automations.lightning_internals import logged_metric_object
from tests.callbacks.helpers import make_trainer, train_loader, val_loader
from tests.callbacks.test_metrics import Logging


class _Looking(Callback):
    def __init__(self) -> None:
        self.found: dict[str, Metric | None] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        names = ("val/closeness", "val/closeness_epoch", "val/loss", "nothing")
        self.found = {name: logged_metric_object(trainer, name) for name in names}


def test_the_object_behind_a_logged_name_is_found() -> None:
    """An object is found under its plain and its epoch's name; a number and an unknown name have none."""
    looking, module = _Looking(), Logging()
    make_trainer([looking], max_epochs=1).fit(module, train_loader(), val_loader())
    assert looking.found == {
        "val/closeness": module.closeness,
        "val/closeness_epoch": module.closeness,
        "val/loss": None,
        "nothing": None,
    }

"""What Lightning calls for every Trainer of every program: gives automations to those that were written without them.

Lightning asks the entry points ``lightning.pytorch.callbacks_factory`` and ``pytorch_lightning.callbacks_factory``
whenever a Trainer is made. Nothing is loaded here unless the environment variable asks for it.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning.pytorch import Callback

__all__ = ["VARIABLE", "callbacks"]

VARIABLE = "LIGHTNING_AUTOMATIONS_CONFIG"
"""Names the file that ``build_callbacks`` reads. Not set, or empty: this package stays out."""


def callbacks() -> list[Callback]:
    """The callbacks that a new Trainer gets: none, or the one that adds the automations when a fit is set up.

    The automations of the file are added to each Trainer that fits, except those that it has already: passed by hand
    or by ``LightningModule.configure_callbacks``, also switched off (``enabled=False``). Validation, test and
    prediction never read the file. A relative path starts in the folder in which the Trainer was made.

    A file that is wrong raises ``ConfigError`` when the fit is set up, before anything is trained.

    Example:
        >>> callbacks()  # without LIGHTNING_AUTOMATIONS_CONFIG
        []
    """
    file = os.environ.get(VARIABLE)
    if not file:
        return []
    from lightning_automations.callbacks.joining import JoinAtSetup
    from lightning_automations.factory import build_callbacks

    path = Path.cwd() / file
    return [JoinAtSetup(partial(build_callbacks, path), source=f"{VARIABLE}={path}")]

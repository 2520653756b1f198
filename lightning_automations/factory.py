"""Builds the callbacks that a configuration asks for. Order and wiring stand in one table."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback

from lightning_automations.callbacks.base import AutomationCallback
from lightning_automations.callbacks.batch_size import DynamicBatchSizeOptimizer
from lightning_automations.callbacks.early_stopping import IntelligentEarlyStopping
from lightning_automations.callbacks.fallback_checks import problems_of_written_fallback
from lightning_automations.callbacks.gradient_clipping import AdaptiveGradientClipping
from lightning_automations.callbacks.learning_rate import IntelligentLearningRateScheduler
from lightning_automations.callbacks.loss_scheduling import DynamicLossScheduling
from lightning_automations.config.document import read_document
from lightning_automations.config.loading import Check, settings_of
from lightning_automations.config.names import REGISTERED
from lightning_automations.config.older_place import notes_on_older_place
from lightning_automations.core.learning_rate_settings import LearningRateSettings
from lightning_automations.core.settings import AutomationSettings
from lightning_automations.registration import find_installed_automations

__all__ = ["build_callbacks"]

log = logging.getLogger(__name__)

_CALLBACKS: Mapping[type[AutomationSettings], type[AutomationCallback]] = {
    callback.settings_class: callback
    for callback in (
        # Their order in the trainer. They find each other whatever it is; this one is that of the documentation.
        IntelligentLearningRateScheduler,
        DynamicBatchSizeOptimizer,
        AdaptiveGradientClipping,
        IntelligentEarlyStopping,
        DynamicLossScheduling,
    )
}

# What torch alone can say of a setting, told with all that the configuration finds itself.
_CHECKS: Mapping[type[AutomationSettings], Check] = {LearningRateSettings: problems_of_written_fallback}


def build_callbacks(source: str | os.PathLike[str] | Mapping[Any, Any]) -> list[Callback]:
    """The callbacks that a configuration asks for, ready for ``Trainer(callbacks=...)``.

    The section ``training_automations`` is looked for at the root and under ``train``. Of all other keys only
    ``dynamic_loss_scheduling`` is read, the older place of ``DynamicLossScheduling`` under ``train`` or at the root: it
    is built from there with a warning, with a section or without, unless the section names it or is turned off.
    An automation is built when the section names it, in CamelCase or snake_case, and it is not disabled; an empty
    value takes the defaults. A section that names none builds all but ``DynamicLossScheduling`` and those of others,
    which are known by ``register_automation`` or an entry point and stand behind ours. ``enabled: false``
    turns off one automation or the whole section. ``journal``, ``dry_run``, ``report`` and ``progress_bar`` on the
    section hold for every automation that does not write its own. Interpolations of OmegaConf are resolved against the
    whole configuration.

    Args:
        source: The path of a YAML file, a mapping, or a ``DictConfig``.

    Returns:
        One callback for each automation that is turned on; empty when all are off.

    Raises:
        ConfigError: Lists every problem of the section at once, with dotted path, file and line, what was expected,
            what came, and the nearest name that is known.

    Example:
        >>> callbacks = build_callbacks({"train": {"training_automations": {"early_stopping": {"patience": 500}}}})
        >>> callbacks[0].settings.patience
        500
    """
    find_installed_automations()
    document = read_document(source)
    written = dict(settings_of(document, checks=_CHECKS))
    for note in notes_on_older_place(document):
        log.warning(note)
    callbacks = {**_CALLBACKS, **REGISTERED}
    return [callback(**written[settings]) for settings, callback in callbacks.items() if settings in written]

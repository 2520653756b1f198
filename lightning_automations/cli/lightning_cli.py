"""LightningCLI with a section ``training_automations``, for programs on either package of Lightning."""

from __future__ import annotations

from argparse import SUPPRESS
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, get_type_hints

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from typing_extensions import TypedDict

from lightning_automations.callbacks.joining import join
from lightning_automations.config.document import read_document
from lightning_automations.config.names import SECTION, known_automations
from lightning_automations.core.documentation import constructor_docstring, setting_descriptions
from lightning_automations.core.errors import ConfigError
from lightning_automations.core.settings import SECTION_SETTINGS, AutomationSettings
from lightning_automations.factory import build_callbacks
from lightning_automations.registration import find_installed_automations

__all__ = ["AutomationsCLI", "AutomationsCLIMixin"]

if TYPE_CHECKING:
    _CLI = LightningCLI
else:
    # LightningCLI of either package stands behind it.
    _CLI = object


class AutomationsCLIMixin(_CLI):
    """Adds the section ``training_automations`` to a LightningCLI of ``lightning.pytorch`` or ``pytorch_lightning``.

    The section is that of ``build_callbacks``, under the same names. Not written, it adds nothing. Empty
    (``training_automations:``) or with ``enabled: true`` alone it adds all automations. What is not written counts as
    such, here, in ``--print_config`` and in the configuration that a run saves: a default may still be fitted to the
    length of the run.

    ``--training_automations.IntelligentEarlyStopping.help`` lists the settings of one automation, and
    ``--training_automations.IntelligentEarlyStopping.patience=500`` sets one of them.

    An automation that the trainer has already, from ``trainer.callbacks``, ``trainer_defaults`` or
    ``add_lightning_class_args``, is not added a second time: the one of the trainer holds. So does one of
    ``configure_callbacks``.

    What is wrong ends the program before anything is made, in the words of ``ConfigError``; a value of a wrong type
    and an unknown name inside an automation in those of jsonargparse.

    Raises:
        ModuleNotFoundError: If jsonargparse is not installed.

    Example:
        >>> from pytorch_lightning.cli import LightningCLI
        >>> class MyCLI(AutomationsCLIMixin, LightningCLI):
        ...     pass
    """

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        if find_spec("jsonargparse") is None:
            raise ModuleNotFoundError("AutomationsCLI needs jsonargparse: pip install 'lightning-automations[cli]'")
        return super().init_parser(**kwargs)

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        # Not add_arguments_to_parser, which programs override without calling it here.
        super().add_core_arguments_to_parser(parser)
        _add_section(parser)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        super().parse_arguments(parser, args)
        config = self._config_of_run()
        if SECTION not in config and self._section_is_empty(args):
            config[SECTION] = None
        try:
            self._automations()
        except ConfigError as error:
            parser.error(str(error))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        trainer = super().instantiate_trainer(**kwargs)
        join(trainer, self._automations())
        return trainer

    def _automations(self) -> list[Callback]:
        config = self._config_of_run()
        if SECTION not in config:
            return []
        return build_callbacks({SECTION: config.as_dict()[SECTION]})

    def _section_is_empty(self, args: object) -> bool:
        """Whether the section was given as ``{}``, which jsonargparse drops where it merges what was read."""
        files = [*(self.config.get("config") or ()), *(self._config_of_run().get("config") or ())]
        given = [args if isinstance(args, Mapping) else {}, *(_read(str(file.absolute)) for file in files)]
        below = [data.get(self.config.get("subcommand")) for data in given]
        places = [*given, *(data for data in below if isinstance(data, Mapping))]
        return any(place.get(SECTION) == {} for place in places)

    def _config_of_run(self) -> Any:
        """The arguments of the subcommand, or all of them in a program without."""
        subcommand = self.config.get("subcommand")
        return self.config[subcommand] if subcommand else self.config


class AutomationsCLI(AutomationsCLIMixin, LightningCLI):
    """``lightning.pytorch.cli.LightningCLI`` with the section ``training_automations``.

    Args and behaviour are those of LightningCLI; ``AutomationsCLIMixin`` says what the section does. A program on
    ``pytorch_lightning`` puts that mixin in front of its own LightningCLI.

    Example:
        ``python train.py fit --config config.yml``, where ``train.py`` ends with ``AutomationsCLI(Model, Data)`` and
        ``config.yml`` holds::

            trainer: {max_steps: 40000}
            training_automations:
              AdaptiveGradientClipping:
              IntelligentEarlyStopping: {monitor_metric: val/psnr, patience: 2000}
    """


def _add_section(parser: LightningArgumentParser) -> None:
    """Arguments without defaults: what is not written is not there."""
    group = parser.add_argument_group(
        "Automations of the training", "Not written: none. With one of these written: those that are named, or all."
    )
    hints, texts = get_type_hints(AutomationSettings), setting_descriptions(AutomationSettings)
    for name in SECTION_SETTINGS:
        text = f"Holds for all automations. {texts.get(name, '')}"
        group.add_argument(f"--{SECTION}.{name}", type=hints[name], default=SUPPRESS, help=text)
    find_installed_automations()
    known = known_automations()
    types = {settings: _mapping_type(settings) for settings in known.values()}
    for name, settings in known.items():
        text = "Its settings; empty: its defaults."
        if name != settings.automation:
            text = f"Another name of {settings.automation}."
        group.add_argument(f"--{SECTION}.{name}", type=types[settings] | None, default=SUPPRESS, help=text)


def _mapping_type(settings: type[AutomationSettings]) -> Any:
    """A mapping of settings, none of which has to be there. Ranges are left to the settings class."""
    hints = get_type_hints(settings)
    mapping = TypedDict(settings.automation, {name: hints[name] for name in settings.types()}, total=False)  # type: ignore[misc]
    mapping.__doc__ = constructor_docstring(settings, f"Settings of {settings.automation}.")
    return mapping


def _read(path: str) -> Mapping[Any, Any]:
    """What a file of YAML holds; nothing where it is of a kind that jsonargparse alone can read."""
    try:
        return read_document(path).data
    except ConfigError:
        return {}

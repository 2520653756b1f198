"""The directive ``settings``: prints the settings of an automation from their one declaration.

``{settings} AdaptiveGradientClipping`` prints those that the automation declares itself, ``{settings} shared`` those
that every automation has.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from typing_extensions import is_typeddict

from lightning_automations.config.names import SETTINGS_CLASSES
from lightning_automations.core.checking import expectation
from lightning_automations.core.documentation import setting_descriptions
from lightning_automations.core.settings import AutomationSettings

__all__ = ["SettingsDirective", "declared", "default_of", "remarks", "setup"]

_BY_NAME = {settings.automation: settings for settings in SETTINGS_CLASSES}


def declared(name: str) -> tuple[type[AutomationSettings], list[str]]:
    """The settings class that a name stands for, and which of its settings are printed, in their order.

    Args:
        name: An automation as the YAML calls it, or ``shared``.

    Raises:
        KeyError: If there is no such automation.

    Example:
        >>> declared("shared")[1][:3]
        ['enabled', 'max_adjustments', 'fallback']
    """
    if name == "shared":
        return AutomationSettings, list(AutomationSettings.types())
    settings = _BY_NAME[name]
    own, shared = inspect.get_annotations(settings), AutomationSettings.types()
    # what is its own first, then its own values of what all have
    return settings, sorted((one for one in settings.types() if one in own), key=shared.__contains__)


def default_of(settings: type[AutomationSettings], name: str) -> str:
    """The default as YAML writes it, and how far it is shortened where the run is short.

    Example:
        >>> default_of(_BY_NAME["IntelligentEarlyStopping"], "patience")
        '2000, not written at most 30 % of the steps of the run'
    """
    text = _yaml(getattr(settings(), name))
    for shares, unit in ((settings.shares_of_steps, "steps"), (settings.shares_of_epochs, "epochs")):
        if name in shares:
            text += f", not written at most {100 * shares[name]:g} % of the {unit} of the run"
    return text


def remarks(settings: type[AutomationSettings]) -> str:
    """What the docstring says beside its first sentence, the arguments, the errors and the example.

    Example:
        >>> remarks(_BY_NAME["IntelligentEarlyStopping"])[:38]
        'All counts but ``min_epochs`` are in o'
        >>> remarks(AutomationSettings)
        'Types and ranges are checked where the object is made.'
    """
    blocks = re.split(r"\n\n(?! )", inspect.cleandoc(settings.__doc__ or ""))
    prose = [block for block in blocks if not re.match(r"\w+:\n", block)]
    _, _, first = prose[0].partition(". ")
    return "\n\n".join([first, *prose[1:]]).strip()


class SettingsDirective(SphinxDirective):
    """Name, default, what is allowed and what it means, then remarks. A setting without a description is an error."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        try:
            settings, names = declared(name)
        except KeyError:
            raise self.error(f"expected one of {', '.join(_BY_NAME)}, shared, got {name!r}") from None
        texts = setting_descriptions(settings)
        missing = [one for one in names if one not in texts]
        if missing:
            raise self.error(f"no description of {', '.join(missing)} in the docstring of {settings.__name__}")
        self.env.note_dependency(inspect.getfile(settings))
        entries = nodes.definition_list("", *self._entries(settings, names, texts), classes=["settings"])
        return [entries, *self.parse_text_to_nodes(remarks(settings))]

    def _entries(
        self, settings: type[AutomationSettings], names: list[str], texts: Mapping[str, str]
    ) -> Iterator[nodes.Node]:
        for name in names:
            place = settings.automation or self.arguments[0]
            term = nodes.term("", "", nodes.literal("", name), ids=[f"{place}.{name}"])
            allowed = _allowed(settings.types()[name])
            facts = nodes.paragraph("", "", *_facts(default_of(settings, name), allowed), classes=["setting-facts"])
            body = nodes.definition("", facts, *self.parse_text_to_nodes(texts[name]))
            yield nodes.definition_list_item("", term, body)


def _facts(default: str, allowed: str) -> Iterator[nodes.Node]:
    value, comma, fitted = default.partition(", not written")
    yield nodes.inline("", "default ")
    yield nodes.literal("", value)
    yield nodes.inline("", f"{comma}{fitted}; {allowed}")


def _allowed(hint: Any) -> str:
    """What may be written, in the words of the messages that refuse what may not.

    Example:
        >>> _allowed(AutomationSettings.types()["max_adjustments"])
        'a whole number at least 0 or null'
    """
    return "a mapping" if is_typeddict(hint) else expectation(hint).replace("'", "")


def _yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_yaml(one)}" for name, one in value.items()) + "}"
    return str(value)


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    app.add_directive("settings", SettingsDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

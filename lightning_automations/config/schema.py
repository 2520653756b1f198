"""JSON Schema of the section, from the one declaration of each setting, for completion and checks in editors."""

from __future__ import annotations

from math import inf
from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from lightning_automations.config.names import REGISTERED, SECTION, SETTINGS_CLASSES, known_automations
from lightning_automations.core.settings import SECTION_SETTINGS, AutomationSettings

__all__ = ["section_schema"]

_DRAFT = "http://json-schema.org/draft-07/schema#"
_REFERENCE = "#/definitions/{model}"


class _Strict(GenerateJsonSchema):
    """Settings and fallbacks take no names but their own; everything else is as pydantic has it."""

    def dataclass_schema(self, schema: Any) -> dict[str, Any]:
        return {**super().dataclass_schema(schema), "additionalProperties": False}

    def typed_dict_schema(self, schema: Any) -> dict[str, Any]:
        return {**super().typed_dict_schema(schema), "additionalProperties": False}

    def float_schema(self, schema: Any) -> dict[str, Any]:
        # JSON has no infinity; that a number is finite goes without saying there.
        return {name: value for name, value in super().float_schema(schema).items() if value not in (inf, -inf)}


def section_schema() -> dict[str, Any]:
    """JSON Schema, draft 7, of a document that holds the section at its root, under ``train`` or under ``fit``.

    Names, types and ranges are those that ``build_callbacks`` checks; what holds between two settings (a minimum
    above a maximum) is beyond a schema. Automations of others are in it once they are registered.

    Example:
        >>> section_schema()["definitions"]["section"]["properties"]["journal"]["default"]
        'auto'
    """
    adapters: list[tuple[str, Literal["validation"], TypeAdapter[Any]]] = [
        (settings.automation, "validation", TypeAdapter(settings)) for settings in (*SETTINGS_CLASSES, *REGISTERED)
    ]
    schemas, definitions = TypeAdapter.json_schemas(adapters, schema_generator=_Strict, ref_template=_REFERENCE)
    of_settings = {automation: schema for (automation, _), schema in schemas.items()}
    shared = TypeAdapter(AutomationSettings).json_schema()["properties"]
    section = {
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": {
            **{name: shared[name] for name in SECTION_SETTINGS},
            **{
                name: {"anyOf": [of_settings[kind.automation], {"type": "null"}]}
                for name, kind in known_automations().items()
            },
        },
    }
    place = {"$ref": "#/definitions/section"}
    container = {"type": "object", "properties": {SECTION: place}}
    return {
        "$schema": _DRAFT,
        "title": f"A training configuration with the section {SECTION}",
        "type": "object",
        "properties": {SECTION: place, "train": container, "fit": container},
        "definitions": {"section": section, **definitions.get("$defs", {})},
    }

"""The JSON Schema (draft 2020-12) of a config, for editors: settings with their types, bounds, defaults and descriptions.

A schema cannot say everything: what goes together, whether a file is there and which names a plugin brings is told by
``skillneurons validate`` alone, and what a task's options and its own files must hold by the task when its data is loaded. Names that are known here are offered, others are allowed; the options of a known task are closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skillneurons.registry import Registry
from skillneurons.setting_types import TEXT
from skillneurons.settings import Config

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def config_schema(registry: Registry) -> dict[str, Any]:
    """Return the schema of a config, with the names that the plugins of a registry bring."""
    schema = Config.model_json_schema()
    sections, settings = schema.pop("$defs"), schema["properties"]
    for name, section in [*sections.items(), ("Config", schema)]:
        for setting in section["properties"].values():
            setting.pop("title", None)
        section["title"] = name.removesuffix("Settings").lower()
    schema["title"], schema["description"] = "skillneurons config", "What skillneurons run is to run, and how."
    settings["tasks"] = _tasks(registry, settings["tasks"]["description"])
    settings["metrics"]["items"] = _offered(registry.metrics)
    settings["models"]["items"] = _offered(("pocket", "pocket-small"))
    sections["AttributionSettings"]["properties"]["statistic"] |= _offered(registry.attributions)
    on_or_off = sections["ModelSettings"]["properties"]["chat_template"]  # which YAML 1.1 reads as true and false
    on_or_off |= {"enum": [*on_or_off["enum"], True, False]}
    del on_or_off["type"]
    found: dict[str, Any] = _ended({"$schema": DRAFT, **schema, "$defs": sections})
    return found


def _ended(schema: Any) -> Any:
    """Return a schema whose patterns end at the end of the text for every reader: to some ``$`` is before a last newline too."""
    if isinstance(schema, list):
        return [_ended(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: f"{value[:-1]}(?!\\n)$"
        if key == "pattern" and isinstance(value, str) and value.endswith("$")
        else _ended(value)
        for key, value in schema.items()
    }


def _offered(names: Mapping[str, Any] | tuple[str, ...]) -> dict[str, Any]:
    """Return the schema of a name: one of those that are known, for an editor to offer, or any other."""
    return {"anyOf": [{"enum": sorted(names)}, {"type": "string", "pattern": TEXT}]}


def _tasks(registry: Registry, description: str) -> dict[str, Any]:
    known = {name: found.value for name, found in sorted(registry.tasks.items())}
    options = {
        name: {
            "description": task.description,
            "anyOf": [
                {"type": "null"},
                {
                    "type": "object",
                    "properties": {option: _default(value) for option, value in sorted(task.options.items())},
                    "additionalProperties": False,
                },
            ],
        }
        for name, task in known.items()
    }
    alone = tuple(name for name, task in known.items() if not task.family)
    listed = {"type": "array", "items": _offered(alone), "minItems": 1, "uniqueItems": True}
    mapped = {
        "type": "object",
        "properties": options,
        "additionalProperties": {"type": ["object", "null"]},
        "minProperties": 1,
    }
    return {"description": description, "anyOf": [listed, mapped]}


def _default(value: Any) -> dict[str, Any]:
    """Return the schema of an option: whatever its task takes, with its default where JSON can say it."""
    simple = isinstance(value, (str, int, float, bool, list, dict, type(None)))
    return {"default": value} if simple else {"default": list(value)} if isinstance(value, tuple) else {}

"""Settings given one by one as ``KEY=VALUE`` (after ``--set``), the key a dotted path, the value YAML."""

from __future__ import annotations

import difflib
from collections.abc import MutableMapping
from typing import Any

import yaml
from skillneurons.config_source import read_value, what_is_wrong
from skillneurons.yaml_text import shown

EXAMPLE = "write KEY=VALUE, for example prompt.steps=100"


def override(values: dict[str, Any], text: str, places: dict[str, str], faults: list[str]) -> None:
    """Apply one ``KEY=VALUE``; a task's option is taken only for a task that is to run."""
    key, equals, written = text.partition("=")
    parts = parts_of(key, values.get("tasks"))
    place = f"--set {text}" if text.isprintable() else f"--set {text!r}"
    if not equals or not all(parts):
        faults.append(f"{place}: {EXAMPLE}")
        return
    value, problem = read(written)
    if problem:
        faults.append(f"{place}: {problem}")
        return
    if parts[0] == "tasks" and len(parts) > 1:
        chosen = named_tasks(values)
        if not isinstance(chosen, dict) or parts[1] not in chosen:
            names = list(map(str, chosen)) if isinstance(chosen, (dict, list)) else []
            near = difflib.get_close_matches(parts[1], names, n=1)
            meant = f"did you mean {near[0]!r}? " if near else ""
            faults.append(f"{place}: task {parts[1]!r} is not to run; {meant}chosen: {', '.join(names) or 'none'}")
            return
    put(values, parts, value, place, places, faults)


def read(text: str) -> tuple[Any, str]:
    """Return a YAML value and nothing, or None and what is wrong with it."""
    try:
        return read_value(text), ""
    except yaml.YAMLError as error:
        problem = what_is_wrong(error, text)[1]
        return (
            None,
            f"the value is not valid YAML: {problem}{'; quote it if it is text' * problem.startswith('expected')}",
        )


def named_tasks(values: dict[str, Any]) -> Any:
    """Return the tasks that are to run; a list of names becomes a mapping, so that they can have options."""
    chosen = values.get("tasks")
    if isinstance(chosen, list) and all(isinstance(name, str) for name in chosen) and len(set(chosen)) == len(chosen):
        chosen = values["tasks"] = {name: {} for name in chosen}
    return chosen


def put(
    values: dict[str, Any],
    parts: list[str],
    value: Any,
    place: str,
    places: MutableMapping[str, str],
    faults: list[str],
) -> None:
    """Put a value where a path leads, and note the place that it was given at, for itself and all that it replaces."""
    target = values
    for index, part in enumerate(parts[:-1]):
        if target.get(part) is None:
            target[part] = {}
        target = target[part]
        if not isinstance(target, dict):
            faults.append(
                f"{place}: {'.'.join(parts[: index + 1])}: {shown(target)} is no section, it has no {parts[-1]!r}"
            )
            return
    target[parts[-1]] = value
    for end in range(1, len(parts)):
        places.setdefault(".".join(parts[:end]), place)
    key = ".".join(parts)
    forget(places, key)
    places[key] = place


def forget(places: MutableMapping[str, str], key: str) -> None:
    """Forget where the parts of a value were given that another one replaces."""
    for inner in [one for one in places if one.startswith(f"{key}.")]:
        del places[inner]


def parts_of(key: str, tasks: Any) -> list[str]:
    """Split a dotted path; the name of a task that is to run may have dots of its own."""
    names = [name for name in tasks if isinstance(name, str)] if isinstance(tasks, (dict, list)) else []
    for name in sorted(names, key=len, reverse=True):
        if key == f"tasks.{name}":
            return ["tasks", name]
        if key.startswith(f"tasks.{name}."):
            return ["tasks", name, *key.removeprefix(f"tasks.{name}.").split(".")]
    return key.split(".")

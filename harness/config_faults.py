"""What is wrong with a config, one line per fault: place, key, what is wrong, what would be right.

``places`` maps a dotted key path to where it was given (``my.yaml:3``, ``--set prompt.lr=fast``,
``command line``); the empty path stands for the config as a whole.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from skillneurons.errors import UnknownNameError
from skillneurons.registry import Registry


def place_of(key: str, places: Mapping[str, str]) -> str:
    """Return where a key was given, or else the nearest section around it."""
    parts = key.split(".")
    for end in range(len(parts), 0, -1):
        if ".".join(parts[:end]) in places:
            return places[".".join(parts[:end])]
    return places.get("", "config")


def invalid_value(item: Mapping[str, Any], places: Mapping[str, str], model: type[BaseModel]) -> str:
    """Return the line for one fault that pydantic found in ``model``."""
    location = [str(part) for part in item["loc"]]
    key = ".".join(location)
    where = f"{place_of(key, places)}: {key}"
    if item["type"] == "extra_forbidden":
        return f"{where}: unknown setting; {_nearest(location[-1], _settings(model, location[:-1]))}"
    if item["type"] == "missing":
        return f"{where}: missing; name at least one"
    if item["type"] == "value_error":
        return f"{where}: {item['msg'].removeprefix('Value error, ')}"
    return f"{where}: {_rule(item)}, got {item['input']!r}"


def unknown_names(values: Mapping[str, Any], places: Mapping[str, str], registry: Registry) -> list[str]:
    """Return a line for each task, metric, statistic and task option that nobody knows.

    What is not of the right type is passed over here: ``invalid_value`` tells it.
    """
    tasks, section = values.get("tasks"), values.get("attribution")
    asked: list[tuple[str, str, Callable[[str], Any]]] = []
    asked += [(f"tasks.{name}", name, registry.task) for _, name in _names(tasks)]
    asked += [(f"metrics.{index}", name, registry.metric) for index, name in _names(values.get("metrics"))]
    if isinstance(section, dict) and isinstance(section.get("statistic"), str):
        asked.append(("attribution.statistic", section["statistic"], registry.attribution))
    faults = []
    for key, name, look_up in asked:
        try:
            found = look_up(name)
        except UnknownNameError as error:
            faults.append(f"{place_of(key, places)}: {key}: {error}")
            continue
        options = tasks.get(name) if key.startswith("tasks.") and isinstance(tasks, dict) else None
        for option in options if isinstance(options, dict) else ():
            if option not in found.options:
                full = f"{key}.{option}"
                hint = _nearest(str(option), list(found.options))
                faults.append(f"{place_of(full, places)}: {full}: unknown option of the task; {hint}")
    if isinstance(section, dict) and "attribution.nuisance" in places:
        faults += [
            f"{place_of('attribution.nuisance', places)}: attribution.nuisance: {fault}"
            for _, name in _names(section.get("nuisance"))
            if (fault := _unknown_column(name, registry))
        ]
    causal = values.get("causal")
    if isinstance(causal, dict) and isinstance(causal.get("columns"), list):
        faults += [
            f"{place_of('causal.columns', places)}: causal.columns: {fault}"
            for _, name in _names(causal["columns"])
            if (fault := _unknown_column(name, registry))
        ]
    return faults


def _unknown_column(name: str, registry: Registry) -> str:
    """Return what is wrong with the name of a column that no task has, to run or not, or nothing."""
    try:
        metric = registry.metric(name.partition(".")[0])
        known = {column for task in registry.tasks for column in metric.columns_for(registry.task(task))}
    except UnknownNameError as error:
        return str(error)
    return "" if name in known else f"no task has a column {name!r}; {_nearest(name, sorted(known))}"


def _names(value: Any) -> Iterable[tuple[int, str]]:
    """Yield the position and text of each name in a list or mapping of names."""
    if isinstance(value, (list, dict)):
        yield from ((index, name) for index, name in enumerate(value) if isinstance(name, str))


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"


def _rule(item: Mapping[str, Any]) -> str:
    """Return what a value should be, in the words of YAML rather than of Python."""
    if item["loc"] == ("tasks",) and item["type"] == "dict_type":
        return "input should be a list of names, or a mapping from names to options"
    if item["type"] in {"dict_type", "model_type"}:
        return "input should be a mapping"
    if item["type"] == "too_short":
        return f"input should have at least {item['ctx']['min_length']} of them"
    if item["type"] == "too_long":
        return f"input should have at most {item['ctx']['max_length']} of them"
    if item["type"] == "string_pattern_mismatch":
        return "input should be auto, cpu, cuda or cuda:N"  # device is the one setting with a pattern
    message: str = item["msg"]
    return f"{message[0].lower()}{message[1:]}"


def _settings(model: Any, section: Sequence[str]) -> list[str]:
    for name in section:
        model = model.model_fields[name].annotation
    return list(model.model_fields)

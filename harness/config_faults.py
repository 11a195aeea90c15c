"""What is wrong with a config, one line per fault: place, key, what is wrong, what would be right.

``places`` maps a dotted key path to where it was given (``my.yaml:3``, ``--set prompt.lr=fast``, ``SKILLNEURONS_PROMPT__LR``,
``command line``); the empty path stands for the config as a whole.
"""

from __future__ import annotations

import datetime
import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from skillneurons.contradictions import contradictions
from skillneurons.errors import PluginError, UnknownNameError
from skillneurons.model_source import model_fault
from skillneurons.neutral import NEUTRAL
from skillneurons.plugin_loading import sources
from skillneurons.registry import Registry
from skillneurons.setting_types import DEVICE, TEXT
from skillneurons.settings import DEFAULTS, all_settings
from skillneurons.yaml_text import shown

EITHER = {  # settings of two types, of which pydantic says everything twice
    ("attribution", "batch_size"): "a whole number greater than 0, or auto",
    ("causal", "columns"): "primary, all, or a list of full names of columns",
}
SURE = 0.8  # a name as near as this is what was meant; one less near may be


def place_of(key: str, places: Mapping[str, str]) -> str:
    """Return where a key was given, or else the nearest section around it."""
    parts = key.split(".")
    for end in range(len(parts), 0, -1):
        if ".".join(parts[:end]) in places:
            return places[".".join(parts[:end])]
    return places.get("", "config")


def invalid_values(error: ValidationError, values: Mapping[str, Any], places: Mapping[str, str]) -> list[str]:
    """Return the lines for what pydantic found in the values of a config."""
    lines = []
    for found in error.errors(include_url=False):
        item = {**found, "input": values["tasks"]} if found["loc"] == ("tasks",) and "tasks" in values else found
        location, either = [str(part) for part in item["loc"]], tuple(item["loc"][:2])
        if item["type"] == "contradiction":  # told by ``impossible``, whatever else is wrong
            continue
        if either in EITHER:
            value = values[either[0]][either[1]]
            if isinstance(value, list) or (isinstance(value, int) and not isinstance(value, bool)):
                if location[2].startswith("literal"):
                    continue
                del location[2]  # which of the two types
            if not isinstance(value, list):
                whole = (
                    f"input should be {EITHER[either]}, got {shown(value)}{_meant(value, ('auto', 'primary', 'all'))}"
                )
                lines.append(f"{_where(location[:2], places)}: {whole}")
                continue
        lines.append(_invalid(item, location, places))
    return list(dict.fromkeys(lines))


def impossible(values: Mapping[str, Any], places: Mapping[str, str]) -> list[str]:
    """Return a line for each value that does not go with another."""
    return [f"{place_of(key, places)}: {key}: {fault}" for key, fault in contradictions(values, DEFAULTS)]


def unknown_names(
    values: Mapping[str, Any], given: Mapping[str, Any], places: Mapping[str, str], registry: Registry
) -> list[str]:
    """Return a line for each task, metric, statistic, column, task option and file that nobody knows.

    ``given`` are the values without defaults: a default column that no plugin brings here is no fault. What is not of the
    right type is passed over: ``invalid_values`` tells it.
    """
    tasks, section = values.get("tasks"), _section(values, "attribution")
    asked: list[tuple[str, str, Callable[[str], Any]]] = []
    asked += [(f"tasks.{name}", name, registry.task) for _, name in _names(tasks)]
    asked += [(f"metrics.{index}", name, registry.metric) for index, name in _names(values.get("metrics"))]
    if isinstance(section.get("statistic"), str):
        asked.append(("attribution.statistic", section["statistic"], registry.attribution))
    faults: list[tuple[str, str]] = []
    for key, name, look_up in asked:
        try:
            found = look_up(name)
        except UnknownNameError as error:
            faults.append((key, str(error)))
            continue
        if key.startswith("tasks.") and found.family:
            faults.append((key, f"it stands for many tasks; write one of them, {name}/NAME"))
        options = tasks.get(name) if key.startswith("tasks.") and isinstance(tasks, Mapping) else None
        if isinstance(options, Mapping):
            faults += _unknown_options(key, options, found.options, registry)
    for key in ("attribution.nuisance", "causal.columns"):
        names = _section(given, key.partition(".")[0]).get(key.partition(".")[2])
        for index, name in _names(names if isinstance(names, list) else None):
            if fault := _unknown_column(name, registry):
                faults.append((f"{key}.{index}", fault))
    faults += _missing(values)
    return [f"{_where(key.split('.'), places)}: {fault}" for key, fault in faults]


def _section(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = values.get(name)
    return section if isinstance(section, Mapping) else {}


def _unknown_options(
    key: str, options: Mapping[Any, Any], known: Mapping[str, Any], registry: Registry
) -> list[tuple[str, str]]:
    """Return (key, fault) of each option that a task, or the grader that it names, does not have."""
    faults = [
        (f"{key}.{option}", f"unknown option of the task; {nearest(str(option), list(known))}")
        for option in options
        if option not in known
    ]
    name, given = options.get("grader", known.get("grader")), options.get("grader_options")
    if "grader" not in known or not isinstance(name, str):
        return faults
    try:
        grader = registry.grader(name)
    except UnknownNameError as error:
        return [*faults, (f"{key}.grader", str(error))]
    for option in given if isinstance(given, Mapping) else ():
        if option not in grader.options:
            hint = nearest(str(option), list(grader.options))
            faults.append((f"{key}.grader_options.{option}", f"unknown option of grader {name!r}; {hint}"))
    return faults


def _missing(values: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Yield (key, fault) of each file and folder that is named and is not there."""
    named = [(f"plugins.{index}", name, _no_plugin) for index, name in _list(values.get("plugins"))]
    named += [(f"models.{index}", name, model_fault) for index, name in _list(values.get("models"))]
    text, output = _section(values, "causal").get("neutral_text"), values.get("output")
    for key, given, look in (("causal.neutral_text", text, _no_text), ("output", output, _a_file)):
        named += [(key, given, look)] if isinstance(given, str) and given.strip() else []
    for key, name, look in named:
        try:
            fault = look(name)
        except (OSError, ValueError) as error:  # a name that no file can have: too long, or with a NUL
            fault = f"{shown(name, 1000)} cannot be the name of a file ({getattr(error, 'strerror', None) or error})"
        if fault:
            yield key, fault


def _no_plugin(name: str) -> str:
    try:
        for _ in sources([name]):
            pass
    except PluginError as error:
        return str(error)
    return ""


def _a_file(name: str) -> str:
    return f"{name!r} is a file; name a folder" if Path(name).is_file() else ""


def _no_text(name: str) -> str:
    if name in NEUTRAL or Path(name).is_file():
        return ""
    return f"no file {name!r}; give a text file, or one of {', '.join(NEUTRAL)}{_meant(name, NEUTRAL)}"


def _list(value: Any) -> Iterable[tuple[int, str]]:
    return ((index, name) for index, name in _names(value if isinstance(value, list) else None) if name.strip())


def _unknown_column(name: str, registry: Registry) -> str:
    """Return what is wrong with the name of a column that no task has, to run or not, or nothing."""
    try:
        metric = registry.metric(name.partition(".")[0])
        known = {column for task in registry.tasks for column in metric.columns_for(registry.task(task))}
    except UnknownNameError as error:
        return str(error)
    return "" if name in known else f"no task has a column {name!r}; {nearest(name, sorted(known))}"


def _names(value: Any) -> Iterable[tuple[int, str]]:
    """Yield the position and text of each name in a list or mapping of names."""
    if isinstance(value, (list, Mapping)):
        yield from ((index, name) for index, name in enumerate(value) if isinstance(name, str))


def nearest(name: str, known: Sequence[str]) -> str:
    """Return a question for the nearest known name, or all that are known."""
    near = _near(name, known)
    return f"did you mean {near!r}?" if near else f"known: {', '.join(known) or 'none'}"


def _near(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known name that is nearest, capitals and dashes set aside."""
    plain = {one.lower().replace("-", "_"): one for one in known}
    near = difflib.get_close_matches(name.lower().replace("-", "_"), plain, n=1, cutoff=cutoff)
    return plain[near[0]] if near else None


def _meant(value: Any, known: Iterable[str]) -> str:
    near = _near(value, known) if isinstance(value, str) else None
    return f"; did you mean {near!r}?" if near else ""


def _unknown_setting(location: Sequence[str]) -> str:
    """Return what was probably meant: a name near it in the same section, or of that name in another one."""
    *section, name = location
    everywhere = [key for key, _ in all_settings()]
    prefix = ".".join([*section, ""])
    here = [key.removeprefix(prefix) for key in everywhere if key.startswith(prefix)]
    here = [key for key in here if "." not in key]
    if ".".join(location) in everywhere:
        first, _, rest = name.rpartition(".")
        return f"dotted paths are for --set; in a file write {first.replace('.', ': {')}: {{{rest}: ...}}"
    if near := _near(name, here, SURE):
        return f"did you mean {near!r}?"
    by_name: dict[str, list[str]] = {}
    for key in everywhere:
        by_name.setdefault(key.rpartition(".")[2], []).append(key)
    elsewhere = by_name.get(_near(name, by_name, SURE) or "")
    if elsewhere:
        return f"did you mean {' or '.join(map(repr, elsewhere))}?"
    return nearest(name, here)


def _where(location: Sequence[str], places: Mapping[str, str]) -> str:
    key = ".".join(location)
    return f"{place_of(key, places)}: {key if key.isprintable() and key.strip() else repr(key)}"


def _invalid(item: Mapping[str, Any], location: Sequence[str], places: Mapping[str, str]) -> str:
    """Return the line for one fault that pydantic found."""
    kind = item["type"]
    if kind == "doubled":
        index = item["ctx"]["index"]
        return f"{_where([*location, str(index)], places)}: {shown(item['input'][index])} {item['msg']}"
    if kind == "invalid_key" or location[-1] == "[key]":
        section = location[: -2 if location[-1] == "[key]" else -1]
        place = place_of(".".join([*section, str(item["input"])]), places)
        key = ".".join([*section, shown(item["input"])])
        return f"{place}: {key}: a name is text, got {shown(item['input'])}; quote it"
    where = _where(location, places)
    if kind == "extra_forbidden":
        return f"{where}: unknown setting; {_unknown_setting(location)}"
    if kind == "missing":
        return f"{where}: missing; name at least one"
    return f"{where}: {_rule(item)}, got {shown(item['input'])}{_remedy(item, location)}"


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
        pattern = {DEVICE: "auto, cpu, cuda or cuda:N", TEXT: "one line of text, not blank, without control characters"}
        return f"input should be {pattern[item['ctx']['pattern']]}"
    message: str = item["msg"]
    return f"{message[0].lower()}{message[1:]}"


def _remedy(item: Mapping[str, Any], location: Sequence[str]) -> str:
    """Return what to write instead, where that can be told."""
    value, kind = item["input"], item["type"]
    scalar = isinstance(value, (str, bool, int, float))
    remedy = ""
    if kind == "literal_error":
        remedy = _meant(value, re.findall(r"'([^']+)'", item["ctx"]["expected"]))
    elif kind == "list_type" and scalar:
        remedy = f"; write [{shown(value).strip(chr(39))}]"
    elif kind == "string_type" and (scalar or isinstance(value, datetime.date)):
        remedy = "; quote it"
    elif kind == "bool_type":
        remedy = "; write true or false"
    elif kind in {"int_type", "float_type"} and isinstance(value, str) and _is_number(value):
        remedy = "; take the quotes away"
    elif kind == "int_type" and isinstance(value, float) and value.is_integer():
        remedy = f"; write {int(value)}"
    elif location == ["model"] and isinstance(value, str):
        remedy = "; did you mean 'models'?"
    return remedy


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False

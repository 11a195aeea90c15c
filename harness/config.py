"""The config of a run, and every fault of it at once.

A setting is a dotted path, in YAML and after ``--set`` alike. Sources, later ones win: the defaults of ``settings``, a YAML
file or a built-in config (``demo``, ``paper``), the environment where it is given, the command line's lists, ``--set``.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from skillneurons.config_environment import PREFIX, apply_variables, read_environment
from skillneurons.config_faults import impossible, invalid_values, unknown_names
from skillneurons.config_overrides import forget, override, read
from skillneurons.config_source import read_yaml
from skillneurons.errors import ConfigError, PluginError
from skillneurons.plugin_loading import sources
from skillneurons.registry import Registry
from skillneurons.settings import (
    AttributionSettings,
    CacheSettings,
    CausalSettings,
    Config,
    DataSettings,
    ExecutorSettings,
    ModelSettings,
    PromptSettings,
)
from skillneurons.yaml_text import shown

__all__ = [
    "BUILT_IN",
    "AttributionSettings",
    "CacheSettings",
    "CausalSettings",
    "Config",
    "DataSettings",
    "ExecutorSettings",
    "ModelSettings",
    "PromptSettings",
    "built_in_config",
    "config_file",
    "load_config",
    "plugins_of",
]

BUILT_IN = ("demo", "paper")
DEFAULT = "demo"


def built_in_config(name: str) -> Path:
    """Return the file of a built-in config."""
    return Path(__file__).parent / "configs" / f"{name}.yaml"


def config_file(source: str | None) -> Path:
    """Return the file of a config given by name or path; raise ConfigError if there is none."""
    name = source or DEFAULT
    path = built_in_config(name) if name in BUILT_IN else Path(name)
    try:
        found = path.is_file()
    except OSError:  # no file can have such a name
        found = False
    if not found:
        near = difflib.get_close_matches(name, BUILT_IN, n=1)
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(
            f"no config file {shown(name, 1000)}; {meant}give a YAML file, or a built-in one: {', '.join(BUILT_IN)}"
        )
    return path


def plugins_of(
    source: str | None,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    *,
    blank: bool = False,
) -> list[str]:
    """Return the plugins a config names and that are there, before anything else of it is checked.

    What is wrong with the others, or with the list, ``load_config`` tells with every other fault.
    """
    plugins = None if blank else read_yaml(config_file(source))[0].get("plugins")
    given = (environ or {}).get(f"{PREFIX}PLUGINS")
    texts = [] if given is None else [given]
    texts += [text for key, _, text in (one.partition("=") for one in overrides) if key == "plugins"]
    for text in texts:
        plugins, _ = read(text)
    return [name for name in plugins if isinstance(name, str) and _there(name)] if isinstance(plugins, list) else []


def _there(name: str) -> bool:
    try:
        return bool(list(sources([name])))
    except (PluginError, OSError, ValueError):  # the last two: no file can have such a name
        return False


def load_config(
    source: str | None = None,
    overrides: Sequence[str] = (),
    *,
    models: Sequence[str] = (),
    tasks: Sequence[str] = (),
    metrics: Sequence[str] = (),
    seeds: Sequence[int] = (),
    limit: int | None = None,
    device: str | None = None,
    output: str | None = None,
    plugins: Sequence[str] = (),
    registry: Registry | None = None,
    blank: bool = False,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Return the config of a file (or built-in name), changed by lists and by ``KEY=VALUE`` overrides.

    ``tasks`` chooses tasks and keeps the options the file gives them; ``blank`` begins with the defaults
    alone instead of a file. ``environ`` are environment variables that may give settings (``SKILLNEURONS_PROMPT__STEPS``):
    the command gives ``os.environ``, while from Python nothing is read that is not given. With a ``registry`` the names
    of tasks, metrics and task options are checked too. Raise one ConfigError that lists every fault.
    """
    values: dict[str, Any] = {}
    places, faults, file = {"": "command line"}, [], None
    if not blank:
        path = config_file(source)
        values, lines, doubled = read_yaml(path)
        file = path.name if source in (None, *BUILT_IN) else str(path)
        places = {"": file} | {key: f"{file}:{line}" for key, line in lines.items()}
        faults += doubled
    variables = read_environment(environ or {}, [*_names(values.get("tasks")), *tasks], registry, faults)
    apply_variables(values, [one for one in variables if not one.of_a_task], places, faults)
    lists = {"models": models, "metrics": metrics, "seeds": seeds, "plugins": plugins}
    given: dict[str, Any] = {key: list(entries) for key, entries in lists.items() if entries}
    single = {"limit": limit, "device": device, "output": output}
    given |= {key: value for key, value in single.items() if value is not None}
    values |= given
    for key in given:
        forget(places, key)
        places[key] = "command line"
    _place_names(values.get("tasks"), places)
    if tasks:
        named = values.get("tasks")
        options: dict[Any, Any] = named if isinstance(named, dict) else {}
        values["tasks"] = {name: {} if options.get(name) is None else options[name] for name in tasks}
        places |= {f"tasks.{name}": "command line" for name in tasks if f"tasks.{name}" not in places}
    apply_variables(values, [one for one in variables if one.of_a_task], places, faults)
    for text in overrides:
        override(values, text, places, faults)
    _place_names(values.get("tasks"), places)
    config = None
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        faults += invalid_values(error, values, places)
    faults += impossible(values, places)
    if registry is not None:
        faults += unknown_names(values if config is None else config.model_dump(), values, places, registry)
    if faults or config is None:
        raise ConfigError("\n".join(sorted(faults, key=lambda fault: _line(fault, file))))
    return config


def _names(tasks: Any) -> list[str]:
    return [name for name in tasks if isinstance(name, str)] if isinstance(tasks, (dict, list)) else []


def _place_names(tasks: Any, places: dict[str, str]) -> None:
    """Note where each task of a list of names was given, by its name too."""
    for index, name in enumerate(tasks if isinstance(tasks, list) else ()):
        if isinstance(name, str) and f"tasks.{index}" in places:
            places.setdefault(f"tasks.{name}", places[f"tasks.{index}"])


def _line(fault: str, file: str | None) -> int:
    """Return the line of the file a fault stands on, 0 where it was given elsewhere."""
    number = fault.removeprefix(f"{file}:").partition(":")[0]
    return int(number) if number.isdecimal() and fault.startswith(f"{file}:") else 0

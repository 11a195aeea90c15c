"""The settings of a run: what they are, their defaults, and every fault of a config at once.

A setting is a dotted path, in YAML and after ``--set`` alike. Sources, later ones win: the defaults
below, a YAML file or a built-in config (``demo``, ``paper``), the command line's lists, ``--set``.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from skillneurons.config_source import read_yaml
from skillneurons.errors import ConfigError
from skillneurons.registry import Registry

BUILT_IN = ("demo", "paper")
DEFAULT = "demo"
Positive = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    """Base of all sections: unknown settings are faults, types are strict, values do not change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ModelSettings(Section):
    """How a model is loaded."""

    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    chat_template: Literal["auto", "on", "off"] = "auto"
    trust_remote_code: bool = False
    too_long: Literal["refuse", "truncate"] = "refuse"
    ffn: str | None = None

    @field_validator("chat_template", mode="before")
    @classmethod
    def _yaml_on_off(cls, value: Any) -> Any:
        return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


class PromptSettings(Section):
    """The soft prompt and its tuning; the defaults are the paper's."""

    num_virtual_tokens: Positive = 20
    prompt_tuning_init: Literal["SAMPLE_VOCAB", "TEXT", "RANDOM"] = "SAMPLE_VOCAB"
    prompt_tuning_init_text: str | None = None
    placement: Literal["append", "prepend"] = "append"
    steps: Annotated[int, Field(ge=0)] = 500
    lr: Annotated[float, Field(gt=0)] = 1e-3
    betas: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)] = [0.9, 0.999]
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    batch_size: Positive = 32
    eval_every: Positive = 50
    patience: Positive = 5

    @model_validator(mode="after")
    def _text_given(self) -> PromptSettings:
        if self.prompt_tuning_init == "TEXT" and not self.prompt_tuning_init_text:
            raise ValueError("prompt_tuning_init TEXT needs prompt_tuning_init_text")
        return self


class DataSettings(Section):
    """How many examples each split may have, and the seed they are drawn with."""

    seed: int = 0
    train: Positive = 1000
    validation: Positive = 200
    discovery: Positive = 1000
    heldout: Positive = 500


class AttributionSettings(Section):
    """Where activations are read and how they are scored."""

    position: Literal["last", "max", "mean", "input_last"] = "last"
    site: Literal["product", "gate"] = "product"
    statistic: str = "pearson"
    batch_size: Positive = 64
    permutations: Annotated[int, Field(ge=0)] = 200
    top_k: Positive = 10


class CausalSettings(BaseModel):
    """Settings of the causal test; all are accepted, none is used yet."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    enabled: bool = False


class Config(Section):
    """Everything a run needs to know."""

    models: Annotated[list[str], Field(min_length=1)] = ["pocket"]
    tasks: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    metrics: Annotated[list[str], Field(min_length=1)] = ["confidence", "labels", "heuristics"]
    seeds: Annotated[list[int], Field(min_length=1)] = [0]
    limit: Positive | None = None
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    output: str = "runs"
    plugins: list[str] = []
    model: ModelSettings = ModelSettings()
    prompt: PromptSettings = PromptSettings()
    data: DataSettings = DataSettings()
    attribution: AttributionSettings = AttributionSettings()
    causal: CausalSettings = CausalSettings()

    @field_validator("tasks", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """A list of names is short for a mapping without options; no options may be written as nothing."""
        if isinstance(value, list) and all(isinstance(name, str) for name in value):
            return {name: {} for name in value}
        if isinstance(value, dict):
            return {name: {} if options is None else options for name, options in value.items()}
        return value

    @field_validator("models", "metrics", "seeds")
    @classmethod
    def _different(cls, value: list[Any]) -> list[Any]:
        if len(set(value)) != len(value):
            raise ValueError("an entry stands twice; each must be given once")
        return value


def built_in_config(name: str) -> Path:
    """Return the file of a built-in config."""
    return Path(__file__).parent / "configs" / f"{name}.yaml"


def config_file(source: str | None) -> Path:
    """Return the file of a config given by name or path; raise ConfigError if there is none."""
    name = source or DEFAULT
    path = built_in_config(name) if name in BUILT_IN else Path(name)
    if not path.is_file():
        raise ConfigError(f"no config file {name!r}; give a YAML file, or a built-in one: {', '.join(BUILT_IN)}")
    return path


def plugins_of(source: str | None) -> list[str]:
    """Return the plugins a config names, before anything else of it is checked."""
    plugins = read_yaml(config_file(source))[0].get("plugins")
    return [name for name in plugins if isinstance(name, str)] if isinstance(plugins, list) else []


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
) -> Config:
    """Return the config of a file (or built-in name), changed by lists and by ``KEY=VALUE`` overrides.

    ``tasks`` chooses tasks and keeps the options the file gives them. With a ``registry`` the names of
    tasks, metrics and task options are checked too. Raise one ConfigError that lists every fault.
    """
    path = config_file(source)
    values, lines = read_yaml(path)
    places = {key: f"{path.name if source in (None, *BUILT_IN) else path}:{line}" for key, line in lines.items()}
    lists = {"models": models, "metrics": metrics, "seeds": seeds, "plugins": plugins}
    values |= {key: list(given) for key, given in lists.items() if given}
    values |= {k: v for k, v in {"limit": limit, "device": device, "output": output}.items() if v is not None}
    for key in [k for k, given in {**lists, "limit": limit, "device": device}.items() if given]:
        places[key] = "command line"
    if tasks:
        options = values.get("tasks") if isinstance(values.get("tasks"), dict) else {}
        values["tasks"] = {name: options.get(name) or {} for name in tasks}  # type: ignore[union-attr]
        places |= {f"tasks.{name}": "command line" for name in tasks if f"tasks.{name}" not in places}
    faults: list[str] = []
    for override in overrides:
        _override(values, override, places, faults)
    config = None
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        faults += [_fault(item, places) for item in error.errors()]
    if registry is not None:
        faults += _unknown_names(values if config is None else config.model_dump(), places, registry)
    if faults or config is None:
        raise ConfigError("\n".join(faults))
    return config


def _override(values: dict[str, Any], override: str, places: dict[str, str], faults: list[str]) -> None:
    """Apply one ``KEY=VALUE``; a task's option is taken only for a task that is to run."""
    key, equals, text = override.partition("=")
    parts = key.split(".")
    place = f"--set {override}"
    if not equals or not all(parts):
        faults.append(f"{place}: write KEY=VALUE, for example prompt.steps=100")
        return
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        faults.append(f"{place}: the value is not valid YAML; quote it")
        return
    if isinstance(values.get("tasks"), list):
        values["tasks"] = {name: {} for name in values["tasks"]}
    if parts[0] == "tasks" and len(parts) > 1 and parts[1] not in (values.get("tasks") or {}):
        faults.append(f"{place}: task {parts[1]!r} is not to run; chosen: {', '.join(values.get('tasks') or {})}")
        return
    target = values
    for part in parts[:-1]:
        if target.get(part) is None:
            target[part] = {}
        target = target[part]
        if not isinstance(target, dict):
            faults.append(f"{place}: {part} is not a section, it has no {parts[-1]!r}")
            return
    target[parts[-1]] = value
    places[key] = place


def _place(key: str, places: Mapping[str, str]) -> str:
    """Return where a key was given, or the nearest section around it."""
    parts = key.split(".")
    for end in range(len(parts), 0, -1):
        if ".".join(parts[:end]) in places:
            return places[".".join(parts[:end])]
    return "config"


def _fault(item: Mapping[str, Any], places: Mapping[str, str]) -> str:
    """Return one line for one fault pydantic found: place, key, what is wrong, what would be right."""
    location = [str(part) for part in item["loc"]]
    key = ".".join(location)
    where = f"{_place(key, places)}: {key}"
    if item["type"] == "extra_forbidden":
        known = _settings(location[:-1])
        near = difflib.get_close_matches(location[-1], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        return f"{where}: unknown setting; {hint}"
    if item["type"] == "missing":
        return f"{_place(key, places)}: {key}: missing; name at least one"
    message = item["msg"].removeprefix("Value error, ")
    given = "" if item["type"] == "value_error" else f", got {item['input']!r}"
    return f"{where}: {message[0].lower()}{message[1:]}{given}"


def _settings(section: Sequence[str]) -> list[str]:
    model: Any = Config
    for name in section:
        model = model.model_fields[name].annotation
    return list(model.model_fields)


def _unknown_names(values: Mapping[str, Any], places: Mapping[str, str], registry: Registry) -> list[str]:
    """Return a line for each task, metric and task option that nobody knows."""
    faults = []
    tasks = values.get("tasks")
    chosen: list[tuple[str, Any, Any]] = []
    for name in tasks or ():
        chosen.append((f"tasks.{name}", name, registry.task))
    for index, name in enumerate(values.get("metrics") or ()):
        chosen.append((f"metrics.{index}", name, registry.metric))
    for key, name, look_up in chosen:
        try:
            found = look_up(name)
        except ConfigError:
            raise
        except Exception as error:
            faults.append(f"{_place(key, places)}: {key}: {error}")
            continue
        options = tasks.get(name) if key.startswith("tasks.") and isinstance(tasks, dict) else None
        for option in options or ():
            if option not in found.options:
                near = difflib.get_close_matches(str(option), found.options, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(found.options) or 'none'}"
                faults.append(
                    f"{_place(f'{key}.{option}', places)}: {key}.{option}: unknown option of the task; {hint}"
                )
    return faults

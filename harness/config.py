"""The settings of a run: what they are, their defaults, and every fault of a config at once.

A setting is a dotted path, in YAML and after ``--set`` alike. Sources, later ones win: the defaults
below, a YAML file or a built-in config (``demo``, ``paper``), the command line's lists, ``--set``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from skillneurons.config_faults import invalid_value, unknown_names
from skillneurons.config_source import read_value, read_yaml
from skillneurons.errors import ConfigError
from skillneurons.form import MOST
from skillneurons.registry import Registry

BUILT_IN = ("demo", "paper")
DEFAULT = "demo"
Positive = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=-MOST, le=MOST)]


class Section(BaseModel):
    """Base of all sections: unknown settings are faults, types are strict, values do not change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class ModelSettings(Section):
    """How a model is loaded."""

    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    chat_template: Literal["auto", "on", "off"] = "auto"
    trust_remote_code: bool = False
    too_long: Literal["refuse", "truncate"] = "refuse"
    ffn: str | None = None
    device_map: Literal["auto", "balanced", "balanced_low_0", "sequential"] | None = None
    quantization: Literal["8bit", "4bit"] | None = None

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


AT_ONCE, AT_MOST = 64, 1024  # examples, with batch_size auto


class AttributionSettings(Section):
    """Where activations are read, how they are scored, and how sure the scores are.

    ``batch_size`` is how many examples run at once; ``auto`` begins at 64 and takes what fits. ``seed`` draws permutations and bootstrap resamples; ``thresholds`` are levels of |r| to count neurons at;
    ``nuisance`` names columns that partial r holds constant, for the tasks that have them.
    """

    position: Literal["last", "max", "mean", "input_last"] = "last"
    site: Literal["product", "gate"] = "product"
    statistic: str = "pearson"
    batch_size: Positive | Literal["auto"] = "auto"
    permutations: Annotated[int, Field(ge=0)] = 200
    bootstrap: Annotated[int, Field(ge=0)] = 1000
    seed: int = 0
    top_k: Positive = 10
    thresholds: list[Annotated[float, Field(gt=0)]] = [0.43, 0.83]
    nuisance: list[str] = ["heuristics.prompt_length"]

    @property
    def at_once(self) -> int:
        """How many examples run at once to begin with."""
        return AT_ONCE if isinstance(self.batch_size, str) else self.batch_size

    @property
    def at_most(self) -> int:
        """How many may run at once where memory allows it."""
        return AT_MOST if isinstance(self.batch_size, str) else self.batch_size


class CacheSettings(Section):
    """How much memory the keys and values of inputs may take: on the model's device, and in host memory beyond that.

    Half of it is for tuning (train and validation), half for measuring (discovery and heldout); what finds no room is run again
    each time, and 0 for both runs all inputs again.
    """

    device_gb: Annotated[float, Field(ge=0)] = 2.0
    host_gb: Annotated[float, Field(ge=0)] = 4.0


class CausalSettings(Section):
    """Ablation and steering of the neurons found: which columns, how many neurons, against how many random sets.

    ``columns``: ``primary`` (one per metric), ``all``, or full names. ``examples`` of heldout are measured, ``generated``
    of a task whose answers are written rather than chosen. ``steering`` lists factors in sd, whose price is the loss of
    ``neutral_text`` (english, pocket, or a file of one's own); ``cards`` is how many neurons
    of a column are tested one by one and get a card. ``across`` runs what concerns several tasks: specificity (of the
    ``across_k`` strongest neurons, each K by itself), interactions and skills on demand.
    """

    enabled: bool = True
    mode: Literal["zero", "mean", "resample"] = "mean"
    positions: Literal["prompt", "answer", "everywhere"] = "prompt"
    k: Annotated[list[Positive], Field(min_length=1)] = [1, 2, 5, 10, 20, 50, 100]
    random_sets: Annotated[int, Field(ge=2)] = 20
    columns: Literal["primary", "all"] | list[str] = "primary"
    examples: Positive = 400
    generated: Positive = 100
    neutral_text: str = "english"
    steering: list[float] = [-4.0, -2.0, -1.0, 1.0, 2.0, 4.0]
    cards: Annotated[int, Field(ge=0)] = 10
    across: bool = True
    across_k: Annotated[list[Positive], Field(min_length=1)] = [10]
    seed: int = 0

    @field_validator("steering", mode="before")
    @classmethod
    def _whole_numbers_too(cls, value: Any) -> Any:
        if isinstance(value, list):
            return [float(one) if isinstance(one, int) and not isinstance(one, bool) else one for one in value]
        return value


class Config(Section):
    """Everything a run needs to know."""

    models: Annotated[list[str], Field(min_length=1)] = ["pocket"]
    tasks: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    metrics: Annotated[list[str], Field(min_length=1)] = ["confidence", "labels", "heuristics"]
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    limit: Positive | None = None
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    output: str = "runs"
    plugins: list[str] = []
    model: ModelSettings = ModelSettings()
    prompt: PromptSettings = PromptSettings()
    data: DataSettings = DataSettings()
    attribution: AttributionSettings = AttributionSettings()
    causal: CausalSettings = CausalSettings()
    cache: CacheSettings = CacheSettings()

    @field_validator("tasks", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """A list of names is short for a mapping without options; no options may be written as nothing."""
        if isinstance(value, list) and all(isinstance(name, str) for name in value):
            if len(set(value)) != len(value):
                raise ValueError("an entry stands twice; each must be given once")
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


def plugins_of(source: str | None, overrides: Sequence[str] = ()) -> list[str]:
    """Return the plugins a config names, before anything else of it is checked."""
    plugins = read_yaml(config_file(source))[0].get("plugins")
    for override in overrides:
        key, _, text = override.partition("=")
        if key == "plugins":
            try:
                plugins = read_value(text)
            except yaml.YAMLError:
                return []  # load_config tells it, with every other fault
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
    blank: bool = False,
) -> Config:
    """Return the config of a file (or built-in name), changed by lists and by ``KEY=VALUE`` overrides.

    ``tasks`` chooses tasks and keeps the options the file gives them; ``blank`` begins with the defaults
    alone instead of a file. With a ``registry`` the names of tasks, metrics and task options are checked
    too. Raise one ConfigError that lists every fault.
    """
    values: dict[str, Any] = {}
    places = {"": "command line"}
    if not blank:
        path = config_file(source)
        values, lines = read_yaml(path)
        file = path.name if source in (None, *BUILT_IN) else str(path)
        places = {"": file} | {key: f"{file}:{line}" for key, line in lines.items()}
    lists = {"models": models, "metrics": metrics, "seeds": seeds, "plugins": plugins}
    values |= {key: list(given) for key, given in lists.items() if given}
    single = {"limit": limit, "device": device, "output": output}
    values |= {key: given for key, given in single.items() if given is not None}
    for key in [k for k, given in lists.items() if given] + [k for k, given in single.items() if given is not None]:
        places = {k: place for k, place in places.items() if not k.startswith(f"{key}.")} | {key: "command line"}
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
        faults += [invalid_value(item, places, Config) for item in error.errors()]
    if registry is not None:
        faults += unknown_names(values if config is None else config.model_dump(), places, registry)
    if faults or config is None:
        raise ConfigError("\n".join(sorted(faults, key=_line)))
    return config


def _line(fault: str) -> int:
    """Return the line a fault stands on, 0 where it is on the command line."""
    match = re.match(r"\S+?:(\d+): ", fault)
    return int(match[1]) if match else 0


def _override(values: dict[str, Any], override: str, places: dict[str, str], faults: list[str]) -> None:
    """Apply one ``KEY=VALUE``; a task's option is taken only for a task that is to run."""
    key, equals, text = override.partition("=")
    parts = _parts(key, values.get("tasks"))
    place = f"--set {override}"
    if not equals or not all(parts):
        faults.append(f"{place}: write KEY=VALUE, for example prompt.steps=100")
        return
    try:
        value = read_value(text)
    except yaml.YAMLError:
        faults.append(f"{place}: the value is not valid YAML; quote it")
        return
    if parts[0] == "tasks" and len(parts) > 1:
        chosen = values.get("tasks")
        if isinstance(chosen, list) and all(isinstance(name, str) for name in chosen):
            chosen = values["tasks"] = {name: {} for name in chosen}
        if not isinstance(chosen, dict) or parts[1] not in chosen:
            names = ", ".join(map(str, chosen)) if isinstance(chosen, (dict, list)) else "none"
            faults.append(f"{place}: task {parts[1]!r} is not to run; chosen: {names}")
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
    for end in range(1, len(parts)):
        places.setdefault(".".join(parts[:end]), place)
    places[key] = place


def _parts(key: str, tasks: Any) -> list[str]:
    """Split a dotted path; the name of a task that is to run may have dots of its own."""
    names = [name for name in tasks if isinstance(name, str)] if isinstance(tasks, (dict, list)) else []
    for name in sorted(names, key=len, reverse=True):
        if key == f"tasks.{name}":
            return ["tasks", name]
        if key.startswith(f"tasks.{name}."):
            return ["tasks", name, *key.removeprefix(f"tasks.{name}.").split(".")]
    return key.split(".")

"""What a run consists of: its cells and their keys, told without torch.

A unit is (model, task, seed): it shares one prompt and one pass. A cell is (model, task, metric,
seed). Keys cover everything that changes the content: model and resolved revision, dtype, task and
metric version and source hash, data hash, settings, seed. Device and batch size are left out: they
change a number by float rounding at most.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from skillneurons.config import Config
from skillneurons.errors import SkillNeuronsError, UserError
from skillneurons.examples import data_hash, load_splits
from skillneurons.model_source import resolve_model
from skillneurons.neutral import neutral_hash
from skillneurons.registry import Registry
from skillneurons.results import ResultsFolder, canonical_json, content_key, is_finished
from skillneurons.task_setup import set_up
from skillneurons.types import SPLITS, Example, Metric, Split, Task

CAUSAL_VERSION = "3"  # what the same causal settings mean: random sets, outcomes, verdicts
POSITIONS = ("last", "max", "mean", "input_last")


@dataclass(frozen=True)
class TaskData:
    """A task with its loaded splits, or the reason why they could not be loaded."""

    task: Task
    options: Mapping[str, Any]
    source_hash: str
    splits: Mapping[Split, Sequence[Example]] = field(default_factory=dict)
    hash: str | None = None
    grader: Mapping[str, Any] | None = None
    tuned_on: str = ""
    error: SkillNeuronsError | None = None

    @property
    def counts(self) -> dict[str, int]:
        return {split: len(self.splits.get(split, ())) for split in SPLITS}


@dataclass(frozen=True)
class PlannedCell:
    """One cell: its key, its metric, the metric's columns here, and whether it is finished.

    A cell whose causal part was broken off, or failed by no rule of ours, is not: its correlations stand, and are
    measured again with it.
    """

    key: str
    metric: Metric
    columns: tuple[str, ...]
    source_hash: str
    done: bool


@dataclass(frozen=True)
class Unit:
    """What shares a prompt and a pass: a model, a task and a seed, with the cells asked for.

    ``support`` are the metrics whose columns the figures of other columns refer to (nuisances, rival explanations):
    they are measured whether or not they are asked for, so that no figure depends on what else is asked for.
    """

    model: str
    revision: str
    data: TaskData
    seed: int
    prompt_key: str | None
    cells: tuple[PlannedCell, ...]
    support: tuple[Metric, ...] = ()

    @property
    def pending(self) -> tuple[PlannedCell, ...]:
        return tuple(cell for cell in self.cells if not cell.done)


def settings_of(config: Config) -> dict[str, dict[str, Any]]:
    """Return the settings that change a result, by section; batch size and where the weights lie are none of them."""
    sections = {
        name: getattr(config, name).model_dump(mode="json") for name in ("model", "prompt", "data", "attribution")
    }
    sections["attribution"].pop("batch_size")
    for where in ("device_map", "max_memory", "tp_plan"):
        sections["model"].pop(where)
    if sections["attribution"]["position"] == "input_last":
        sections["prompt"] = {}
    if config.causal.enabled:
        sections["causal"] = config.causal.model_dump(mode="json", exclude={"enabled", "across", "across_k"})
    return sections


def split_sizes(config: Config) -> dict[Split, int]:
    """Return how many examples each split may have, ``limit`` applied."""
    sizes: dict[Split, int] = {split: getattr(config.data, split) for split in SPLITS}
    return {split: min(size, config.limit or size) for split, size in sizes.items()}


def load_task_data(config: Config, registry: Registry, name: str, options: Mapping[str, Any]) -> TaskData:
    """Load a task's splits; an error of its data comes back inside, so that other tasks go on."""
    source_hash = registry.source_hash("task", name)
    try:
        ready = set_up(registry, name, options)
        splits = load_splits(ready.task, split_sizes(config), seed=config.data.seed, options=options)
    except SkillNeuronsError as error:
        return TaskData(registry.task(name), options, source_hash, error=error)
    return TaskData(ready.task, options, source_hash, splits, data_hash(splits), ready.grader, ready.tuned_on)


def plan(
    config: Config,
    registry: Registry,
    folder: ResultsFolder,
    finished: Container[str] = frozenset(),
    resolve: Callable[[str, str | None], tuple[str, str]] | None = None,
) -> list[Unit]:
    """Return the units of a run in order, each with its cells and which of them are finished.

    ``finished`` are keys known to be so; the other cells are read. ``resolve`` tells each model's revision.
    """
    refuse_what_cannot_be_merged(config, registry)
    settings = settings_of(config)
    metrics = [registry.metric(name) for name in config.metrics]
    sources = {name: (resolve or resolve_model)(name, config.model.revision)[1] for name in config.models}
    data = {name: load_task_data(config, registry, name, options) for name, options in config.tasks.items()}
    units = []
    for model, revision in sources.items():
        for task_data in data.values():
            for seed in config.seeds:
                units.append(
                    unit_of(config, registry, folder, finished, settings, metrics, model, revision, task_data, seed)
                )
    if not any(unit.cells for unit in units):
        raise UserError(
            f"nothing to run: none of the metrics {', '.join(config.metrics)} has a column for {', '.join(config.tasks)}"
        )
    return units


def unit_of(
    config: Config,
    registry: Registry,
    folder: ResultsFolder,
    finished: Container[str],
    settings: Mapping[str, Any],
    metrics: Sequence[Metric],
    model: str,
    revision: str,
    data: TaskData,
    seed: int,
) -> Unit:
    """Return the unit of a model, task and seed with the cells of ``metrics``; ``settings`` are those of ``settings_of``."""
    content = {
        "model": {**settings["model"], "name": model, "revision": revision},
        "task": {
            "name": data.task.name,
            "version": data.task.version,
            "source_hash": data.source_hash,
            "options": dict(data.options),
            "data_hash": data.hash,
            "grader": data.grader,
        },
        "seed": seed,
    }
    tuned = config.attribution.position != "input_last"
    prompt_key = (
        content_key(data.task.name, f"s{seed}", payload={**content, "prompt": settings["prompt"]}) if tuned else None
    )
    support = support_metrics(config, registry, data.task)
    statistic = config.attribution.statistic
    content_of_figures = {
        "statistic": {"name": statistic, "source_hash": registry.source_hash("attribution", statistic)},
        "support": {one.name: registry.source_hash("metric", one.name) for one in support},
    }
    if config.causal.enabled:
        text = neutral_hash(config.causal.neutral_text)
        content_of_figures["causal_tests"] = {"version": CAUSAL_VERSION, "neutral_text": text}
    shared = {**content, **settings, **content_of_figures, "model": content["model"]}
    known = {name: canonical_json(part) for name, part in shared.items()}
    cells = []
    for metric in metrics:
        columns = metric.columns_for(data.task)
        if not columns:
            continue
        source_hash = registry.source_hash("metric", metric.name)
        about = {
            "name": metric.name,
            "version": metric.version,
            "source_hash": source_hash,
            "columns": list(columns),
        }
        key = content_key(data.task.name, metric.name, f"s{seed}", payload={"metric": about}, known=known)
        done = key in finished or is_finished(folder.read_cell(key))
        cells.append(PlannedCell(key, metric, columns, source_hash, done))
    return Unit(model, revision, data, seed, prompt_key, tuple(cells), support)


def refuse_what_cannot_be_merged(config: Config, registry: Registry) -> None:
    """Raise UserError where passes are split over shards and the statistic has nothing to merge their sums with."""
    name = config.attribution.statistic
    if config.executor.shards == 1:
        return
    factory = registry.attribution(name)
    made = factory if isinstance(factory, type) else factory(1, 1)
    if not callable(getattr(made, "merge", None)):
        raise UserError(
            f"executor.shards {config.executor.shards}: the sums of shards are merged, but the accumulator of statistic {name!r} "
            "has no merge; give it merge(other), or set executor.shards to 1"
        )


def nuisances_of(config: Config, registry: Registry, task: Task) -> tuple[str, ...]:
    """Return the columns to hold constant that the task has."""
    return tuple(name for name in config.attribution.nuisance if _has_column(registry, task, name))


def rivals_of(registry: Registry, task: Task) -> dict[str, tuple[str, ...]]:
    """Return the task's rival explanations by the column that they contend with, as far as their columns are here."""
    return {
        wanted: tuple(rival for rival in rivals if _has_column(registry, task, rival))
        for wanted, rivals in task.rivals.items()
        if _has_column(registry, task, wanted)
    }


def support_metrics(config: Config, registry: Registry, task: Task) -> tuple[Metric, ...]:
    """Return the metrics of the nuisance columns and of the rival explanations, sorted by name."""
    columns = set(nuisances_of(config, registry, task))
    for wanted, rivals in rivals_of(registry, task).items():
        columns |= {wanted, *rivals}
    return tuple(registry.metric(name) for name in sorted({column.partition(".")[0] for column in columns}))


def _has_column(registry: Registry, task: Task, column: str) -> bool:
    name = column.partition(".")[0]
    return name in registry.metrics and column in registry.metric(name).columns_for(task)

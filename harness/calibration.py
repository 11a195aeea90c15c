"""How fast this machine really is, from the cells that it has finished: measured seconds over estimated ones.

A unit's cells of one run are begun together, so the largest ``seconds`` of their records is the time of the unit. Cells of
another host or another kind of device, of models or tasks that are not planned now (whose sizes are not at hand), of a tuning
that went on from a checkpoint or was waited for, and of plugins or files that are gone say nothing. Where a record does not say
whether the prompt was tuned, the first cells of a prompt tuned it.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, TypeGuard

from skillneurons.config import AttributionSettings, CausalSettings, Config, ModelSettings, PromptSettings
from skillneurons.errors import SkillNeuronsError
from skillneurons.estimate import ModelAtHand, seconds_of, workload
from skillneurons.forward_calls import LIKELY
from skillneurons.machine_speed import Speed
from skillneurons.plan import PlannedCell, TaskData
from skillneurons.registry import Registry
from skillneurons.results import Result, ResultsFolder
from skillneurons.token_lengths import Row
from skillneurons.types import Split

LONGEST = 1e9  # s
SURE, UNSURE = 1.25, 3.0  # the least and the most that a calibrated time is said to be off


@dataclass
class _Group:
    """Cells of one unit that were measured in one run."""

    cells: list[Result] = field(default_factory=list)
    seconds: float = 0.0
    tuned: bool = False  # before it began


def calibrated(
    speed: Speed,
    config: Config,
    registry: Registry,
    folder: ResultsFolder,
    models: Mapping[str, ModelAtHand],
    tasks: Mapping[str, tuple[TaskData, Mapping[str, Mapping[Split, Sequence[Row]]]]],
    finished: Sequence[Result],
) -> Speed:
    """Return the speed corrected by finished cells of this machine, or as it is where there are none."""
    records = [(cell, _record(folder.cells / f"{cell.key}.run.json")) for cell in finished]
    begun: dict[str | None, str] = {}  # when the first cells of a prompt were begun
    for cell, record in records:
        begun[cell.prompt] = min(begun.get(cell.prompt, "~"), str(record.get("started") or "~"))
    groups: dict[tuple[str, str, int, str], _Group] = {}
    for cell, record in records:
        known = cell.model["name"] in models and cell.task["name"] in tasks
        if not known or record.get("host") != platform.node() or not _same_device(record, speed):
            continue
        seconds, started, parts = record.get("seconds"), record.get("started"), record.get("seconds_of") or {}
        if not _is_time(seconds) or not isinstance(started, str) or not isinstance(parts, Mapping):
            continue
        if "resumed_tuning" in parts or "waiting" in parts:
            continue
        group = groups.setdefault((cell.model["name"], cell.task["name"], cell.seed, started), _Group())
        group.cells.append(cell)
        group.seconds = max(group.seconds, float(seconds))
        group.tuned = parts["tuning"] == 0 if "tuning" in parts else started > begun[cell.prompt]
    ratios, n = [], 0
    seeds: dict[tuple[str, str], set[int]] = {}  # of one run, which share the pass without a prompt
    for (model, task, seed, _), group in sorted(groups.items(), key=lambda item: item[0][3]):
        data, by_model = tasks[task]
        run = seeds.setdefault((model, task), set())
        if seed in run:  # again: another run
            run.clear()
        shared = not run
        run.add(seed)
        guess = _estimated(group, config, registry, models[model], data, by_model[model], speed, shared=shared)
        if guess:
            ratios.append(group.seconds / guess)
            n += len(group.cells)
    if not ratios:
        return speed
    middle = median(ratios)
    off = max(max(ratios) / middle, middle / min(ratios))
    what = "cell" if n == 1 else "cells"
    return speed.scaled(
        middle, min(max(SURE, off), UNSURE), f"{n} finished {what} of this folder, measured on this machine"
    )


def _record(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):  # a cell without its record says nothing about time
        return {}
    return found if isinstance(found, dict) else {}


def _is_time(seconds: Any) -> TypeGuard[float]:
    """Return whether a record's seconds are a time: JSON as Python reads it has Infinity and NaN."""
    return isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds < LONGEST


def _same_device(record: Mapping[str, Any], speed: Speed) -> bool:
    """Return whether a record is of this kind of machine; one of several ranks says nothing of one."""
    return str(record.get("device", "")).startswith("cuda") == speed.gpu and "ranks" not in record


def _estimated(
    group: _Group,
    config: Config,
    registry: Registry,
    model: ModelAtHand,
    data: TaskData,
    rows: Mapping[Split, Sequence[Row]],
    speed: Speed,
    *,
    shared: bool,
) -> float | None:
    """Return the estimate for what these cells were, from the settings that they hold.

    None for those of another version, of a plugin or a file that is gone, and where they do not say how many examples they had.
    """
    cells = group.cells
    old, n = _config_of(config, cells[0]), cells[0].n
    if old is None or not all(own and n.get(split) for split, own in rows.items()):
        return None
    mine = {split: [own[i % len(own)] for i in range(n[split])] for split, own in rows.items()}
    planned = [
        PlannedCell(
            cell.key,
            registry.metric(cell.metric["name"]),
            tuple(cell.metric.get("columns") or cell.columns),
            "",
            done=True,
        )
        for cell in cells
        if cell.metric["name"] in registry.metrics
    ]
    try:
        load = workload(old, registry, model, data, mine, planned, gpu=speed.gpu, shared=shared, tuned=group.tuned)
    except SkillNeuronsError:  # its statistic's plugin or its neutral text is gone: what it took says nothing now
        return None
    columns = sum(len(one.columns) for one in planned)
    return seconds_of(load, model.shape, speed, columns, LIKELY) if columns else None


def _config_of(config: Config, cell: Result) -> Config | None:
    from pydantic import ValidationError

    held = cell.config
    try:
        return config.model_copy(
            update={
                "model": ModelSettings.model_validate(held["model"]),
                "prompt": PromptSettings.model_validate(held["prompt"] or {}),
                "attribution": AttributionSettings.model_validate(held["attribution"]),
                "causal": CausalSettings.model_validate({"enabled": "causal" in held, **(held.get("causal") or {})}),
            }
        )
    except (ValidationError, KeyError):  # written by another version, with other settings
        return None

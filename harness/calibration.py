"""How fast this machine really is, from the cells that it has finished: measured seconds over estimated ones.

A unit's cells of one run are begun together, so the largest ``seconds`` of their records is the time of the unit. Cells of
another host or another kind of device, and of models or tasks that are not planned now (whose sizes are not at hand),
say nothing.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from skillneurons.config import AttributionSettings, CausalSettings, Config, ModelSettings, PromptSettings
from skillneurons.estimate import ModelAtHand, seconds_of, workload
from skillneurons.forward_calls import LIKELY
from skillneurons.machine_speed import Speed
from skillneurons.plan import PlannedCell, TaskData
from skillneurons.registry import Registry
from skillneurons.results import Result, ResultsFolder
from skillneurons.token_lengths import Row
from skillneurons.types import Split

SURE, UNSURE = 1.25, 3.0  # the least and the most that a calibrated time is said to be off


@dataclass
class _Group:
    """Cells of one unit that were measured in one run."""

    cells: list[Result] = field(default_factory=list)
    seconds: float = 0.0


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
    groups: dict[tuple[str, str, int, str], _Group] = {}
    for cell in finished:
        record = _record(folder.cells / f"{cell.key}.run.json")
        known = cell.model["name"] in models and cell.task["name"] in tasks
        if not known or record.get("host") != platform.node() or not _same_device(record, speed):
            continue
        seconds, started = record.get("seconds"), record.get("started")
        if not isinstance(seconds, int | float) or not isinstance(started, str) or seconds <= 0:
            continue
        group = groups.setdefault((cell.model["name"], cell.task["name"], cell.seed, started), _Group())
        group.cells.append(cell)
        group.seconds = max(group.seconds, float(seconds))
    ratios, seen = [], set()
    for (model, task, _, _), group in sorted(groups.items(), key=lambda item: item[0][3]):
        data, by_model = tasks[task]
        first = (model, task) not in seen
        seen.add((model, task))
        guess = _estimated(group.cells, config, registry, models[model], data, by_model[model], speed, shared=first)
        if guess is not None:
            ratios.append(group.seconds / guess)
    if not ratios:
        return speed
    middle = median(ratios)
    off = max(max(ratios) / middle, middle / min(ratios))
    n = sum(len(group.cells) for group in groups.values())
    what = "cell" if n == 1 else "cells"
    return speed.scaled(
        middle, min(max(SURE, off), UNSURE), f"{n} finished {what} of this folder, measured on this machine"
    )


def _record(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):  # a cell without its record says nothing about time
        return {}
    return found if isinstance(found, dict) else {}


def _same_device(record: Mapping[str, Any], speed: Speed) -> bool:
    return str(record.get("device", "")).startswith("cuda") == speed.gpu


def _estimated(
    cells: Sequence[Result],
    config: Config,
    registry: Registry,
    model: ModelAtHand,
    data: TaskData,
    rows: Mapping[Split, Sequence[Row]],
    speed: Speed,
    *,
    shared: bool,
) -> float | None:
    """Return the estimate for what these cells were, from the settings that they hold; None for those of another version."""
    old = _config_of(config, cells[0])
    if old is None:
        return None
    mine = {split: list(own)[: cells[0].n.get(split, 0)] for split, own in rows.items()}
    if any(len(mine[split]) < cells[0].n.get(split, 0) or not mine[split] for split in mine):
        mine = {split: [own[i % len(own)] for i in range(cells[0].n.get(split, 0))] for split, own in rows.items()}
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
    load = workload(old, registry, model, data, mine, planned, gpu=speed.gpu, shared=shared, tuned=False)
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

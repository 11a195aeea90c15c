"""What ``run --dry-run`` tells: every cell with its state and reason, and what the run would take. Nothing is written.

Times are rounded ranges, because much of them is known only afterwards; what they rest on is said below the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from skillneurons.across_state import missing_across
from skillneurons.calibration import calibrated
from skillneurons.cell_state import CellState, cell_state, finished_cells
from skillneurons.config import Config
from skillneurons.errors import ModelError
from skillneurons.estimate import (
    START,
    Estimate,
    ModelAtHand,
    across_estimate,
    choose_speed,
    estimate_of,
    loading,
    model_at_hand,
    rows_by_split,
    workload,
)
from skillneurons.forward_calls import Workload
from skillneurons.known_shapes import NOT_RESOLVED, planned_revision
from skillneurons.machine_speed import Speed
from skillneurons.memory_need import MemoryNeed
from skillneurons.plan import PlannedCell, TaskData, Unit, plan
from skillneurons.registry import Registry
from skillneurons.results import Result, ResultsFolder, open_folder
from skillneurons.token_lengths import Row
from skillneurons.types import Split

WIDTH = 120
ACROSS, LOADED = "across tasks", "loading"


@dataclass(frozen=True)
class DryRun:
    """The planned cells in order, an estimate by model and task (with how many cells), the whole, and remarks."""

    cells: Sequence[tuple[Unit, PlannedCell, CellState]]
    parts: Mapping[tuple[str, str], tuple[int, Estimate]] = field(default_factory=dict)
    whole: Estimate | None = None
    remarks: Sequence[str] = ()

    @property
    def to_run(self) -> int:
        return sum(not cell.done for _, cell, _ in self.cells)


def dry_run(config: Config, registry: Registry, machine: str | None = None) -> DryRun:
    """Return what a run of this config would do, on this machine or on one of ``machine_speed.STATED``."""
    opened = open_folder(config.output)
    opened.check()
    folder = opened.as_it_is(records=True)
    units = plan(config, registry, folder, resolve=planned_revision)
    finished = finished_cells(folder)
    cells = [(unit, cell, cell_state(config, folder, finished, unit, cell)) for unit in units for cell in unit.cells]
    every = [one for same in finished.values() for one in same]
    parts, remarks = _estimates(config, registry, folder, opened, units, every, machine)
    if not parts:
        return DryRun(cells, {}, None, remarks)
    start = Estimate(START / 2, START, 2 * START, 0, MemoryNeed(0, 0, 0, 0))
    return DryRun(cells, parts, Estimate.total([start, *(one for _, one in parts.values())]), remarks)


def _estimates(
    config: Config,
    registry: Registry,
    folder: ResultsFolder,
    opened: ResultsFolder,
    units: Sequence[Unit],
    finished: Sequence[Result],
    machine: str | None,
) -> tuple[dict[tuple[str, str], tuple[int, Estimate]], list[str]]:
    """Return the estimates by model and task, and what they rest on."""
    usable = [unit for unit in units if unit.data.error is None]
    together = _together(config, folder, usable)
    pending = [unit for unit in usable if unit.pending or any(unit in own for own in together)]
    models: dict[str, ModelAtHand] = {}
    remarks: list[str] = []
    for unit in {unit.model: unit for unit in pending}.values():
        try:
            models[unit.model] = model_at_hand(config, unit.model, unit.revision)
        except ModelError as error:
            remarks.append(f"no estimate: {error}")
    pending = [unit for unit in pending if unit.model in models]
    if not pending:
        return {}, remarks
    data = {unit.data.task.name: unit.data for unit in usable}
    tasks = {
        name: (one, {model: rows_by_split(config, at_hand, one) for model, at_hand in models.items()})
        for name, one in data.items()
    }
    parts: dict[tuple[str, str], tuple[int, Estimate]] = {}
    speed = choose_speed(config, machine)
    if machine is None:
        speed = calibrated(speed, config, registry, folder, models, tasks, finished)
    remarks.append(f"time: {speed.told}")
    for name, model in models.items():
        own = [unit for unit in pending if unit.model == name]
        across = [one for one in together if one[0].model == name]
        _add_model(parts, config, registry, opened, model, speed, own, across, tasks)
        if across and not any(unit.pending for unit in own):
            remarks.append(f"{ACROSS}: what concerns several tasks of {name} is not measured yet; a run does that")
    for counted in dict.fromkeys(model.counted for model in models.values()):
        same = [name for name, model in models.items() if model.counted == counted]
        remarks.append(f"tokens of {', '.join(same)}: counted by {counted}")
    remarks += _not_here([name for name, model in models.items() if not model.here], pending)
    for at_hand in models.values():
        remarks += _verdict(config, at_hand, parts, speed)
    return parts, remarks


def _not_here(names: Sequence[str], units: Sequence[Unit]) -> list[str]:
    """Return what is told of models whose files are not here."""
    if not names:
        return []
    told = f"the files of {', '.join(names)} are not here: sizes as they are published"
    if any(unit.model in names and unit.revision == NOT_RESOLVED for unit in units):
        told += "; the revision is not known, so that cells count as new and will get other keys"
    return [told]


def _verdict(
    config: Config, at_hand: ModelAtHand, parts: Mapping[tuple[str, str], tuple[int, Estimate]], speed: Speed
) -> list[str]:
    """Return whether a model fits the machine's GPUs, and how many of them it takes at the least."""
    name, shape, n = at_hand.name, at_hand.shape, speed.devices.n
    if speed.devices.split and shape.n_experts:
        return [f"{name} is a mixture of experts, which model.tp_plan is not there for; use model.device_map"]
    if speed.devices.split and not shape.splits_over(n):
        return [
            f"{name}: its {shape.n_heads} attention and {shape.n_kv_heads} key-value heads cannot be split over {n} devices"
        ]
    room = speed.device_bytes
    needs = [one.memory for (model, _), (_, one) in parts.items() if model == name and one.memory.device]
    if room is None or not needs:
        return []
    need = max(needs, key=lambda one: one.device)
    several = n > 1
    each = f"{size_text(need.device)} on {'the fullest device' if several else 'a device'} of {size_text(room)}"
    layers, split = (need.fewest(room, split=one) for one in (False, True))
    if need.device <= room:
        fewer = split if speed.devices.split else layers
        return [f"{name} fits: about {each}" + (f"; it takes at least {fewer}" if several and fewer else "")]
    ways = [f"{fewest} by model.{way}" for fewest, way in ((layers, "device_map"), (split, "tp_plan")) if fewest]
    takes = f"it takes at least {', '.join(ways)}; or" if ways else "what helps:"
    others = ["a narrower model.dtype"] if config.model.dtype == "float32" else []
    others += ["model.quantization"] if config.model.quantization is None else []
    return [f"{name} does not fit: about {each}; {takes} {', '.join([*others, 'a smaller cache.device_gb'])}"]


def _together(config: Config, folder: ResultsFolder, units: Sequence[Unit]) -> list[list[Unit]]:
    """Return the units of each model and seed whose tasks a run would test against each other."""
    if not (config.causal.enabled and config.causal.across):
        return []
    found: dict[tuple[str, int], list[Unit]] = {}
    for unit in units:
        if unit.prompt_key is not None:
            found.setdefault((unit.model, unit.seed), []).append(unit)
    return [
        own
        for own in found.values()
        if len(own) > 1 and (any(unit.pending for unit in own) or missing_across(config, folder, own))
    ]


def _add_model(
    parts: dict[tuple[str, str], tuple[int, Estimate]],
    config: Config,
    registry: Registry,
    folder: ResultsFolder,
    model: ModelAtHand,
    speed: Speed,
    units: Sequence[Unit],
    together: Sequence[Sequence[Unit]],
    tasks: Mapping[str, tuple[TaskData, Mapping[str, Mapping[Split, Sequence[Row]]]]],
) -> None:
    """Add the estimates of one model's units, of what concerns several tasks, and of loading it."""

    def load_of(unit: Unit, cells: Sequence[PlannedCell], *, shared: bool, tuned: bool) -> Workload:
        rows = tasks[unit.data.task.name][1][model.name]
        return workload(config, registry, model, unit.data, rows, cells, gpu=speed.gpu, shared=shared, tuned=tuned)

    n_tasks = max((len(own) for own in together), default=0)
    for unit in units:
        if not unit.pending:
            continue
        task = unit.data.task.name
        n, sofar = parts.get((model.name, task), (0, None))
        tuned = folder.has(folder.prompts / str(unit.prompt_key))
        load = load_of(unit, unit.pending, shared=sofar is None, tuned=tuned)
        columns = sum(len(cell.columns) for cell in unit.pending)
        mine = estimate_of(load, model, speed, columns, n_tasks)
        parts[model.name, task] = n + len(unit.pending), mine if sofar is None else Estimate.total([sofar, mine])
    if together:
        memory = MemoryNeed(0, 0, 0, 0)
        loads = [[load_of(unit, unit.cells, shared=False, tuned=True) for unit in own] for own in together]
        parts[model.name, ACROSS] = 0, Estimate.total([across_estimate(own, model, speed, memory) for own in loads])
    parts[model.name, LOADED] = 0, loading(config, model, speed)


def dry_run_text(found: DryRun) -> str:
    """Return a line per cell, a table of what they take, and how many are to run."""
    rows = [
        [state.state, unit.model, unit.data.task.name, cell.metric.name, f"seed {unit.seed}", cell.key]
        for unit, cell, state in found.cells
    ]
    lines: list[str] = []
    for line, (_, _, state) in zip(_aligned(rows), found.cells, strict=True):
        lines.append(line)
        if state.reason and len(line) + 2 + len(state.reason) <= WIDTH:
            lines[-1] = f"{line}  {state.reason}"
        elif state.reason:
            lines.append(f"    {state.reason}")
    if found.whole is not None:
        lines += ["", *_table(found, found.whole), ""]
    lines += found.remarks
    if any(state.state == "stale" for _, _, state in found.cells):
        lines.append("stale: a finished cell of another key is there; it is an older result and is kept")
    return "\n".join([*lines, f"{found.to_run} of {len(found.cells)} cells to run"])


def _table(found: DryRun, whole: Estimate) -> list[str]:
    gpu = whole.memory.device > 0
    head = ["model", "task", "cells", "time", *(["device memory"] if gpu else []), "memory", "disk"]
    entries = [(model, task, n, one) for (model, task), (n, one) in found.parts.items()]
    rows = [head]
    estimated = sum(n for _, _, n, _ in entries)
    total = found.to_run if estimated == found.to_run else f"{estimated} of {found.to_run}"
    for model, task, n, one in [*entries, ("all", "", total, whole)]:
        memory = one.memory
        sizes = [*([memory.device] if gpu else []), memory.host, memory.disk]
        rows.append(
            [
                model,
                task,
                str(n or ""),
                time_text(one.low, one.high),
                *(f"about {size_text(size)}" if size else "" for size in sizes),
            ]
        )
    spool = whole.memory.spool
    return [*_aligned(rows), *([f"and about {size_text(spool)} for temporary files"] if spool else [])]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def time_text(low: float, high: float) -> str:
    """Return a range of seconds in the unit of its upper end, two digits at most."""
    for unit, seconds in (("s", 1.0), ("min", 60.0), ("h", 3600.0), ("days", 86400.0)):
        if high < 90 * seconds or unit == "days":
            first, last = _two_digits(low / seconds), _two_digits(high / seconds)
            return f"about {last} {unit}" if first == last else f"about {first} to {last} {unit}"
    raise AssertionError("days fit everything")


def _two_digits(value: float) -> str:
    if value < 9.5:
        return f"{value:.1g}" if value >= 1 else f"{value:.1f}".replace("0.0", "0")
    return f"{float(f'{value:.2g}'):.0f}"


def size_text(size: float) -> str:
    """Return bytes in MB, GB or TB (10^6, 10^9, 10^12), two digits."""
    for unit, one in (("MB", 1e6), ("GB", 1e9)):
        if size < 999.5 * one:
            value = size / one
            return f"{value:.1f} {unit}" if value < 9.95 else f"{float(f'{value:.2g}'):.0f} {unit}"
    return f"{size / 1e12:.1f} TB"


def dry_run_json(found: DryRun) -> dict[str, Any]:
    """Return the same as plain types; times in seconds, sizes in bytes."""
    return {
        "cells": [
            {
                "state": state.state,
                "reason": state.reason,
                "older": state.older,
                "model": unit.model,
                "task": unit.data.task.name,
                "metric": cell.metric.name,
                "seed": unit.seed,
                "key": cell.key,
            }
            for unit, cell, state in found.cells
        ],
        "to_run": found.to_run,
        "estimates": [
            {"model": model, "task": task, "cells": n, **asdict(one)} for (model, task), (n, one) in found.parts.items()
        ],
        "whole": None if found.whole is None else asdict(found.whole),
        "remarks": list(found.remarks),
    }

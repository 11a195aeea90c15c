"""What concerns several tasks: which take part, the key it is saved under, whether it is measured; told without torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from skillneurons.across_file import SCHEMA_VERSION, read_across
from skillneurons.config import Config
from skillneurons.plan import Unit
from skillneurons.results import Result, ResultsFolder, content_key

if TYPE_CHECKING:
    from skillneurons.run_context import RunContext


def across_key(config: Config, seed: int, cells: Iterable[str]) -> str:
    """Return the key of what is measured on these finished cells."""
    causal = config.causal.model_dump(mode="json")
    payload = {"schema_version": SCHEMA_VERSION, "cells": sorted(cells), "causal": causal}
    return content_key("across", f"s{seed}", payload=payload)


def missing_across(config: Config, folder: ResultsFolder, units: Sequence[Unit]) -> bool:
    """Return whether what concerns several tasks of one model and seed is still to be measured; all cells are finished."""
    sides, _ = sides_of(folder, units)
    key = across_key(config, units[0].seed, (cell.key for side in sides for cell in side.cells))
    return len(sides) > 1 and not is_measured(folder.fetched(folder.across / f"{key}.json"))


def is_measured(path: Path) -> bool:
    """Return whether a file says all there is to say: it can be read, and nothing in it broke off."""
    found, _ = read_across(path)
    return found is not None and not found.get("errors")


def nothing_left(context: RunContext, seed: int, units: Sequence[Unit]) -> bool:
    """Return whether it is known, without reading a cell, that nothing of these units is left to measure together.

    ``context.known`` says of finished cells whether they were tested.
    """
    keys = [cell.key for unit in units for cell in unit.cells]
    if any(key not in context.known for key in keys):
        return False
    part = [unit for unit in units if unit.prompt_key and any(context.known[cell.key] for cell in unit.cells)]
    key = across_key(context.config, seed, (cell.key for unit in part for cell in unit.cells))
    return len(part) < 2 or is_measured(context.folder.fetched(context.folder.across / f"{key}.json"))


@dataclass(frozen=True, eq=False)
class Side:
    """One task of the comparison: its unit, its finished cells, and the columns that were tested, foremost first."""

    unit: Unit
    cells: Sequence[Result]
    columns: Mapping[str, str] = field(default_factory=dict)  # column -> key of its cell

    @property
    def name(self) -> str:
        return self.unit.data.task.name

    @property
    def foremost(self) -> str:
        return next(iter(self.columns))


def sides_of(folder: ResultsFolder, units: Sequence[Unit]) -> tuple[list[Side], dict[str, str]]:
    """Return the tasks of one model and seed whose cells are finished and tested, and why the others are not there."""
    sides, absent = [], {}
    for unit in units:
        found = folder.read_cells([cell.key for cell in unit.cells])
        cells = [cell for cell in found if cell is not None and cell.status == "ok"]
        tested = {column: cell.key for cell in cells for column in cell.tested_columns}
        foremost = [name for name in unit.data.task.primary if name in tested]
        ordered = {name: tested[name] for name in dict.fromkeys([*foremost, *sorted(tested)])}
        if unit.prompt_key is None:
            absent[unit.data.task.name] = "there is no prompt (attribution.position input_last)"
        elif not ordered:
            absent[unit.data.task.name] = "none of its columns was tested by ablation"
        else:
            sides.append(Side(unit, cells, ordered))
    return sides, absent


def unfinished_cells(context: RunContext, unit: Unit) -> list[str]:
    """Return the keys of cells whose causal part broke off or failed: what they will say is not known yet."""
    cells = context.folder.read_cells([cell.key for cell in unit.cells])
    return [
        cell.key
        for cell in cells
        if cell is not None
        and cell.status == "ok"
        and ((cell.causal or {}).get("pending") or "error" in (cell.causal or {}))
    ]

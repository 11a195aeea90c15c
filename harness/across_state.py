"""What concerns several tasks: the key it is saved under, and whether it is measured already; told without torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from skillneurons.across_file import SCHEMA_VERSION, read_across
from skillneurons.config import Config
from skillneurons.plan import Unit
from skillneurons.results import Result, ResultsFolder, content_key


def across_key(config: Config, seed: int, cells: Iterable[str]) -> str:
    """Return the key of what is measured on these finished cells."""
    causal = config.causal.model_dump(mode="json")
    payload = {"schema_version": SCHEMA_VERSION, "cells": sorted(cells), "causal": causal}
    return content_key("across", f"s{seed}", payload=payload)


def tested_columns(cells: Iterable[Result]) -> dict[str, str]:
    """Return the columns that were tested by ablation, in the order of the cells, with the key of the cell of each."""
    return {
        column: cell.key
        for cell in cells
        for column, figures in ((cell.causal or {}).get("columns") or {}).items()
        if any(dose.get("outcomes") for dose in figures.get("doses") or ())
    }


def missing_across(config: Config, folder: ResultsFolder, units: Sequence[Unit]) -> bool:
    """Return whether what concerns several tasks of one model and seed is still to be measured; all cells are finished."""
    sides: list[list[str]] = []
    if is_measured(_place(config, folder, units[0].seed, [cell.key for unit in units for cell in unit.cells])):
        return False
    for unit in units:
        found = [folder.read_cell(cell.key) for cell in unit.cells]
        cells = [cell for cell in found if cell is not None and cell.status == "ok"]
        if unit.prompt_key is not None and tested_columns(cells):
            sides.append([cell.key for cell in cells])
    keys = [key for side in sides for key in side]
    return len(sides) > 1 and not is_measured(_place(config, folder, units[0].seed, keys))


def _place(config: Config, folder: ResultsFolder, seed: int, keys: Sequence[str]) -> Path:
    return folder.across / f"{across_key(config, seed, keys)}.json"


def is_measured(path: Path) -> bool:
    """Return whether a file says all there is to say: it can be read, and nothing in it broke off."""
    found, _ = read_across(path)
    return found is not None and not found.get("errors")

"""What is wrong with what a run keeps beside its cells and passes: prompts, cards, run records, checkpoints.

Each is judged by itself and, where its cell is known, by what the cell says of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skillneurons.file_faults import lacking, read_json, read_mapping, read_tensors, told
from skillneurons.leaderboard.site.kept_form import cards_fault, record_fault
from skillneurons.results import Result
from skillneurons.run_files import CHECKPOINT_FORMAT, Entry

PROMPT_FILES = ("adapter_config.json", "adapter_model.safetensors", "history.json", "placement.json")
PLACEMENTS = ("append", "prepend")
CARDS_VERSION = 1


def prompt_fault(folder: Path, entries: Mapping[str, Entry], deep: bool) -> tuple[str, Mapping[str, Any]]:
    """Return what is wrong with a prompt, and what it says of itself (``num_virtual_tokens``, ``placement``)."""
    fault = lacking(entries, PROMPT_FILES)
    if fault:
        return fault, {}
    adapter, fault = read_mapping(folder / "adapter_config.json")
    if fault:
        return f"adapter_config.json: {fault}", {}
    placed, fault = read_mapping(folder / "placement.json")
    if not fault and placed.get("placement") not in PLACEMENTS:
        fault = f"placement is {told(repr(placed.get('placement')))}, not one of {', '.join(PLACEMENTS)}"
    if fault:
        return f"placement.json: {fault}", {}
    history, fault = read_json(folder / "history.json")
    if not fault and not (isinstance(history, list) and all(isinstance(row, dict) for row in history)):
        fault = "it holds no list of losses"
    if fault:
        return f"history.json: {fault}", {}
    fault = _embeddings_fault(folder / "adapter_model.safetensors", adapter, deep)
    if fault:
        return f"adapter_model.safetensors: {fault}", {}
    return "", {"num_virtual_tokens": adapter["num_virtual_tokens"], "placement": placed["placement"]}


def _embeddings_fault(path: Path, adapter: Mapping[str, Any], deep: bool) -> str:
    found = read_tensors(path, deep)
    if found.fault:
        return found.fault
    wanted = (adapter.get("num_virtual_tokens"), adapter.get("token_dim"))
    shape = found.shapes.get("prompt_embeddings")
    if shape is None:
        return "it has no prompt_embeddings"
    if shape != wanted:
        return f"prompt_embeddings has shape {shape}, adapter_config.json says {told(wanted)}"
    if deep:
        import numpy as np

        if not np.isfinite(found.arrays["prompt_embeddings"]).all():
            return "prompt_embeddings holds what is no finite number"
    return ""


def unlike_cell(about: Mapping[str, Any], cell: Result) -> str:
    """Return in what a prompt is not the one that a cell's settings ask for."""
    settings = cell.config.get("prompt") or {}
    for name, value in about.items():
        if name in settings and settings[name] != value:
            return f"its {name} is {value}, the cell's settings say {told(settings[name])}"
    return ""


def card_fault(path: Path, cell: Result | None, shape: tuple[int, ...] | None) -> str:
    """Return what is wrong with the cards of a cell; ``shape`` is that of its scores."""
    content, fault = read_mapping(path)
    if fault:
        return fault
    if content.get("schema_version") != CARDS_VERSION:
        return "it was written by another version of skillneurons"
    if content.get("key", path.stem) != path.stem:
        return f"it holds the cards of {told(content['key'])}: files are named after their key"
    fault = cards_fault(content.get("columns"), shape)
    if not fault and cell is not None:
        more = sorted(set(content["columns"]) - set(cell.columns))
        fault = f"it has a column {told(more[0])}, which its cell has not" if more else ""
    return told(fault)


def run_record_fault(path: Path) -> str:
    """Return what is wrong with a run record."""
    content, fault = read_mapping(path)
    return fault or told(record_fault(content))


def checkpoint_fault(path: Path) -> tuple[str, int]:
    """Return what is wrong with the checkpoint of a tuning, and at which step it stands."""
    found = read_tensors(path, deep=True)
    if found.fault:
        return found.fault, 0
    if found.about.get("format") != CHECKPOINT_FORMAT:
        return "it was written by another version of skillneurons", 0
    if found.about.get("made_for") != path.stem:
        return f"it was made for {told(found.about.get('made_for'))}", 0
    try:
        state = json.loads(found.about["state"])
        step = int(state["step"])
        whole = all(isinstance(row, dict) for row in state["history"])
        whole &= all(isinstance(one, int | float) for one in state["running"])
        whole &= all(isinstance(state[name], int | float) for name in ("best_loss", "without", "at_once", "evaluated"))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return f"its state cannot be read ({type(error).__name__}: {told(error)})", 0
    if not whole or not {"virtual", "best"} <= found.shapes.keys():
        return "it holds no whole state", 0
    return "", step

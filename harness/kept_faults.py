"""What is wrong with what a run keeps beside its cells: passes, prompts, cards, run records, checkpoints.

Each is judged by itself and, where its cell is known, by what the cell says of it: columns, shapes (n_layers, d_ff) of ``n_neurons``,
rows (``n.discovery + n.heldout``), the number of virtual tokens. ``deep`` compares the numbers too: how many examples each column
scores and their mean, and the strongest neurons' r, are in the cell.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skillneurons.file_faults import read_json, read_mapping, read_table, read_tensors, scored, told
from skillneurons.leaderboard.site.kept_form import cards_fault, record_fault
from skillneurons.results import Result
from skillneurons.run_files import Entry

if TYPE_CHECKING:
    import numpy.typing as npt

ABOUT = ("id", "split", "group", "prompt", "target", "text", "correct")  # columns of examples that are no metric's
EXAMPLES_AND_SCORES = ("examples.parquet", "scores.safetensors")  # of a pass
OPTIONAL = ("heldout.safetensors", "neurons.safetensors")
PROMPT_FILES = ("adapter_config.json", "adapter_model.safetensors", "history.json", "placement.json")
PLACEMENTS = ("append", "prepend")
CHECKPOINT_FORMAT = "1"
CARDS_VERSION = 1
_CLOSE = 1e-5  # r is kept as float32
_DIMENSIONS = 2


def lacking(entries: Mapping[str, Entry], needed: tuple[str, ...]) -> str:
    """Return which of the needed files a folder has not."""
    for name in needed:
        if name not in entries:
            return f"it has no {name}"
        if entries[name].kind != "file":
            return f"its {name} is no file"
    return ""


def pass_fault(
    folder: Path, entries: Mapping[str, Entry], cell: Result | None, deep: bool
) -> tuple[str, tuple[int, ...] | None]:
    """Return what is wrong with a pass, and the shape (n_layers, d_ff) of its scores."""
    fault = lacking(entries, EXAMPLES_AND_SCORES)
    if fault:
        return fault, None
    fault, shape = _scores_fault(folder / "scores.safetensors", cell, deep)
    if fault:
        return f"scores.safetensors: {fault}", shape
    fault = _examples_fault(folder / "examples.parquet", cell, deep)
    if fault:
        return f"examples.parquet: {fault}", shape
    for name, check in zip(OPTIONAL, (_heldout_fault, _neurons_fault), strict=True):
        if name in entries:
            fault = check(folder / name, cell, shape, deep) if entries[name].kind == "file" else "it is no file"
            if fault:
                return f"{name}: {fault}", shape
    return "", shape


def _scores_fault(path: Path, cell: Result | None, deep: bool) -> tuple[str, tuple[int, ...] | None]:
    found = read_tensors(path, deep)
    fault = found.fault or _shapes_fault(found.shapes, cell)
    shape = next(iter(found.shapes.values()), None)
    if fault or not deep or cell is None:
        return fault, shape
    return _strongest_fault(found.arrays, cell), shape


def _shapes_fault(shapes: Mapping[str, tuple[int, ...]], cell: Result | None) -> str:
    """Check the shapes of scores by column against each other and the cell."""
    for name, shape in shapes.items():
        wanted = "" if cell is None else f" of {cell.n_neurons} neurons"
        if len(shape) != _DIMENSIONS or (cell is not None and math.prod(shape) != cell.n_neurons):
            return f"{told(name)} has shape {shape}, not (n_layers, d_ff){wanted}"
    if len(set(shapes.values())) > 1:
        return "its columns have several shapes"
    return "" if cell is None else _columns_fault(shapes, cell)


def _columns_fault(names: Mapping[str, Any] | tuple[str, ...], cell: Result) -> str:
    """Check that columns are those of the cell."""
    for name in cell.columns:
        if name not in names:
            return f"it has no column {told(name)}, which its cell has"
    more = sorted(set(names) - set(cell.columns))
    return f"it has a column {told(more[0])}, which its cell has not" if more else ""


def _strongest_fault(scores: Mapping[str, npt.NDArray[Any]], cell: Result) -> str:
    """Check that the strongest neurons of the cell have the r that the scores have there."""
    import numpy as np

    for name, figures in cell.columns.items():
        one = scores[name]
        if np.isinf(one).any():
            return f"{told(name)} holds infinities"
        if figures["status"] == "ok" and np.isnan(one).all():
            return f"{told(name)} holds NaN only, where its cell has figures"
        for row in figures.get("top") or []:
            layer, neuron, r = row["layer"], row["neuron"], row.get("r")
            if layer >= one.shape[0] or neuron >= one.shape[1]:
                return f"{told(name)} has no neuron L{layer:02d}.N{neuron:04d}, which its cell names"
            if r is not None and not abs(float(one[layer, neuron]) - r) <= _CLOSE:
                return f"{told(name)} has r {one[layer, neuron]:.6g} at L{layer:02d}.N{neuron:04d}, its cell {r:.6g}"
    return ""


def _examples_fault(path: Path, cell: Result | None, deep: bool) -> str:
    found = read_table(path, deep)
    if found.fault:
        return found.fault
    for name in ABOUT:
        if name not in found.columns:
            return f"it has no column {name}"
    if cell is None:
        return ""
    fault = _columns_fault(tuple(name for name in found.columns if name not in ABOUT), cell)
    wanted = [cell.n.get(split) for split in ("discovery", "heldout")]
    if fault or None in wanted:
        return fault
    rows = sum(one for one in wanted if one is not None)
    if found.rows != rows:
        return f"it has {found.rows} rows, its cell {rows} examples"
    return _values_fault(found.values, cell) if deep else ""


def _values_fault(values: Mapping[str, list[Any]], cell: Result) -> str:
    """Check ids, splits, and each column's number of scored examples and mean against the cell."""
    if len(set(values["id"])) < len(values["id"]):
        return "it has an example twice"
    splits = {name: [i for i, one in enumerate(values["split"]) if one == name] for name in ("discovery", "heldout")}
    for split, at in splits.items():
        if len(at) != cell.n[split]:
            return f"it has {len(at)} examples of {split}, its cell {cell.n[split]}"
    for name, figures in cell.columns.items():
        for split, at in splits.items():
            try:
                numbers = scored([values[name][i] for i in at])
            except (TypeError, ValueError) as error:
                return f"{told(name)} holds what is no number ({told(error)})"
            count = figures.get(f"n_{split}")
            if count is not None and len(numbers) != count:
                return f"{told(name)} scores {len(numbers)} examples of {split}, its cell {count}"
            mean = figures.get("mean") if split == "discovery" else None
            if (
                mean is not None
                and len(numbers)
                and not math.isclose(float(numbers.mean()), mean, rel_tol=1e-6, abs_tol=1e-9)
            ):
                return f"{told(name)} has mean {numbers.mean():.6g} on discovery, its cell {mean:.6g}"
    return ""


def _heldout_fault(path: Path, cell: Result | None, shape: tuple[int, ...] | None, deep: bool) -> str:
    found = read_tensors(path, deep)
    fault = found.fault or _shapes_fault(found.shapes, cell)
    if fault:
        return fault
    if shape is not None and any(one != shape for one in found.shapes.values()):
        return f"its columns have another shape than the scores {shape}"
    return next((f"{told(n)} holds infinities" for n, one in found.arrays.items() if not _no_infinity(one)), "")


def _no_infinity(one: npt.NDArray[Any]) -> bool:
    import numpy as np

    return not np.isinf(one).any()


def _neurons_fault(path: Path, cell: Result | None, shape: tuple[int, ...] | None, deep: bool) -> str:
    found = read_tensors(path, deep)
    if found.fault:
        return found.fault
    for name, size in found.shapes.items():
        column, _, part = name.rpartition("/")
        if part not in ("discovery", "heldout", "neurons") or (cell is not None and column not in cell.columns):
            return f"it has {told(name)}, which is no column's"
        count = found.shapes.get(f"{column}/neurons", (0,))[0:1]
        rows = None if cell is None else cell.n.get(part)
        right = size[1:] == count and (rows is None or size[0] == rows) if part != "neurons" else size[1:] == (2,)
        if len(size) != _DIMENSIONS or not right:
            return f"{told(name)} has shape {size}, which does not fit"
    for name, one in found.arrays.items():
        if name.endswith("/neurons") and shape is not None and ((one < 0) | (one >= shape)).any():
            return f"{told(name)} names neurons that the scores {shape} have not"
    return ""


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

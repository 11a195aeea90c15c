"""What is wrong with a pass: by its headers, and by what its cell says of it.

Columns are those of the cell, scores have shape (n_layers, d_ff) of ``n_neurons``, examples ``n.discovery + n.heldout`` rows. ``deep``
compares the numbers too: how many examples each column scores and their mean, and the r of the strongest neurons, stand in the cell;
Pearson's r is computed again from the activations that are kept.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skillneurons.file_faults import Table, Tensors, lacking, read_table, read_tensors, told
from skillneurons.pass_values import computed_fault, scores_as_in_cell, values_by_split, values_fault
from skillneurons.results import Result
from skillneurons.run_files import Entry

if TYPE_CHECKING:
    import numpy.typing as npt

ABOUT = ("id", "split", "group", "prompt", "target", "text", "correct")  # columns of examples that are no metric's
EXAMPLES_AND_SCORES = ("examples.parquet", "scores.safetensors")
OPTIONAL = ("heldout.safetensors", "neurons.safetensors")
_DIMENSIONS = 2


def pass_fault(
    folder: Path, entries: Mapping[str, Entry], cell: Result | None, deep: bool
) -> tuple[str, tuple[int, ...] | None]:
    """Return what is wrong with a pass, and the shape (n_layers, d_ff) of its scores."""
    fault = lacking(entries, EXAMPLES_AND_SCORES)
    if fault:
        return fault, None
    scores = read_tensors(folder / "scores.safetensors", deep)
    shape = next(iter(scores.shapes.values()), None)
    fault = _scores_fault(scores, cell, deep, "r")
    if fault:
        return f"scores.safetensors: {fault}", shape
    examples = read_table(folder / "examples.parquet", deep)
    fault = _examples_fault(examples, cell)
    if fault:
        return f"examples.parquet: {fault}", shape
    for name in (name for name in OPTIONAL if name in entries):
        fault = "it is no file"
        if entries[name].kind == "file":
            found = read_tensors(folder / name, deep)
            if name == "heldout.safetensors":
                fault = _heldout_fault(found, cell, shape, deep)
            else:
                fault = _neurons_fault(found, cell, shape)
                if deep and not fault and cell is not None and shape is not None:
                    values = values_by_split(examples.values, list(cell.columns))
                    fault = computed_fault(found.arrays, scores.arrays, values, cell)
        if fault:
            return f"{name}: {fault}", shape
    return "", shape


def _scores_fault(found: Tensors, cell: Result | None, deep: bool, r: str) -> str:
    """Check scores by column; ``r`` names the figure of the cell's strongest neurons that they hold."""
    fault = found.fault or _shapes_fault(found.shapes, cell)
    if fault or not deep or cell is None:
        return fault
    return scores_as_in_cell(found.arrays, cell, r)


def _shapes_fault(shapes: Mapping[str, tuple[int, ...]], cell: Result | None) -> str:
    """Check the shapes of scores by column against each other and the cell."""
    for name, shape in shapes.items():
        wanted = "" if cell is None else f" of {cell.n_neurons} neurons"
        if len(shape) != _DIMENSIONS or (cell is not None and math.prod(shape) != cell.n_neurons):
            return f"{told(name)} has shape {shape}, not (n_layers, d_ff){wanted}"
    if len(set(shapes.values())) > 1:
        return "its columns have several shapes"
    return "" if cell is None else _columns_fault(shapes, cell)


def _columns_fault(names: Collection[str], cell: Result) -> str:
    """Check that columns are those of the cell."""
    for name in cell.columns:
        if name not in names:
            return f"it has no column {told(name)}, which its cell has"
    more = sorted(set(names) - set(cell.columns))
    return f"it has a column {told(more[0])}, which its cell has not" if more else ""


def _examples_fault(found: Table, cell: Result | None) -> str:
    if found.fault:
        return found.fault
    for name in ABOUT:
        if name not in found.columns:
            return f"it has no column {name}"
    if cell is None:
        return ""
    fault = _columns_fault([name for name in found.columns if name not in ABOUT], cell)
    if fault or not {"discovery", "heldout"} <= cell.n.keys():
        return fault
    rows = cell.n["discovery"] + cell.n["heldout"]
    if found.rows != rows:
        return f"it has {found.rows} rows, its cell {rows} examples"
    return values_fault(found.values, cell) if found.values else ""


def _heldout_fault(found: Tensors, cell: Result | None, shape: tuple[int, ...] | None, deep: bool) -> str:
    fault = _scores_fault(found, cell, deep, "r_heldout")
    if not fault and any(one != shape for one in found.shapes.values()):
        return f"its columns have another shape than the scores {shape}"
    return fault


def _neurons_fault(found: Tensors, cell: Result | None, shape: tuple[int, ...] | None) -> str:
    """Check the activations of the strongest neurons by column, and which these are."""
    if found.fault:
        return found.fault
    for name, size in found.shapes.items():
        column, _, part = name.rpartition("/")
        if part not in ("discovery", "heldout", "neurons") or (cell is not None and column not in cell.columns):
            return f"it has {told(name)}, which is no column's"
        count = found.shapes.get(f"{column}/neurons", (0,))[:1]
        rows = None if cell is None else cell.n.get(part)
        fits = size[1:] == (2,) if part == "neurons" else size[1:] == count and (rows is None or size[0] == rows)
        if len(size) != _DIMENSIONS or not fits:
            return f"{told(name)} has shape {size}, which does not fit"
    for name, one in found.arrays.items():
        if name.endswith("/neurons") and shape is not None and not _are_neurons(one, shape):
            return f"{told(name)} names neurons that the scores {shape} have not"
    return ""


def _are_neurons(one: npt.NDArray[Any], shape: tuple[int, ...]) -> bool:
    return bool(((one >= 0) & (one < shape)).all())

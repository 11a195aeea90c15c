"""Whether the numbers of a pass are those that its cell was made from: counts, means, and r of the strongest neurons."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from skillneurons.file_faults import told
from skillneurons.results import Result

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SPLITS = ("discovery", "heldout")
_CLOSE = 1e-5  # r is kept as float32
_COMPUTED_CLOSE = 1e-3  # r that is computed again from float32 activations
Values = Mapping[tuple[str, str], "npt.NDArray[np.float64]"]  # by column and split


def scores_as_in_cell(scores: Mapping[str, npt.NDArray[Any]], cell: Result, r: str) -> str:
    """Check that the strongest neurons of the cell have the ``r`` (``r`` or ``r_heldout``) that the scores have there."""
    import numpy as np

    for name, figures in cell.columns.items():
        one = scores[name]
        if np.isinf(one).any():
            return f"{told(name)} holds infinities"
        if figures["status"] == "ok" and np.isnan(one).all():
            return f"{told(name)} holds NaN only, where its cell has figures"
        for row in figures.get("top") or []:
            layer, neuron, known = row["layer"], row["neuron"], row.get(r)
            place = f"L{layer:02d}.N{neuron:04d}"
            if layer >= one.shape[0] or neuron >= one.shape[1]:
                return f"{told(name)} has no neuron {place}, which its cell names"
            if known is not None and not abs(float(one[layer, neuron]) - known) <= _CLOSE:
                return f"{told(name)} has r {one[layer, neuron]:.6g} at {place}, its cell {known:.6g}"
    return ""


def values_fault(values: Mapping[str, list[Any]], cell: Result) -> str:
    """Check ids, splits, and each column's number of scored examples and mean against the cell."""
    import numpy as np

    if len(set(values["id"])) < len(values["id"]):
        return "it has an example twice"
    for split in SPLITS:
        rows = values["split"].count(split)
        if rows != cell.n[split]:
            return f"it has {rows} examples of {split}, its cell {cell.n[split]}"
    try:
        numbers = values_by_split(values, list(cell.columns))
    except (TypeError, ValueError) as error:
        return f"a column holds what is no number ({told(error)})"
    for (name, split), those in numbers.items():
        figures = cell.columns[name]
        scored = those[~np.isnan(those)]
        n, mean = figures.get(f"n_{split}"), figures.get("mean") if split == "discovery" else None
        if n is not None and len(scored) != n:
            return f"{told(name)} scores {len(scored)} examples of {split}, its cell {n}"
        if mean is not None and len(scored) and not math.isclose(scored.mean(), mean, rel_tol=1e-6, abs_tol=1e-9):
            return f"{told(name)} has mean {scored.mean():.6g} on discovery, its cell {mean:.6g}"
    return ""


def values_by_split(values: Mapping[str, list[Any]], columns: Sequence[str]) -> Values:
    """Return each column's values on each split, NaN where it is not scored; raise ValueError or TypeError for no numbers."""
    import numpy as np

    found = {}
    for split in SPLITS:
        rows = [i for i, one in enumerate(values["split"]) if one == split]
        for name in columns:
            kept = [values[name][i] for i in rows]
            found[name, split] = np.array([np.nan if one is None else one for one in kept], dtype=np.float64)
    return found


def computed_fault(
    kept: Mapping[str, npt.NDArray[Any]], scores: Mapping[str, npt.NDArray[Any]], values: Values, cell: Result
) -> str:
    """Check that Pearson's r of the activations kept is that of the scores on discovery; other statistics are not computed."""
    import numpy as np

    if cell.config["attribution"]["statistic"] != "pearson":
        return ""
    for name in cell.columns:
        if f"{name}/discovery" not in kept or f"{name}/neurons" not in kept:
            continue
        activations, value = kept[f"{name}/discovery"].astype(np.float64), values[name, "discovery"]
        for i, (layer, neuron) in enumerate(kept[f"{name}/neurons"]):
            known, place = float(scores[name][layer, neuron]), f"L{int(layer):02d}.N{int(neuron):04d}"
            both = ~np.isnan(value)
            x, y = activations[both, i], value[both]
            if np.isnan(x).any() or math.isnan(known) or len(y) < 2 or not (x.std() and y.std()):
                continue  # a neuron that does not always fire, or nothing to correlate
            r = float(np.corrcoef(x, y)[0, 1])
            if not abs(r - known) <= _COMPUTED_CLOSE:
                return f"{told(name)} at {place}: its activations give r {r:.6g}, the scores say {known:.6g}"
    return ""

"""The held-out activations that a pass keeps of a cell's strongest neurons, beside the values of its columns.

neurons.safetensors   column/neurons (k, 2) layer and neuron; column/heldout (rows, k) activations
examples.parquet      split, and one column per metric column
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skillneurons.leaderboard.site.kept import fetched
from skillneurons.leaderboard.sources import Source
from skillneurons.results import Result

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Activations:
    """By column: ``neurons`` (k, 2), their ``activations`` (rows, k), and the column's ``values`` (rows,) held out."""

    neurons: Mapping[str, npt.NDArray[Any]]
    activations: Mapping[str, npt.NDArray[Any]]
    values: Mapping[str, Doubles]

    def heldout(self, column: str, layer: int, neuron: int) -> tuple[npt.NDArray[Any], Doubles] | None:
        """Return (activations, values of the column), (rows,) each; None where the neuron was not kept.

        What is no finite number is left out: it has no place on an axis.
        """
        import numpy as np

        if column not in self.values:
            return None
        found = np.flatnonzero((self.neurons[column] == (layer, neuron)).all(axis=1))
        if not len(found):
            return None
        activations, values = self.activations[column][:, found[0]], self.values[column]
        finite = np.isfinite(activations) & np.isfinite(values)
        return activations[finite], values[finite]


def kept_activations(sources: Sequence[Source], cell: Result, problems: list[str]) -> Activations | None:
    """Return the kept activations of a cell; None where they are not here, or damaged, which is a problem."""
    place = f"passes/{cell.pass_}"
    rows = fetched(sources, f"{place}/neurons.safetensors", problems) if cell.pass_ else None
    table = fetched(sources, f"{place}/examples.parquet", problems) if rows is not None else None
    if rows is None or table is None:
        return None
    import pyarrow as pa
    from safetensors import SafetensorError

    try:
        return _parsed(rows, table, list(cell.columns))
    except (SafetensorError, ValueError, LookupError, TypeError, OSError, pa.ArrowException) as error:
        reason = str(error)
    problems.append(
        f"{place}/neurons.safetensors and examples.parquet cannot be read ({reason}); delete the folder and run again"
    )
    return None


def _parsed(rows: bytes, table: bytes, columns: Sequence[str]) -> Activations:
    """Return both files as arrays; raise ValueError where they do not fit together."""
    import numpy as np
    import pyarrow.parquet as pq
    from safetensors.numpy import load

    kept, examples = load(rows), pq.read_table(io.BytesIO(table))
    here = np.array(examples.column("split").to_pylist()) == "heldout"
    known = [name for name in columns if f"{name}/neurons" in kept and name in examples.column_names]
    neurons = {name: kept[f"{name}/neurons"] for name in known}
    activations = {name: kept[f"{name}/heldout"] for name in known}
    values = {name: np.array(examples.column(name).to_pylist(), dtype=np.float64)[here] for name in known}
    for name in known:
        if neurons[name].shape[1:] != (2,) or activations[name].shape != (len(values[name]), len(neurons[name])):
            raise ValueError(
                f"{name} has shapes {neurons[name].shape} and {activations[name].shape} for {len(values[name])} examples"
            )
    return Activations(neurons, activations, values)

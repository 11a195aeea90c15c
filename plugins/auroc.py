"""AUROC: how often an example of class 1 has the higher activation than one of class 0 (ties count half).

    AUC = (R1 - n1 (n1 + 1) / 2) / (n1 n0),  R1 the sum of the ranks of class 1

for a column of 0 and 1; NaN for any other column, one class alone, or a constant neuron. The signed effect is
2 AUC - 1, the rank-biserial correlation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import skillneurons as sn
from skillneurons.plugins.ranks import KeptRows, average_ranks
from skillneurons.statistics import Array, ClassCounts, LinearForm, same


class AurocAccumulator(KeptRows):
    """Area under the ROC curve: (columns, neurons)."""

    def effect(self) -> Array:
        """Return 2 AUC - 1, shape (columns, neurons)."""
        effect = np.full((self.n_columns, self.n_neurons), np.nan)
        for neurons, columns, ranks, values in self.ranked():
            for i, column in enumerate(columns):
                x, y = _parts(ranks, values[:, i])
                effect[column, neurons] = y @ x if len(y) else np.nan
        return effect

    def result(self) -> Array:
        """Return the area, shape (columns, neurons)."""
        return (1 + self.effect()) / 2

    @staticmethod
    def linear_form(activations: Any, values: Array, baseline: Array | None = None) -> LinearForm:
        """Return the effect as a product of centred ranks and class membership."""
        x, y = _parts(average_ranks(np.asarray(activations, dtype=np.float64)), values)
        return LinearForm(x, y, same)


def _parts(ranks: Array, values: Array) -> tuple[Array, Array]:
    """Return centred ranks over the number of rows, and the class weights that make their product 2 AUC - 1."""
    rows = max(len(ranks), 1)
    x = (ranks - (rows + 1) / 2) / rows
    x[:, (x == 0).all(axis=0) if x.size else []] = np.nan
    ones, zeros = (float(n[0]) for n in ClassCounts(1).update(values[:, None]).usable())
    return x, (values == 1) * (2 * rows / (ones * zeros))


@sn.hookimpl
def register_attributions(register: Any) -> None:
    register("auroc", AurocAccumulator)

"""Activation times gradient: what the target's log-probability would lose, to first order, without the neuron.

    score[c, n] = mean over the rows that column c scores of  a[n] * d log p(target) / d a[n]      (nats)

Attribution patching with a zero baseline. The rows that come in are these products already (``gradient``); a column
says only which rows count. There is no permutation null: the score is not a relation between neuron and column.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import skillneurons as sn
from skillneurons.statistics import Accumulator, Array, checked_rows


class GradXActivationAccumulator(Accumulator):
    """Mean of activation times gradient: (columns, neurons)."""

    gradient = True

    def __init__(self, n_neurons: int, n_columns: int) -> None:
        super().__init__(n_neurons, n_columns)
        self._n = np.zeros(n_columns)
        self._sum = np.zeros((n_columns, n_neurons))

    @property
    def counts(self) -> Array:
        """Return the number of scored rows of each column, shape (columns,)."""
        return self._n.copy()

    def update(self, activations: Any, values: Any) -> GradXActivationAccumulator:
        """Add rows: products (rows, neurons) in nats, ``values`` (rows, columns), NaN = not scored."""
        a, v = checked_rows(activations, values, self.n_neurons, self.n_columns)
        scored = (~np.isnan(v)).astype(np.float64)
        self._n += scored.sum(axis=0)
        self._sum += scored.T @ a
        return self

    def merge(self, other: GradXActivationAccumulator) -> GradXActivationAccumulator:
        """Add the rows another accumulator has seen."""
        self.check_same_size(other)
        self._n += other._n
        self._sum += other._sum
        return self

    def result(self) -> Array:
        """Return the mean product, shape (columns, neurons); NaN for a column without scored rows."""
        with np.errstate(invalid="ignore", divide="ignore"):
            mean: Array = self._sum / self._n[:, None]
        return mean


@sn.hookimpl
def register_attributions(register: Any) -> None:
    register("grad_x_activation", GradXActivationAccumulator)

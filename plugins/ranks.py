"""Statistics of ranks keep their rows: what they share, and the ranks themselves (ties get their average)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from skillneurons.statistics import Accumulator, Array, checked_rows

BLOCK = 512  # neurons ranked at a time


class KeptRows(Accumulator):
    """An accumulator that keeps its rows; memory is rows x (neurons + columns)."""

    def __init__(self, n_neurons: int, n_columns: int) -> None:
        super().__init__(n_neurons, n_columns)
        self._activations: list[Array] = []
        self._values: list[Array] = []

    @property
    def counts(self) -> Array:
        """Return the number of scored rows of each column, shape (columns,)."""
        counts: Array = (~np.isnan(self.values())).sum(axis=0).astype(np.float64)
        return counts

    def update(self, activations: Any, values: Any) -> Self:
        """Add rows: ``activations`` (rows, neurons), ``values`` (rows, columns), NaN = not scored."""
        a, v = checked_rows(activations, values, self.n_neurons, self.n_columns)
        self._activations.append(a)
        self._values.append(v)
        return self

    def merge(self, other: Self) -> Self:
        """Add the rows another accumulator has seen; the order does not matter."""
        self.check_same_size(other)
        self._activations += other._activations
        self._values += other._values
        return self

    def values(self) -> Array:
        """Return the values of all rows, shape (rows, columns)."""
        return np.concatenate([np.empty((0, self.n_columns)), *self._values])

    def ranked(self) -> Iterator[tuple[slice, list[int], Array, Array]]:
        """Yield (neurons, columns, ranks (rows, neurons), values (rows, columns)) of columns scored on the same rows."""
        v = self.values()
        scored = ~np.isnan(v)
        masks: dict[bytes, list[int]] = {}
        for column in range(self.n_columns):
            masks.setdefault(scored[:, column].tobytes(), []).append(column)
        for start in range(0, self.n_neurons, BLOCK):
            neurons = slice(start, start + BLOCK)
            a = np.concatenate(
                [np.empty((0, self.n_neurons))[:, neurons], *(rows[:, neurons] for rows in self._activations)]
            )
            for mask, columns in masks.items():
                used = np.frombuffer(mask, dtype=bool)
                yield neurons, columns, average_ranks(a[used]), v[used][:, columns]


def average_ranks(values: Array) -> Array:
    """Return the ranks from 1 within each column of (rows, columns), ties their average."""
    from scipy.stats import rankdata

    if not values.size:
        return np.empty(values.shape)
    ranks: Array = rankdata(values, axis=0)
    return ranks

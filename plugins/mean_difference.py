r"""Mean difference: how many pooled standard deviations lie between the activations of the two classes.

    d[c, n] = (m1 - m0) / sqrt(((n1 - 1) s1^2 + (n0 - 1) s0^2) / (n1 + n0 - 2))

for a column of 0 and 1 (Cohen's d). NaN for any other column, one class alone, or a neuron that is constant within
both classes. It is taken from Pearson's sums: with r the point-biserial correlation,
d = r sqrt((N - 2) N / (n1 n0)) / sqrt(1 - r^2), which is also the link of the linear form.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import skillneurons as sn
from skillneurons.statistics import (
    Accumulator,
    Array,
    ClassCounts,
    LinearForm,
    PearsonAccumulator,
    checked_rows,
)


class MeanDifferenceAccumulator(Accumulator):
    """Standardised difference of class means, from Pearson's sums: (columns, neurons)."""

    t_distribution = True  # the same test as that of r

    def __init__(self, n_neurons: int, n_columns: int) -> None:
        super().__init__(n_neurons, n_columns)
        self._pearson = PearsonAccumulator(n_neurons, n_columns)
        self._classes = ClassCounts(n_columns)

    @property
    def counts(self) -> Array:
        """Return the number of scored rows of each column, shape (columns,)."""
        return self._pearson.counts

    def update(self, activations: Any, values: Any) -> MeanDifferenceAccumulator:
        """Add rows: ``activations`` (rows, neurons), ``values`` (rows, columns), NaN = not scored."""
        a, v = checked_rows(activations, values, self.n_neurons, self.n_columns)
        self._pearson.update(a, v)
        self._classes.update(v)
        return self

    def merge(self, other: MeanDifferenceAccumulator) -> MeanDifferenceAccumulator:
        """Add the rows another accumulator has seen."""
        self.check_same_size(other)
        self._pearson.merge(other._pearson)
        self._classes.merge(other._classes)
        return self

    def result(self) -> Array:
        """Return d, shape (columns, neurons)."""
        ones, zeros = self._classes.usable()
        d: Array = difference_of(self._pearson.result(), ones[:, None], zeros[:, None])
        return d

    @staticmethod
    def linear_form(activations: Any, values: Array, baseline: Array | None = None) -> LinearForm:
        """Return d as Pearson's product with the link from r to d."""
        form = PearsonAccumulator.linear_form(activations, values)
        ones, zeros = ClassCounts(1).update(values[:, None]).usable()
        y = form.y if np.isfinite(ones[0]) else np.full(len(values), np.nan)
        return LinearForm(form.x, y, lambda r: difference_of(r, float(ones[0]), float(zeros[0])))


def difference_of(r: Any, ones: Any, zeros: Any) -> Any:
    """Return d for a point-biserial r and the sizes of the classes (NaN: not two classes).

    NaN where 1 - r^2 is rounding (below 1e-12): nothing varies within the classes, and d is undefined.
    """
    n = ones + zeros
    with np.errstate(invalid="ignore", divide="ignore"):
        d = r * np.sqrt((n - 2) * n / (ones * zeros)) / np.sqrt(1 - r**2)
    return np.where(np.isfinite(d) & (1 - r**2 > 1e-12), d, np.nan)


@sn.hookimpl
def register_attributions(register: Any) -> None:
    register("mean_difference", MeanDifferenceAccumulator)

"""Predictivity (Wang et al. 2022, arXiv 2211.07349): how well "fires above its usual level" tells the class.

    acc[c, n] = mean over the two classes of the share told rightly by  activation > baseline[n]
    predictivity = max(acc, 1 - acc)

where the baseline is the neuron's mean activation on ``train``, and columns are of 0 and 1. Classes weigh the same
whatever their sizes. The signed effect is 2 acc - 1. NaN for any other column, one class alone, or a neuron that is
never, or always, above its baseline. Counts are whole numbers, so merging is exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import skillneurons as sn
from skillneurons.statistics import Accumulator, Array, ClassCounts, LinearForm, checked_rows, same


class PredictivityAccumulator(Accumulator):
    """Balanced accuracy of a threshold at the train mean: (columns, neurons)."""

    baseline_split = "train"

    def __init__(self, n_neurons: int, n_columns: int) -> None:
        super().__init__(n_neurons, n_columns)
        self._baseline: Array | None = None
        self._classes = ClassCounts(n_columns)
        self._above = np.zeros((2, n_columns, n_neurons))  # rows above the baseline, by class

    def set_baseline(self, means: Array) -> None:
        """Set every neuron's threshold, shape (neurons,); once, before the first rows."""
        if means.shape != (self.n_neurons,):
            raise sn.UserError(f"the baseline must have {self.n_neurons} means, got shape {means.shape}")
        self._baseline = means

    @property
    def counts(self) -> Array:
        """Return the number of scored rows of each column, shape (columns,)."""
        return self._classes.scored

    def update(self, activations: Any, values: Any) -> PredictivityAccumulator:
        """Add rows: ``activations`` (rows, neurons), ``values`` (rows, columns), NaN = not scored."""
        a, v = checked_rows(activations, values, self.n_neurons, self.n_columns)
        if self._baseline is None:
            raise sn.UserError("predictivity needs the mean activations on train first: call set_baseline")
        fires = (a > self._baseline).astype(np.float64)
        self._classes.update(v)
        for value in (0, 1):
            self._above[value] += (v == value).astype(np.float64).T @ fires
        return self

    def merge(self, other: PredictivityAccumulator) -> PredictivityAccumulator:
        """Add the rows another accumulator has seen; both must have the same baseline."""
        self.check_same_size(other)
        mine, theirs = self._baseline, other._baseline
        if mine is not None and theirs is not None and not np.array_equal(mine, theirs):
            raise sn.UserError(
                "cannot merge predictivity of two baselines; take the mean activations of one split for both"
            )
        self._classes.merge(other._classes)
        self._above += other._above
        if self._baseline is None:
            self._baseline = other._baseline
        return self

    def effect(self) -> Array:
        """Return 2 acc - 1, shape (columns, neurons): positive where the neuron fires for class 1."""
        ones, zeros = self._classes.usable()
        with np.errstate(invalid="ignore"):
            effect: Array = self._above[1] / ones[:, None] - self._above[0] / zeros[:, None]
        fired = self._above.sum(axis=0)
        effect[(fired == 0) | (fired == self.counts[:, None])] = np.nan
        return effect

    def result(self) -> Array:
        """Return max(acc, 1 - acc), shape (columns, neurons)."""
        return (1 + np.abs(self.effect())) / 2

    @staticmethod
    def linear_form(activations: Any, values: Array, baseline: Array | None = None) -> LinearForm:
        """Return the effect as a product of firing (rows, neurons) and class weights (rows,)."""
        if baseline is None:
            raise sn.UserError("predictivity needs the mean activations on train: give a baseline")
        x = (np.asarray(activations) > baseline).astype(np.float64)
        x[:, (x.min(axis=0) == x.max(axis=0)) if x.size else []] = np.nan
        ones, zeros = (float(n[0]) for n in ClassCounts(1).update(values[:, None]).usable())
        return LinearForm(x, np.where(values == 1, 1 / ones, -1 / zeros), same)


@sn.hookimpl
def register_attributions(register: Any) -> None:
    register("predictivity", PredictivityAccumulator)

"""Spearman's rho: Pearson's r of the ranks, ties their average. NaN where either side is constant."""

from __future__ import annotations

from typing import Any

import numpy as np
import skillneurons as sn
from skillneurons.plugins.ranks import KeptRows, average_ranks
from skillneurons.statistics import Array, LinearForm, PearsonAccumulator


class SpearmanAccumulator(KeptRows):
    """Rank correlation: (columns, neurons)."""

    t_distribution = True  # for many rows, as scipy.stats.spearmanr has it

    def result(self) -> Array:
        """Return rho, shape (columns, neurons)."""
        rho = np.full((self.n_columns, self.n_neurons), np.nan)
        for neurons, columns, ranks, values in self.ranked():
            if len(ranks):
                sums = PearsonAccumulator(ranks.shape[1], len(columns)).update(ranks, average_ranks(values))
                rho[columns, neurons] = sums.result()
        return rho

    @staticmethod
    def linear_form(activations: Any, values: Array, baseline: Array | None = None) -> LinearForm:
        """Return rho as a product of standardised ranks."""
        ranks = average_ranks(np.asarray(activations, dtype=np.float64))
        return PearsonAccumulator.linear_form(ranks, average_ranks(values[:, None])[:, 0])


@sn.hookimpl
def register_attributions(register: Any) -> None:
    register("spearman", SpearmanAccumulator)

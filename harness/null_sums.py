"""The null of Pearson's r from the permutation sums of shards, where those are less to move than rows (``sharded_rows``).

The sums are float64, and products of rows float32, which differ by ``ROUNDING`` at most. What null95 and n_fwer hang on
within that is looked up in the rows of the blocks of neurons concerned, few of them: both are to the bit what all rows give.
A neuron's p_adjusted may differ by 1 / (B + 1) for each permutation whose largest effect ties with it in float32; p_raw by a
bin of the pooled null, the mean number of neurons above a level by those that lie on it within ``ROUNDING``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from skillneurons.null_tally import ALPHA, ROUNDING, Doubles, LinearForms, Tally, add, single, sizes
from skillneurons.permutation_sums import Permutations
from skillneurons.sharded_rows import ShardedRows
from skillneurons.statistics import PearsonAccumulator


def takes_sums(rows: ShardedRows, linear_form: LinearForms, n_permutations: int, n_columns: int) -> bool:
    """Return whether the shards' permutation sums are read and not their rows: Pearson's alone, where that is less to move."""
    if linear_form is not PearsonAccumulator.linear_form:
        return False
    return rows.bytes_as_sums(n_permutations, n_columns) < rows.bytes_as_rows()


def add_sums(
    rows: ShardedRows, permutations: Permutations, tallies: Sequence[Tally], thresholds: Sequence[float]
) -> None:
    """Add the products of all neurons, taken from sums over rows that stay where they are."""
    peaks: list[list[Doubles]] = [[] for _ in tallies]  # the largest |r| of each permutation, by column and block
    blocks = []
    for neurons, by_share in rows.permuted(permutations):
        blocks.append(neurons)
        for (_, columns), sums in zip(permutations.shares, by_share, strict=True):
            size = np.abs(sums.result()).reshape(len(columns), permutations.n_permutations + 1, rows.shape[1], -1)
            for column, strongest in zip(columns, np.fmax.reduce(size, axis=2), strict=True):
                tallies[column].fired.append(sums.rows_fired())
                add(tallies[column], strongest[:, None], thresholds)
                peaks[column].append(np.where(np.isnan(strongest[0]), -1.0, strongest[1:]).max(axis=1))
    for scored, columns in permutations.shares:
        for column in columns:
            _settle(rows, permutations.values[:, column], scored, blocks, np.array(peaks[column]), tallies[column])


def _settle(
    rows: ShardedRows,
    values: Doubles,
    scored: npt.NDArray[np.bool_],
    blocks: Sequence[slice],
    peaks: Doubles,
    tally: Tally,
) -> None:
    """Put what rows give in place of what sums gave, wherever ``ROUNDING`` could change the threshold or who passes it."""
    n, apart = len(tally.largest), 2 * ROUNDING
    passing = np.count_nonzero((1 + np.arange(n)) / (n + 1) <= ALPHA)  # so many permutations may not reach an effect
    threshold = np.quantile(tally.largest, 1 - ALPHA, method="higher")
    decisive = np.array([threshold, np.sort(tally.largest)[n - passing]])
    near = (np.abs(tally.largest[:, None] - decisive) <= apart).any(axis=1)
    largest = np.zeros(int(near.sum()))
    for i, neurons in enumerate(blocks):
        close = (np.abs(tally.observed[i][:, None] - ROUNDING - decisive) <= apart).any()
        if not close and not (peaks[i, near] >= tally.largest[near] - apart).any():
            continue
        activations = rows.block(neurons)[scored].reshape(int(scored.sum()), -1)
        form = PearsonAccumulator.linear_form(activations, values[scored])
        size = sizes(form, tally, form.x.astype(np.float32), single(form.fired)).reshape(1 + n, rows.shape[1], -1)
        strongest = np.fmax.reduce(size, axis=1)
        tally.observed[i] = strongest[0].astype(np.float64)
        null = strongest[1:][near][:, ~np.isnan(strongest[0])]
        largest = np.maximum(largest, null.max(axis=1, initial=0.0))
    tally.largest[near] = largest

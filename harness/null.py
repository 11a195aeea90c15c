"""How large the strongest of many unrelated neurons gets: the Westfall-Young max-T null, for all columns at once.

For each column the metric is permuted B times (``exchange``), every neuron's effect is taken again, and the
largest |effect| of each permutation kept. With P[b, n] the effect of neuron n under permutation b:

    null95        95th percentile of max_n |P[b, n]| over b
    p_adjusted[n] (1 + #{b: max_m |P[b, m]| >= |effect[n]|}) / (B + 1)
    n_fwer        neurons with p_adjusted <= 0.05: family-wise error 5 % per column
    n_fdr         Benjamini-Hochberg at 5 % on raw p-values: Student's t where rows are exchangeable and the
                  statistic has that distribution, else the pooled null (1 + #{P >= |effect|}) / (1 + B M)

Permuted columns are columns of one matrix product with the activations (``LinearForm``), in float32; the
observed effect is one of them, so that both are rounded alike. With several read positions a neuron counts by
its strongest one, in the null too. Where the rows lie with the shards of a pass, ``null_sums`` may take the
products from their sums. Source: Westfall & Young 1993; Phipson & Smyth 2010 for the added one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from skillneurons.exchange import exchange
from skillneurons.null_sums import add_sums, takes_sums
from skillneurons.null_tally import ALPHA, BINS, ROUNDING, Doubles, LinearForms, Tally, add, single, sizes
from skillneurons.permutation_sums import Permutations
from skillneurons.sharded_rows import ShardedRows
from skillneurons.spool import ActivationRows
from skillneurons.statistics import products

__all__ = [
    "ALPHA",
    "ROUNDING",
    "ColumnNull",
    "Replication",
    "benjamini_hochberg",
    "permutation_null",
    "replicated",
    "smallest_useful",
    "t_p_values",
]


@dataclass(frozen=True, eq=False)
class ColumnNull:
    """The null of one column. Without permutations ``reason`` says why, and all figures are None.

    ``p_adjusted`` and ``p_raw`` have shape (n_neurons,), NaN where the neuron has no effect; ``largest`` (B,) is
    the largest |effect| of each permutation; ``above`` the mean number of neurons at or above each threshold.
    """

    scheme: str = ""
    reason: str = ""
    threshold: float | None = None
    n_fwer: int | None = None
    n_fdr: int | None = None
    p_adjusted: Doubles | None = None
    p_raw: Doubles | None = None
    largest: Doubles | None = None
    above: Sequence[float] = ()

    @property
    def n_permutations(self) -> int:
        return 0 if self.largest is None else len(self.largest)


def smallest_useful(alpha: float = ALPHA) -> int:
    """Return the fewest permutations with which a p-value of ``alpha`` can be reached."""
    return math.ceil(1 / alpha) - 1


def permutation_null(
    rows: ActivationRows | ShardedRows,
    values: Doubles,
    groups: Sequence[str],
    linear_form: LinearForms,
    *,
    n_permutations: int,
    seed: int,
    thresholds: Sequence[float] = (),
    t_distribution: bool = False,
    baseline: Doubles | None = None,
) -> list[ColumnNull]:
    """Return the null of every column of ``values`` (rows, columns); NaN rows are left out of their column.

    ``groups`` names each row's group. ``thresholds`` are |effect| levels to count. ``baseline`` (n_positions *
    n_neurons,) goes to ``linear_form``. The same rows, groups and seed give the same orders for all columns.
    """
    found: list[ColumnNull | None] = [None] * values.shape[1]
    tallies: dict[int, Tally] = {}
    shares: dict[bytes, list[int]] = {}  # columns scored on the same rows
    for column in range(values.shape[1]):
        scored = ~np.isnan(values[:, column])
        reason = _refusal(values[scored, column], n_permutations)
        if not reason:
            kept = [group for group, used in zip(groups, scored, strict=True) if used]
            drawn = exchange(values[scored, column], kept, n_permutations, seed)
            reason = drawn.reason
        if reason:
            found[column] = ColumnNull(reason=reason)
            continue
        tallies[column] = Tally(
            drawn,
            np.zeros(n_permutations),
            np.zeros(BINS + 1, dtype=np.int64),
            np.zeros(len(thresholds)),
        )
        shares.setdefault(scored.tobytes(), []).append(column)
    if tallies and isinstance(rows, ShardedRows) and takes_sums(rows, linear_form, n_permutations, len(tallies)):
        permutations = Permutations(values[:, list(tallies)], groups, n_permutations, seed)
        add_sums(rows, permutations, list(tallies.values()), thresholds)
    elif tallies:
        for neurons, block in rows.blocks():
            part = None if baseline is None else baseline.reshape(rows.shape[1:])[:, neurons].ravel()
            for mask, columns in shares.items():
                scored = np.frombuffer(mask, dtype=bool)
                activations = block[scored].reshape(int(scored.sum()), -1)
                _add_block(activations, values[scored], columns, tallies, linear_form, part, rows.shape[1], thresholds)
    for column, tally in tallies.items():
        found[column] = _closed(tally, t_distribution and rows.shape[1] == 1)
    return [one for one in found if one is not None]


def _refusal(values: Doubles, n_permutations: int) -> str:
    if n_permutations < smallest_useful():
        return (
            f"{n_permutations} permutations: at least {smallest_useful()} are needed for p = {ALPHA}; "
            "200 are usual (attribution.permutations)"
        )
    if len(values) < 3:
        return f"{len(values)} scored examples: a null needs at least 3"
    if np.ptp(values) == 0:
        return "the column is constant"
    return ""


def _add_block(
    activations: npt.NDArray[np.float32],
    values: Doubles,
    columns: Sequence[int],
    tallies: dict[int, Tally],
    linear_form: LinearForms,
    baseline: Doubles | None,
    n_positions: int,
    thresholds: Sequence[float],
) -> None:
    """Add the products of a block (rows, n_positions * neurons) with all permutations of some columns."""
    x: npt.NDArray[np.float32] | None = None
    fired: npt.NDArray[np.float32] | None = None
    for column in columns:  # one product each, so that no figure depends on which other columns there are
        tally = tallies[column]
        if x is None:
            form = linear_form(activations, values[:, column], baseline)
            x = form.x.astype(np.float32)
            fired = single(form.fired)
        else:  # the activations' side is the same for all columns: a form of no neurons gives the values' side
            form = linear_form(activations[:, :0], values[:, column], None if baseline is None else baseline[:0])
        tally.link = form.link
        size = sizes(form, tally, x, fired)
        tally.fired.append(np.full(size.shape[1], len(activations)) if fired is None else fired.sum(axis=0))
        add(tally, size.reshape(len(size), n_positions, -1), thresholds)


def _closed(tally: Tally, t_distribution: bool) -> ColumnNull:
    observed = np.concatenate(tally.observed)
    defined = ~np.isnan(observed)
    if not defined.any():
        return ColumnNull(reason="the statistic is defined for no neuron")
    n_permutations = len(tally.largest)
    ordered = np.sort(tally.largest)
    reached = n_permutations - np.searchsorted(ordered, observed[defined] - ROUNDING)
    adjusted = np.full(len(observed), np.nan)
    adjusted[defined] = (1 + reached) / (n_permutations + 1)
    raw = np.full(len(observed), np.nan)
    if t_distribution and tally.exchange.scheme == "rows":
        raw[defined] = t_p_values(observed[defined], np.concatenate(tally.fired)[defined])
    else:
        at_least = np.cumsum(tally.histogram[::-1])[::-1]  # null values in this bin or above
        bins = np.minimum((np.maximum(observed[defined] - ROUNDING, 0.0) * BINS).astype(np.int64), BINS)
        raw[defined] = (1 + at_least[bins]) / (1 + tally.histogram.sum())
    return ColumnNull(
        scheme=tally.exchange.scheme,
        threshold=float(tally.link(np.quantile(tally.largest, 1 - ALPHA, method="higher"))),
        n_fwer=int(np.count_nonzero(adjusted[defined] <= ALPHA)),
        n_fdr=benjamini_hochberg(raw[defined]),
        p_adjusted=adjusted,
        p_raw=raw,
        largest=np.asarray(tally.link(tally.largest), dtype=np.float64),
        above=[float(count) for count in tally.above],
    )


def t_p_values(r: Doubles, n_rows: Any) -> Doubles:
    """Return two-sided p-values of correlations of ``n_rows`` independent rows each (Student's t, n - 2)."""
    from scipy.special import stdtr

    with np.errstate(divide="ignore"):
        t = np.abs(r) * np.sqrt((n_rows - 2) / np.maximum(1 - r**2, 0.0))
    p: Doubles = 2 * stdtr(n_rows - 2, -t)
    return p


def benjamini_hochberg(p: Doubles, alpha: float = ALPHA) -> int:
    """Return how many hypotheses Benjamini-Hochberg rejects at a false discovery rate of ``alpha``."""
    if not len(p):
        return 0
    passed = np.flatnonzero(np.sort(p) <= alpha * np.arange(1, len(p) + 1) / len(p))
    return int(passed[-1]) + 1 if len(passed) else 0


@dataclass(frozen=True, eq=False)
class Replication:
    """Which of the chosen neurons hold out: one-sided max-T over them alone on heldout."""

    n: int | None
    reason: str = ""


def replicated(
    activations: npt.NDArray[np.float32],
    signs: Doubles,
    values: Doubles,
    groups: Sequence[str],
    linear_form: LinearForms,
    *,
    n_permutations: int,
    seed: int,
    baseline: Doubles | None = None,
) -> Replication:
    """Count the chosen neurons whose effect on heldout, with their sign on discovery, passes max-T among them.

    ``activations`` (rows, chosen), ``signs`` (chosen,), ``values`` (rows,).
    """
    scored = ~np.isnan(values)
    reason = _refusal(values[scored], n_permutations)
    if reason:
        return Replication(None, f"heldout: {reason}")
    drawn = exchange(values[scored], [g for g, used in zip(groups, scored, strict=True) if used], n_permutations, seed)
    if drawn.reason:
        return Replication(None, f"heldout: {drawn.reason}")
    if not len(signs):
        return Replication(0)
    form = linear_form(activations[scored], values[scored], baseline)
    x = (form.x * signs).astype(np.float32)
    orders = np.concatenate([form.y[None], form.y[drawn.orders]]).astype(np.float32)
    found = products(orders, x, None if form.fired is None else form.fired.astype(np.float32))
    found = found[:, ~np.isnan(found[0])]
    if not found.shape[1]:
        return Replication(0)
    largest = np.sort(found[1:].max(axis=1))
    reached = n_permutations - np.searchsorted(largest, found[0] - ROUNDING)
    return Replication(int(np.count_nonzero((1 + reached) / (n_permutations + 1) <= ALPHA)))

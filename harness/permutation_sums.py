r"""Pearson's r of every neuron with permuted values, as sums over rows that merge: what a shard sends instead of its rows.

With y the values about their mean, of norm 1, and y_b their order b (order 0 is the observed one), the null needs

    P[b, n] = sum_i (a_in - mean_n) y_bi / norm_n

over all rows i. A shard has some of the rows. It gives, in float64, count, means and centred second moments of its
activations and of its part of every y_b, and their comoments (``moments``): rows of one set and another merge by Chan's
rule to those of both, in any order, to rounding. Which rows an order puts together is drawn from the whole column, the
same in every shard. NaN activations (an expert's neuron that did not fire) are left out pair by pair, as ``statistics.products`` does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from skillneurons.errors import UserError
from skillneurons.exchange import exchange
from skillneurons.moments import RunningMoments
from skillneurons.statistics import FEWEST_FIRED, ROUNDED, rounding_of, standardised

Doubles = npt.NDArray[np.float64]


class PermutationSums:
    """Sums of ``n_neurons`` activations with ``n_orders`` columns of values; memory does not grow with the rows."""

    def __init__(self, n_neurons: int, n_orders: int) -> None:
        self.n_neurons, self.n_orders = n_neurons, n_orders
        self._sums = RunningMoments(n_neurons, n_orders, "cpu")
        self._limit, self._missing = 0.0, False

    def update(self, activations: npt.NDArray[Any], permuted: Doubles) -> PermutationSums:
        """Add rows: ``activations`` (rows, neurons), NaN where it did not fire, ``permuted`` (rows, orders)."""
        a, v = self._sums.rows(activations, permuted)
        if len(a):
            self._limit = max(self._limit, rounding_of(activations))
            self._missing = self._missing or bool(a.isnan().any())
            self._sums.add(a, v)
        return self

    def merge(self, other: PermutationSums) -> PermutationSums:
        """Add the rows another one has seen; the order does not matter."""
        if (other.n_neurons, other.n_orders) != (self.n_neurons, self.n_orders):
            raise UserError(
                f"cannot merge permutation sums of {self.n_neurons} neurons x {self.n_orders} orders "
                f"and {other.n_neurons} x {other.n_orders}"
            )
        self._limit, self._missing = max(self._limit, other._limit), self._missing or other._missing
        self._sums.merge(other._sums)
        return self

    def result(self) -> Doubles:
        """Return r, shape (orders, neurons); NaN for a neuron that is constant, or an expert's that fired too rarely."""
        m = self._sums.totals()
        n, mean, square, left, mean_y, comoment = (
            part.numpy() for part in (m.n, m.mean_activation, m.m2_activation, m.m2_value, m.mean_value, m.comoment)
        )
        norm = np.sqrt(square)
        flat = norm <= self._limit * np.sqrt(n) * np.abs(mean)
        if self._missing:
            flat = flat | (n < FEWEST_FIRED)
            left = np.where(left > ROUNDED * (left + n * mean_y**2), left, np.inf)  # constant values: no relation
        with np.errstate(invalid="ignore", divide="ignore"):
            r = comoment / (norm * np.sqrt(left))
        found: Doubles = np.where(flat, np.nan, np.clip(r, -1.0, 1.0))
        return found

    def rows_fired(self) -> Doubles:
        """Return on how many rows each neuron has an activation, shape (neurons,)."""
        n = self._sums.all().n.numpy()
        return np.broadcast_to(n[0], (self.n_neurons,)).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Permutations:
    """What is permuted: ``values`` (rows of the whole split, columns), each column alone, NaN rows left out of it.

    Plain data, from which every shard draws the same orders. Columns that are scored on the same rows share their sums.
    """

    values: Doubles
    groups: Sequence[str]
    n_permutations: int
    seed: int

    @cached_property
    def name(self) -> str:
        """Return what tells these apart from others: a hash of all of them."""
        about = [repr((self.values.shape, self.n_permutations, self.seed)), *self.groups]
        return hashlib.sha256(self.values.tobytes() + "\n".join(about).encode()).hexdigest()

    @cached_property
    def shares(self) -> list[tuple[npt.NDArray[np.bool_], list[int]]]:
        """Return (rows that are scored, the columns that are scored on just those)."""
        found: dict[bytes, list[int]] = {}
        for column in range(self.values.shape[1]):
            found.setdefault((~np.isnan(self.values[:, column])).tobytes(), []).append(column)
        return [(np.frombuffer(mask, dtype=bool), columns) for mask, columns in found.items()]

    def of_rows(self, where: npt.NDArray[np.int64]) -> list[Doubles]:
        """Return of each share the permuted values of some rows of the split: (scored of ``where``, columns * (1 + B)).

        Per column the observed values come first, then the B orders.
        """
        found = []
        for scored, columns in self.shares:
            kept = [group for group, used in zip(self.groups, scored, strict=True) if used]
            own = (np.cumsum(scored) - 1)[where[scored[where]]]  # numbers among the scored rows
            drawn = []
            for column in columns:
                values = self.values[scored, column]
                orders = exchange(values, kept, self.n_permutations, self.seed).orders[:, own]
                y = standardised(values[:, None])[:, 0]
                drawn.append(np.concatenate([y[own][None], y[orders]]))
            found.append(np.ascontiguousarray(np.concatenate(drawn).T))
        return found

    def sums(
        self, activations: npt.NDArray[np.float32], where: npt.NDArray[np.int64], permuted: Sequence[Doubles]
    ) -> list[PermutationSums]:
        """Return each share's sums over rows ``where`` of the split: ``activations`` (rows, neurons), ``permuted`` of those rows."""
        found = []
        for (scored, _), values in zip(self.shares, permuted, strict=True):
            found.append(
                PermutationSums(activations.shape[1], values.shape[1]).update(activations[scored[where]], values)
            )
        return found

r"""Partial correlation: how a neuron follows a column once named other columns are held constant.

With controls Z:  r[a v . Z] = (S_av - S_aZ S_ZZ^-1 S_Zv) / sqrt((S_aa - S_aZ S_ZZ^-1 S_Za)(S_vv - S_vZ S_ZZ^-1 S_Zv))

where S are centred cross-products over the rows on which the column and all its controls are scored. They are
gathered in one pass, merged by Chan's rule as in ``statistics``. Controls that repeat each other do no harm
(pseudo-inverse); r is NaN where the controls determine the column or the neuron.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from skillneurons.errors import UserError

Doubles = npt.NDArray[np.float64]
DETERMINED = 1e-9  # a residual below this share of the variance is rounding


@dataclass(slots=True)
class _Cross:
    """Of one column: rows, means and centred cross-products of (column, *controls) and of the activations."""

    n: float
    mean: Doubles  # (1 + controls,)
    mean_a: Doubles  # (neurons,)
    cross: Doubles  # (1 + controls, 1 + controls)
    cross_a: Doubles  # (1 + controls, neurons)
    square_a: Doubles  # (neurons,)


class PartialCorrelationAccumulator:
    """Correlate activations with each column given its ``controls``, batch by batch.

    ``controls[c]`` are the indices of the columns held constant for column c (never c itself).
    """

    def __init__(self, n_neurons: int, controls: Sequence[Sequence[int]]) -> None:
        self.n_neurons, self.controls = n_neurons, [tuple(own) for own in controls]
        for column, own in enumerate(self.controls):
            if column in own or any(not 0 <= index < len(self.controls) for index in own):
                raise UserError(
                    f"column {column} has the controls {own}: each is the index of another of the {len(self.controls)} columns"
                )
        self._sums = [_empty(n_neurons, 1 + len(own)) for own in self.controls]

    def update(self, activations: Any, values: Any) -> PartialCorrelationAccumulator:
        """Add rows: ``activations`` (rows, neurons), ``values`` (rows, columns), NaN = not scored."""
        a, v = np.asarray(activations, dtype=np.float64), np.asarray(values, dtype=np.float64)
        if a.ndim != 2 or a.shape[1] != self.n_neurons or v.shape != (a.shape[0], len(self.controls)):
            raise UserError(
                f"activations must be (rows, {self.n_neurons}) and values (rows, {len(self.controls)}) of the same rows, "
                f"got {a.shape} and {v.shape}"
            )
        for column, own in enumerate(self.controls):
            w = v[:, (column, *own)]
            scored = ~np.isnan(w).any(axis=1)
            if scored.all():
                self._sums[column] = _merged(self._sums[column], _of_rows(a, w))
            elif scored.any():
                self._sums[column] = _merged(self._sums[column], _of_rows(a[scored], w[scored]))
        return self

    def merge(self, other: PartialCorrelationAccumulator) -> PartialCorrelationAccumulator:
        """Add the rows another accumulator has seen."""
        if (other.n_neurons, other.controls) != (self.n_neurons, self.controls):
            raise UserError("cannot merge accumulators of other neurons, columns or controls")
        self._sums = [_merged(one, two) for one, two in zip(self._sums, other._sums, strict=True)]
        return self

    def result(self) -> Doubles:
        """Return partial r, shape (columns, neurons); NaN where the controls leave no variance, or too few rows."""
        return np.stack([_partial(sums) for sums in self._sums])


def _empty(n_neurons: int, k: int) -> _Cross:
    return _Cross(
        0.0, np.zeros(k), np.zeros(n_neurons), np.zeros((k, k)), np.zeros((k, n_neurons)), np.zeros(n_neurons)
    )


def _of_rows(a: Doubles, w: Doubles) -> _Cross:
    if not len(a):
        return _empty(a.shape[1], w.shape[1])
    mean_a, mean = a.mean(axis=0), w.mean(axis=0)
    a, w = a - mean_a, w - mean
    rest_a, rest = a.mean(axis=0), w.mean(axis=0)  # rounding left over by the shift
    a, w = a - rest_a, w - rest
    return _Cross(float(len(a)), mean + rest, mean_a + rest_a, w.T @ w, w.T @ a, (a * a).sum(axis=0))


def _merged(x: _Cross, y: _Cross) -> _Cross:
    n = x.n + y.n
    if not n:
        return x
    share, weight = y.n / n, x.n * y.n / n
    d, d_a = y.mean - x.mean, y.mean_a - x.mean_a
    return _Cross(
        n,
        x.mean + share * d,
        x.mean_a + share * d_a,
        x.cross + y.cross + weight * np.outer(d, d),
        x.cross_a + y.cross_a + weight * np.outer(d, d_a),
        x.square_a + y.square_a + weight * d_a**2,
    )


def _partial(sums: _Cross) -> Doubles:
    k = len(sums.mean) - 1
    if sums.n < k + 3:  # no degree of freedom is left
        return np.full(len(sums.mean_a), np.nan)
    scale = np.sqrt(np.diag(sums.cross))
    scale[scale == 0] = 1.0
    s = sums.cross / np.outer(scale, scale)
    s_a = sums.cross_a / scale[:, None]
    weights = np.linalg.pinv(s[1:, 1:], rcond=1e-10, hermitian=True) if k else np.zeros((0, 0))
    of_v, of_a = s[0, 1:] @ weights, weights @ s_a[1:]
    left_v = s[0, 0] - of_v @ s[1:, 0]
    left_a = sums.square_a - (s_a[1:] * of_a).sum(axis=0)
    flat = left_a <= DETERMINED * sums.square_a
    flat |= np.sqrt(sums.square_a / sums.n) <= 1e-13 * np.abs(sums.mean_a)
    if left_v <= DETERMINED * max(s[0, 0], 1.0):
        flat[:] = True
    with np.errstate(invalid="ignore", divide="ignore"):
        r: Doubles = (s_a[0] - of_v @ s_a[1:]) / np.sqrt(left_v * left_a)
    r[flat] = np.nan
    return np.clip(r, -1.0, 1.0)

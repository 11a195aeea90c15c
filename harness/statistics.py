r"""Streaming, mergeable statistics of every neuron against every column (float64, numpy).

Pearson:  r[c, n] = cov(v_c, a_n) / (sd(v_c) sd(a_n)), over the rows where column c is scored.

Input shapes: activations (rows, neurons), values (rows, columns); NaN in ``values`` means "not
scored" and drops that row from that column alone. Sums are kept about each batch's own mean and
merged by Chan's rule (Chan, Golub & LeVeque 1983), so neither a large mean/sd nor length-sorted
batches with drifting means lose precision. r is NaN where a column or a neuron has no variance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from skillneurons.errors import UserError

Array = npt.NDArray[np.float64]
CONSTANT = 1e-13  # an sd below this share of the mean is rounding, not variance


@dataclass(slots=True)
class _Moments:
    """Per column: how many rows, means and centred second moments of values and activations."""

    n: Array  # (columns,)
    mean_value: Array  # (columns,)
    m2_value: Array  # (columns,)
    mean_activation: Array  # (columns, neurons)
    m2_activation: Array  # (columns, neurons)
    comoment: Array  # (columns, neurons)


class PearsonAccumulator:
    """Correlate ``n_neurons`` activations with ``n_columns`` values, batch by batch.

    Memory is 3 x columns x neurons float64 whatever the number of rows.
    """

    def __init__(self, n_neurons: int, n_columns: int) -> None:
        if n_neurons < 1 or n_columns < 1:
            raise UserError(f"an accumulator needs at least one neuron and one column, got {n_neurons} and {n_columns}")
        self.n_neurons, self.n_columns = n_neurons, n_columns
        wide, narrow = (n_columns, n_neurons), (n_columns,)
        self._moments = _Moments(*(np.zeros(narrow) for _ in range(3)), *(np.zeros(wide) for _ in range(3)))

    @property
    def counts(self) -> Array:
        """Return the number of scored rows of each column, shape (columns,)."""
        return self._moments.n.copy()

    def update(self, activations: Any, values: Any) -> PearsonAccumulator:
        """Add rows: ``activations`` (rows, neurons), ``values`` (rows, columns), NaN = not scored."""
        a = np.asarray(activations, dtype=np.float64)
        v = np.asarray(values, dtype=np.float64)
        if a.ndim != 2 or a.shape[1] != self.n_neurons or v.shape != (a.shape[0], self.n_columns):
            raise UserError(
                f"activations must be (rows, {self.n_neurons}) and values (rows, {self.n_columns}) "
                f"of the same rows, got {a.shape} and {v.shape}"
            )
        if not np.isfinite(a).all():
            raise UserError("activations hold NaN or infinity: the model overflows in this dtype; load it in float32")
        if np.isinf(v).any():
            raise UserError("values hold infinity; a metric gives a finite number, or NaN for 'not scored'")
        if a.shape[0]:
            self._moments = _merged(self._moments, _batch_moments(a, v))
        return self

    def merge(self, other: PearsonAccumulator) -> PearsonAccumulator:
        """Add the rows another accumulator has seen; the order does not matter."""
        if (other.n_neurons, other.n_columns) != (self.n_neurons, self.n_columns):
            raise UserError(
                f"cannot merge accumulators of {self.n_neurons} x {self.n_columns} "
                f"and {other.n_neurons} x {other.n_columns} neurons x columns"
            )
        self._moments = _merged(self._moments, other._moments)
        return self

    def mean_and_sd(self) -> tuple[Array, Array]:
        """Return mean and population sd of each column's values, shapes (columns,)."""
        m = self._moments
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(m.n > 0, m.mean_value, np.nan)
            return mean, np.sqrt(m.m2_value / m.n)

    def result(self) -> Array:
        """Return r, shape (columns, neurons); NaN where either side has no variance."""
        m = self._moments
        with np.errstate(invalid="ignore", divide="ignore"):
            sd_value = np.sqrt(m.m2_value / m.n)
            sd_activation = np.sqrt(m.m2_activation / m.n[:, None])
            r: Array = m.comoment / m.n[:, None] / (sd_value[:, None] * sd_activation)
        flat = sd_activation <= CONSTANT * np.abs(m.mean_activation)
        flat |= (sd_value <= CONSTANT * np.abs(m.mean_value))[:, None]
        r[flat | (m.n < 2)[:, None]] = np.nan
        return np.clip(r, -1.0, 1.0)


def _batch_moments(a: Array, v: Array) -> _Moments:
    scored = ~np.isnan(v)
    w = scored.astype(np.float64)  # (rows, columns)
    n = w.sum(axis=0)
    rows = np.maximum(n, 1.0)
    shift_a = a.mean(axis=0)  # (neurons,)
    shift_v = np.where(scored, v, 0.0).sum(axis=0) / rows  # (columns,)
    a = a - shift_a
    v = np.where(scored, v - shift_v, 0.0)
    rest_v = v.sum(axis=0) / rows  # rounding left over by the shift
    rest_a = (w.T @ a) / rows[:, None]  # (columns, neurons): how the scored rows differ from all rows
    return _Moments(
        n=n,
        mean_value=shift_v + rest_v,
        m2_value=(v * v).sum(axis=0) - rows * rest_v**2,
        mean_activation=shift_a + rest_a,
        m2_activation=np.maximum(w.T @ (a * a) - rows[:, None] * rest_a**2, 0.0),
        comoment=v.T @ a - rows[:, None] * rest_v[:, None] * rest_a,
    )


def _merged(x: _Moments, y: _Moments) -> _Moments:
    n = x.n + y.n
    share = np.divide(y.n, n, out=np.zeros_like(n), where=n > 0)
    weight = x.n * share
    d_value = y.mean_value - x.mean_value
    d_activation = y.mean_activation - x.mean_activation
    return _Moments(
        n=n,
        mean_value=x.mean_value + share * d_value,
        m2_value=x.m2_value + y.m2_value + weight * d_value**2,
        mean_activation=x.mean_activation + share[:, None] * d_activation,
        m2_activation=x.m2_activation + y.m2_activation + weight[:, None] * d_activation**2,
        comoment=x.comoment + y.comoment + weight[:, None] * d_value[:, None] * d_activation,
    )


def ranking(r: npt.NDArray[Any], k: int) -> npt.NDArray[np.int64]:
    """Return the flat indices of the ``k`` largest |r|, NaN never among them, ties by index."""
    strength = np.abs(np.asarray(r, dtype=np.float64).ravel())
    strength[np.isnan(strength)] = -1.0
    order = np.argsort(-strength, kind="stable")[:k]
    return order[strength[order] >= 0]

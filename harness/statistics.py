r"""Streaming, mergeable statistics of every neuron against every column (float64, numpy).

Pearson:  r[c, n] = cov(v_c, a_n) / (sd(v_c) sd(a_n)), over the rows where column c is scored.

Input shapes: activations (rows, neurons), values (rows, columns); NaN in ``values`` means "not
scored" and drops that row from that column alone. Everything is summed about the first rows' means (so a large
mean/sd costs nothing), each batch about its own mean, merged by Chan's rule (Chan, Golub & LeVeque 1983; so
length-sorted batches with drifting means cost nothing). r is NaN where a column or a neuron has no variance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from skillneurons.errors import UserError

Array = npt.NDArray[np.float64]
CONSTANT = 1e-13  # an sd below this share of the mean is rounding, not variance
CONSTANT_SINGLE = 2.0**-22  # the same of activations that were computed in float32 (two of its last places) or less
FEWEST = 3  # rows: two always lie on a line


@dataclass(slots=True)
class _Shift:
    """What is taken off all rows before anything is summed: the first rows' means; NaN for a column not seen yet."""

    activations: Array  # (neurons,)
    values: Array  # (columns,)


@dataclass(slots=True)
class _Moments:
    """Per column, about the shift: how many rows, means and centred second moments of values and activations."""

    n: Array  # (columns,)
    mean_value: Array  # (columns,)
    m2_value: Array  # (columns,)
    mean_activation: Array  # (columns, neurons)
    m2_activation: Array  # (columns, neurons)
    comoment: Array  # (columns, neurons)


@dataclass(frozen=True, eq=False)
class LinearForm:
    """A statistic of one column as a matrix product: effect = link(x.T @ y), and with permuted values link(x.T @ y[p]).

    ``x`` (rows, neurons) depends on the activations alone, ``y`` (rows,) on the values; products lie in [-1, 1] and
    ``link`` is odd and increasing, element by element. A neuron without a defined effect has NaN in ``x``.
    """

    x: Array
    y: Array
    link: Callable[[Any], Any]


def same(product: Any) -> Any:
    """Return the product as it is: the link of a statistic that is one."""
    return product


def rounding_of(numbers: Any) -> float:
    """Return the share of the mean below which an sd of these numbers is rounding, by their dtype."""
    dtype = np.asarray(numbers).dtype
    return CONSTANT_SINGLE if dtype.kind == "f" and dtype.itemsize <= 4 else CONSTANT


def standardised(activations: Any) -> Array:
    """Return (a - mean) / (sd sqrt(rows)) per column of ``activations``, so that products are correlations; NaN if constant."""
    limit = rounding_of(activations)
    a = np.asarray(activations, dtype=np.float64)
    mean = a.mean(axis=0)
    a = a - mean
    a -= a.mean(axis=0)
    norm = np.sqrt((a * a).sum(axis=0))
    norm[norm <= limit * np.sqrt(len(a)) * np.abs(mean)] = np.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled: Array = a / norm
    return scaled


def checked_rows(activations: Any, values: Any, n_neurons: int, n_columns: int) -> tuple[Array, Array]:
    """Return both as float64; raise UserError where shapes do not fit or a number is infinite."""
    a = np.asarray(activations, dtype=np.float64)
    v = np.asarray(values, dtype=np.float64)
    if a.ndim != 2 or a.shape[1] != n_neurons or v.shape != (a.shape[0], n_columns):
        raise UserError(
            f"activations must be (rows, {n_neurons}) and values (rows, {n_columns}) "
            f"of the same rows, got {a.shape} and {v.shape}"
        )
    if not np.isfinite(a).all():
        raise UserError("activations hold NaN or infinity: the model overflows in this dtype; load it in float32")
    if np.isinf(v).any():
        raise UserError("values hold infinity; a metric gives a finite number, or NaN for 'not scored'")
    return a, v


class Accumulator:
    """What every statistic starts from: its size, and the same refusals.

    A statistic has ``update``, ``merge`` and ``result`` (its written definition, (columns, neurons)); ``effect`` is
    what neurons are ranked by: signed, 0 where there is no relation.
    """

    def __init__(self, n_neurons: int, n_columns: int) -> None:
        if n_neurons < 1 or n_columns < 1:
            raise UserError(f"an accumulator needs at least one neuron and one column, got {n_neurons} and {n_columns}")
        self.n_neurons, self.n_columns = n_neurons, n_columns

    def check_same_size(self, other: Accumulator) -> None:
        """Raise UserError where another accumulator has other neurons or columns."""
        if (other.n_neurons, other.n_columns) != (self.n_neurons, self.n_columns):
            raise UserError(
                f"cannot merge accumulators of {self.n_neurons} x {self.n_columns} "
                f"and {other.n_neurons} x {other.n_columns} neurons x columns"
            )

    def result(self) -> Array:
        """Return the statistic, shape (columns, neurons)."""
        raise NotImplementedError

    def effect(self) -> Array:
        """Return the signed effect, shape (columns, neurons)."""
        return self.result()


def effect_of(accumulator: Any) -> Array:
    """Return the signed effect of an accumulator, shape (columns, neurons); its result where it has no other."""
    effect: Array = accumulator.effect() if hasattr(accumulator, "effect") else accumulator.result()
    return effect


class ClassCounts:
    """How many rows of each column are 1, are 0, and are scored: what a statistic of two classes needs to know."""

    def __init__(self, n_columns: int) -> None:
        self.ones, self.zeros, self.scored = (np.zeros(n_columns) for _ in range(3))

    def update(self, values: Array) -> ClassCounts:
        """Add rows (rows, columns), NaN = not scored."""
        self.ones += (values == 1).sum(axis=0)
        self.zeros += (values == 0).sum(axis=0)
        self.scored += (~np.isnan(values)).sum(axis=0)
        return self

    def merge(self, other: ClassCounts) -> None:
        """Add what another has counted."""
        for name in ("ones", "zeros", "scored"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def usable(self) -> tuple[Array, Array]:
        """Return the sizes of class 1 and class 0, NaN for a column that has another value or one class alone."""
        usable = (self.ones > 0) & (self.zeros > 0) & (self.ones + self.zeros == self.scored)
        return np.where(usable, self.ones, np.nan), np.where(usable, self.zeros, np.nan)


class PearsonAccumulator(Accumulator):
    """Correlate ``n_neurons`` activations with ``n_columns`` values, batch by batch.

    Memory is 3 x columns x neurons float64 whatever the number of rows.
    """

    t_distribution = True  # r of independent rows: t = r sqrt((n - 2) / (1 - r^2)) with n - 2 degrees of freedom

    def __init__(self, n_neurons: int, n_columns: int) -> None:
        super().__init__(n_neurons, n_columns)
        wide, narrow = (n_columns, n_neurons), (n_columns,)
        self._moments = _Moments(*(np.zeros(narrow) for _ in range(3)), *(np.zeros(wide) for _ in range(3)))
        self._shift: _Shift | None = None
        self._limit = CONSTANT

    @property
    def counts(self) -> Array:
        """Return the number of scored rows of each column, shape (columns,)."""
        return self._moments.n.copy()

    def update(self, activations: Any, values: Any) -> PearsonAccumulator:
        """Add rows: ``activations`` (rows, neurons), ``values`` (rows, columns), NaN = not scored."""
        a, v = checked_rows(activations, values, self.n_neurons, self.n_columns)
        if not a.shape[0]:
            return self
        self._limit = max(self._limit, rounding_of(activations))
        if self._shift is None:
            self._shift = _Shift(a.mean(axis=0), _scored_mean(v))
        else:
            unseen = np.isnan(self._shift.values)  # columns of which no row was scored before
            self._shift.values[unseen] = _scored_mean(v)[unseen]
        v = v - np.nan_to_num(self._shift.values)
        self._moments = _merged(self._moments, _batch_moments(a - self._shift.activations, v))
        return self

    def merge(self, other: PearsonAccumulator) -> PearsonAccumulator:
        """Add the rows another accumulator has seen; the order does not matter."""
        self.check_same_size(other)
        self._limit = max(self._limit, other._limit)
        if self._shift is None or other._shift is None:
            if other._shift is not None:
                self._shift = _Shift(other._shift.activations.copy(), other._shift.values.copy())
                self._moments = replace(other._moments)
            return self
        unseen = np.isnan(self._shift.values)
        self._shift.values[unseen] = other._shift.values[unseen]
        moved = replace(
            other._moments,
            mean_value=other._moments.mean_value + np.nan_to_num(other._shift.values - self._shift.values),
            mean_activation=other._moments.mean_activation + (other._shift.activations - self._shift.activations),
        )
        self._moments = _merged(self._moments, moved)
        return self

    def mean_and_sd(self) -> tuple[Array, Array]:
        """Return mean and population sd of each column's values, shapes (columns,)."""
        m = self._moments
        shift = np.zeros(self.n_columns) if self._shift is None else np.nan_to_num(self._shift.values)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(m.n > 0, m.mean_value + shift, np.nan)
            return mean, np.sqrt(m.m2_value / m.n)

    def result(self) -> Array:
        """Return r, shape (columns, neurons); NaN where either side has no variance, or fewer than 3 rows are scored."""
        m = self._moments
        with np.errstate(invalid="ignore", divide="ignore"):
            sd_value = np.sqrt(m.m2_value / m.n)
            sd_activation = np.sqrt(m.m2_activation / m.n[:, None])
            r: Array = m.comoment / m.n[:, None] / (sd_value[:, None] * sd_activation)
        if self._shift is None:
            return np.full((self.n_columns, self.n_neurons), np.nan)
        flat = sd_activation <= self._limit * np.abs(m.mean_activation + self._shift.activations)
        flat |= (sd_value <= CONSTANT * np.abs(m.mean_value + np.nan_to_num(self._shift.values)))[:, None]
        r[flat | (m.n < FEWEST)[:, None]] = np.nan
        return np.clip(r, -1.0, 1.0)

    @staticmethod
    def linear_form(activations: Any, values: Array, baseline: Array | None = None) -> LinearForm:
        """Return r as a product of standardised activations (rows, neurons) and values (rows,)."""
        return LinearForm(standardised(activations), standardised(values[:, None])[:, 0], same)


def _scored_mean(v: Array) -> Array:
    """Return the mean of the scored rows of each column, NaN where there is none."""
    scored = ~np.isnan(v)
    with np.errstate(invalid="ignore"):
        mean: Array = np.where(scored, v, 0.0).sum(axis=0) / scored.sum(axis=0)
    return mean


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

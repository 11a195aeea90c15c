r"""Streaming, mergeable statistics of every neuron against every column (float64).

Pearson:  r[c, n] = cov(v_c, a_n) / (sd(v_c) sd(a_n)), over the rows where column c is scored.

Input shapes: activations (rows, neurons), values (rows, columns); NaN in ``values`` means "not
scored" and drops that row from that column alone. Everything is summed about the first rows' means (so a large
mean/sd costs nothing), each batch about its own mean, merged by Chan's rule (Chan, Golub & LeVeque 1983; so
length-sorted batches with drifting means cost nothing). r is NaN where a column or a neuron has no variance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from skillneurons.errors import UserError

Array = npt.NDArray[np.float64]
CONSTANT = 1e-13  # an sd below this share of the mean is rounding, not variance
CONSTANT_SINGLE = 2.0**-22  # the same of activations that were computed in float32 (two of its last places) or less
FEWEST_FIRED = (
    30  # rows on which an expert's neuron must have fired: r of fewer is large by chance, and rules every null
)
ROUNDED = 1e-6  # a second moment that is left of this share is what float32 makes of a constant
FEWEST = 3  # rows: two always lie on a line


@dataclass(frozen=True, eq=False)
class LinearForm:
    """A statistic of one column as a matrix product: effect = link(x.T @ y), and with permuted values link(x.T @ y[p]).

    ``x`` (rows, neurons) depends on the activations alone, ``y`` (rows,) on the values; products lie in [-1, 1] and
    ``link`` is odd and increasing, element by element. A neuron without a defined effect has NaN in ``x``.

    ``fired`` (rows, neurons) is 1 where a neuron has an activation, None where all have: then x is 0 where it has none, and a
    product is divided by the norm of the values about their mean over the rows where it has.
    """

    x: Array
    y: Array
    link: Callable[[Any], Any]
    fired: Array | None = None


def products(y: Any, x: Any, fired: Any = None) -> Any:
    """Return the products of orders of the values ``y`` (orders, rows) with ``x`` (rows, neurons), see ``LinearForm``."""
    found = y @ x
    if fired is None:
        return found
    n = fired.sum(axis=0)
    first, second = y @ fired, (y * y) @ fired
    with np.errstate(invalid="ignore", divide="ignore"):
        left = second - first * first / n
        found = found / np.sqrt(np.where(left > ROUNDED * second, left, np.inf))  # constant values: no relation
    return np.clip(found, -1.0, 1.0)


def same(product: Any) -> Any:
    """Return the product as it is: the link of a statistic that is one."""
    return product


def rounding_of(numbers: Any) -> float:
    """Return the share of the mean below which an sd of these numbers is rounding, by their dtype."""
    dtype = np.asarray(numbers).dtype
    return CONSTANT_SINGLE if dtype.kind == "f" and dtype.itemsize <= 4 else CONSTANT


def standardised_where_fired(activations: Any) -> tuple[Array, Array]:
    """Return what ``standardised`` does over the rows where a neuron has an activation (0 elsewhere), and which rows these are.

    NaN for a neuron that is constant there, or that fired on fewer than ``FEWEST_FIRED`` rows.
    """
    limit = rounding_of(activations)
    a = np.asarray(activations, dtype=np.float64)
    fired = (~np.isnan(a)).astype(np.float64)
    n = fired.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(fired > 0, a, 0.0).sum(axis=0) / n
        a = np.where(fired > 0, a - mean, 0.0)
        a -= fired * (a.sum(axis=0) / n)
        norm = np.sqrt((a * a).sum(axis=0))
        norm[(norm <= limit * np.sqrt(n) * np.abs(mean)) | (n < FEWEST_FIRED)] = np.nan
        return a / norm, fired


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
    """Correlate ``n_neurons`` activations with ``n_columns`` values, batch by batch, on one device (``moments``).

    Memory is columns x neurons float64 whatever the number of rows, three to four times
    that where a value is not scored or, with ``missing``, where a neuron did not fire (NaN; without it NaN is refused).
    """

    t_distribution = True  # r of independent rows: t = r sqrt((n - 2) / (1 - r^2)) with n - 2 degrees of freedom
    on_device = True  # it takes tensors where they are, and neurons that did not always fire (``missing``)

    def __init__(self, n_neurons: int, n_columns: int, *, missing: bool = False, device: Any = "cpu") -> None:
        super().__init__(n_neurons, n_columns)
        from skillneurons.moments import RunningMoments

        self.missing = missing
        self._sums = RunningMoments(n_neurons, n_columns, device)
        self._limit = CONSTANT

    @property
    def counts(self) -> Array:
        """Return the number of scored rows of each column, shape (columns,); of the neuron that fired most often."""
        counts: Array = self._sums.counts()
        return counts

    def update(self, activations: Any, values: Any) -> PearsonAccumulator:
        """Add rows: ``activations`` (rows, neurons), ``values`` (rows, columns), NaN = not scored; arrays or tensors."""
        a, v = self._sums.rows(activations, values)
        if bool(a.isinf().any()) or (not self.missing and bool(a.isnan().any())):
            raise UserError("activations hold NaN or infinity: the model overflows in this dtype; load it in float32")
        if bool(v.isinf().any()):
            raise UserError("values hold infinity; a metric gives a finite number, or NaN for 'not scored'")
        if len(a):
            single = a.is_floating_point() and a.element_size() <= 4
            self._limit = max(self._limit, CONSTANT_SINGLE if single else CONSTANT)
            self._sums.add(a, v)
        return self

    def merge(self, other: PearsonAccumulator) -> PearsonAccumulator:
        """Add the rows another accumulator has seen; the order does not matter."""
        self.check_same_size(other)
        self._limit = max(self._limit, other._limit)
        self.missing = self.missing or other.missing
        self._sums.merge(other._sums)
        return self

    def to(self, device: Any) -> PearsonAccumulator:
        """Move the sums to another device; no number changes."""
        self._sums.to(device)
        return self

    @classmethod
    def beside(cls, parts: Sequence[PearsonAccumulator], n_positions: int = 1) -> PearsonAccumulator:
        """Return an accumulator of the neurons of several others side by side, that have seen the same rows (``moments``)."""
        first = parts[0]
        found = cls(sum(part.n_neurons for part in parts), first.n_columns, missing=any(one.missing for one in parts))
        found._limit = max(part._limit for part in parts)
        found._sums = first._sums.beside([part._sums for part in parts], n_positions)
        return found

    @property
    def device(self) -> Any:
        """Where the sums are kept."""
        return self._sums.device

    def mean_and_sd(self) -> tuple[Array, Array]:
        """Return mean and population sd of each column's values, shapes (columns,)."""
        found: tuple[Array, Array] = self._sums.mean_and_sd()
        return found

    def result(self) -> Array:
        """Return r, shape (columns, neurons); NaN where either side has no variance, or fewer than 3 rows are scored."""
        r: Array = self._sums.correlation(self._limit, CONSTANT, FEWEST_FIRED if self.missing else FEWEST)
        return r

    @staticmethod
    def linear_form(activations: Any, values: Array, baseline: Array | None = None) -> LinearForm:
        """Return r as a product of standardised activations (rows, neurons) and values (rows,)."""
        if np.isnan(activations).any():
            x, fired = standardised_where_fired(activations)
            return LinearForm(x, standardised(values[:, None])[:, 0], same, fired)
        return LinearForm(standardised(activations), standardised(values[:, None])[:, 0], same)


def ranking(r: npt.NDArray[Any], k: int) -> npt.NDArray[np.int64]:
    """Return the flat indices of the ``k`` largest |r|, NaN never among them, ties by index."""
    strength = np.abs(np.asarray(r, dtype=np.float64).ravel())
    strength[np.isnan(strength)] = -1.0
    order = np.argsort(-strength, kind="stable")[:k]
    return order[strength[order] >= 0]

"""How sure a held-out figure is: percentile bootstrap over groups of examples.

Groups are drawn with replacement, every chosen neuron's effect is taken again on the rows of the drawn groups,
and the 2.5th and 97.5th percentiles are the 95 % interval. Rows without a partner are groups of one. Pearson's r
of a resample comes from sums per group (n, mean-centred first and second moments), so that a thousand resamples
are one matrix product; any other statistic is computed anew on the rows of each resample.

The resamples depend on the groups and the seed alone: cells of several prompt seeds that share their examples
share them too, so the interval of an averaged figure is the percentile of averaged resamples. Drawn by
``scipy.stats.bootstrap``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from skillneurons.exchange import group_members
from skillneurons.statistics import CONSTANT, PearsonAccumulator, effect_of

LEVEL = 0.95
FEWEST_GROUPS = 5
ROUNDING = 1e-12  # a variance below this share of the second moment is what cancellation leaves of a constant

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Interval:
    """``low``, ``high`` (neurons,) and ``resamples`` (neurons, n_resamples) of each neuron's effect; see ``reason``."""

    low: Doubles
    high: Doubles
    resamples: Doubles
    reason: str = ""


def bootstrap_effects(
    activations: npt.NDArray[Any],
    values: Doubles,
    groups: Sequence[str],
    accumulator: Callable[[int, int], Any] = PearsonAccumulator,
    *,
    n_resamples: int,
    seed: int,
) -> Interval:
    """Return the interval of each neuron's effect: ``activations`` (rows, neurons), ``values`` (rows,), NaN left out."""
    scored = ~np.isnan(values)
    kept = [group for group, used in zip(groups, scored, strict=True) if used]
    members = group_members(kept)
    n_neurons = activations.shape[1]
    empty = np.full(n_neurons, np.nan)
    if n_resamples < 1 or len(members) < FEWEST_GROUPS:
        why = (
            f"{n_resamples} resamples: 1000 are usual (attribution.bootstrap)"
            if n_resamples < 1
            else f"{len(members)} groups on heldout: an interval needs at least {FEWEST_GROUPS}"
        )
        return Interval(empty, empty, np.empty((n_neurons, 0)), why)
    a, v = activations[scored].astype(np.float64), values[scored]
    if accumulator is PearsonAccumulator:
        effects = _pearson_of_groups(a, v, members)
    else:
        effects = _anew(a, v, members, accumulator)
    from scipy.stats import DegenerateDataWarning, bootstrap

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # undefined resamples are counted below
        found = bootstrap(
            (np.arange(len(members)),),
            effects,
            n_resamples=n_resamples,
            vectorized=True,
            method="percentile",
            confidence_level=LEVEL,
            axis=-1,
            batch=250,
            rng=np.random.default_rng(seed),
        )
    resamples = np.asarray(found.bootstrap_distribution).reshape(n_neurons, -1)
    low, high = percentiles(resamples)
    return Interval(low, high, resamples)


def percentiles(resamples: Doubles) -> tuple[Doubles, Doubles]:
    """Return the ends of the interval over the last axis; NaN where more than 5 % of the resamples are undefined."""
    undefined = np.isnan(resamples)
    usable = undefined.mean(axis=-1) <= 1 - LEVEL
    filled = np.where(usable[..., None], resamples, 0.0)
    low, high = np.nanquantile(filled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=-1)
    return np.where(usable, low, np.nan), np.where(usable, high, np.nan)


def _pearson_of_groups(a: Doubles, v: Doubles, members: Sequence[npt.NDArray[np.int64]]) -> Callable[..., Doubles]:
    """Return the function from drawn groups (..., n_groups) to r (neurons, ...)."""
    if np.isnan(a).any():
        return _pearson_where_fired(a, v, members)
    scale_a, scale_v = np.abs(a.mean(axis=0)), abs(v.mean())
    a, v = a - a.mean(axis=0), v - v.mean()  # about the whole sample's mean: no precision is lost in the sums
    sums = np.stack(
        [
            np.concatenate(
                (
                    [len(rows), v[rows].sum(), (v[rows] ** 2).sum()],
                    a[rows].sum(0),
                    (a[rows] ** 2).sum(0),
                    v[rows] @ a[rows],
                )
            )
            for rows in members
        ]
    )  # (groups, 3 + 3 neurons)
    k = a.shape[1]

    def r(drawn: npt.NDArray[np.int64], axis: int = -1) -> Doubles:
        flat = drawn.reshape(-1, drawn.shape[-1])
        times = np.stack([np.bincount(row, minlength=len(members)) for row in flat])  # (resamples, groups)
        total = times @ sums
        n, sv, svv = total[:, :1], total[:, 1:2], total[:, 2:3]
        sa, saa, sva = total[:, 3 : 3 + k], total[:, 3 + k : 3 + 2 * k], total[:, 3 + 2 * k :]
        var_a, var_v = np.maximum(saa / n - (sa / n) ** 2, 0.0), np.maximum(svv / n - (sv / n) ** 2, 0.0)
        flat_a = (var_a <= ROUNDING * saa / n) | (np.sqrt(var_a) <= CONSTANT * scale_a)
        flat_v = (var_v <= ROUNDING * svv / n) | (np.sqrt(var_v) <= CONSTANT * scale_v)
        with np.errstate(invalid="ignore", divide="ignore"):
            found = (sva / n - sa * sv / n**2) / np.sqrt(var_a * var_v)
        found[flat_a | flat_v] = np.nan
        clipped: Doubles = np.clip(found.T, -1.0, 1.0).reshape(k, *drawn.shape[:-1])
        return clipped

    return r


def _pearson_where_fired(a: Doubles, v: Doubles, members: Sequence[npt.NDArray[np.int64]]) -> Callable[..., Doubles]:
    """Return the same for neurons that did not always fire (NaN): each has its own rows, and at least 3 of them."""
    fired = ~np.isnan(a)
    n_fired = np.maximum(fired.sum(axis=0), 1)
    scale_a = np.abs(np.where(fired, a, 0.0).sum(axis=0) / n_fired)
    a = np.where(fired, a - np.where(fired, a, 0.0).sum(axis=0) / n_fired, 0.0)
    scale_v, v = abs(v.mean()), v - v.mean()
    parts = (fired, fired * v[:, None], fired * v[:, None] ** 2, a, a * a, a * v[:, None])
    sums = np.stack([np.concatenate([part[rows].sum(axis=0) for part in parts]) for rows in members])
    k = a.shape[1]

    def r(drawn: npt.NDArray[np.int64], axis: int = -1) -> Doubles:
        flat = drawn.reshape(-1, drawn.shape[-1])
        times = np.stack([np.bincount(row, minlength=len(members)) for row in flat])
        n, sv, svv, sa, saa, sva = (part.reshape(len(flat), k) for part in np.split(times @ sums, 6, axis=1))
        with np.errstate(invalid="ignore", divide="ignore"):
            var_a, var_v = np.maximum(saa / n - (sa / n) ** 2, 0.0), np.maximum(svv / n - (sv / n) ** 2, 0.0)
            found = (sva / n - sa * sv / n**2) / np.sqrt(var_a * var_v)
            flat_a = (var_a <= ROUNDING * saa / n) | (np.sqrt(var_a) <= CONSTANT * scale_a)
            flat_v = (var_v <= ROUNDING * svv / n) | (np.sqrt(var_v) <= CONSTANT * scale_v)
        found[flat_a | flat_v | (n < 3)] = np.nan
        clipped: Doubles = np.clip(found.T, -1.0, 1.0).reshape(k, *drawn.shape[:-1])
        return clipped

    return r


def _anew(
    a: Doubles, v: Doubles, members: Sequence[npt.NDArray[np.int64]], accumulator: Callable[[int, int], Any]
) -> Callable[..., Doubles]:
    """Return the function from drawn groups (..., n_groups) to effects (neurons, ...), each from its rows."""

    def effects(drawn: npt.NDArray[np.int64], axis: int = -1) -> Doubles:
        flat = drawn.reshape(-1, drawn.shape[-1])
        found = np.empty((a.shape[1], len(flat)))
        for i, groups in enumerate(flat):
            rows = np.concatenate([members[group] for group in groups])
            found[:, i] = effect_of(accumulator(a.shape[1], 1).update(a[rows], v[rows, None]))[0]
        return found.reshape(a.shape[1], *drawn.shape[:-1])

    return effects

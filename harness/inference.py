"""What is inferred about each column from the kept rows: its null, its chosen neurons' intervals, what holds out.

The chosen neurons of a column are those of largest |effect| on discovery (``KEPT`` of them are followed). On
heldout each gets a bootstrap interval by group, and the mean of the ten strongest, signs as on discovery, gets one
too. The neurons that pass the family-wise threshold on discovery are tested again on heldout, one-sided, against
the null of the largest among themselves: ``n_replicated``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from skillneurons.intervals import bootstrap_effects, percentiles
from skillneurons.measurement import Measured
from skillneurons.null import ALPHA, ColumnNull, permutation_null, replicated
from skillneurons.statistics import ranking
from skillneurons.types import Split

KEPT = 20
TOP = 10

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class InferenceSettings:
    """How many permutations and bootstrap resamples (0: none), their seed, levels of |effect| to count, top K."""

    permutations: int = 200
    bootstrap: int = 1000
    seed: int = 0
    thresholds: Sequence[float] = ()
    top_k: int = TOP


@dataclass(frozen=True, eq=False)
class ColumnInference:
    """One column: its ``null``, and of its ``chosen`` neurons (flat indices, strongest first) the held-out interval.

    ``d_ff`` turns a flat index into layer and neuron.

    ``low``, ``high`` (chosen,) bound each neuron's held-out effect, ``top_low``, ``top_high`` the signed mean of the
    ``top_k`` strongest, whose resamples are ``top_resamples`` (of the groups that ``resampled_groups`` stands for). ``interval_reason`` says why they are NaN.
    ``n_replicated`` counts the neurons above the family-wise threshold that hold out; None: see its reason.
    """

    null: ColumnNull
    d_ff: int
    chosen: npt.NDArray[np.int64]
    low: Doubles
    high: Doubles
    top_low: float = np.nan
    top_high: float = np.nan
    top_resamples: Doubles = field(default_factory=lambda: np.empty(0))
    interval_reason: str = ""
    resampled_groups: str = ""
    n_replicated: int | None = None
    replication_reason: str = ""

    def of_neurons(self) -> dict[tuple[int, int], dict[str, float]]:
        """Return ci_low, ci_high and p_adjusted of each chosen neuron by (layer, neuron)."""
        adjusted, d_ff = self.null.p_adjusted, self.d_ff
        return {
            (int(flat // d_ff), int(flat % d_ff)): {
                "ci_low": float(self.low[i]),
                "ci_high": float(self.high[i]),
                "p_adjusted": float(adjusted[flat]) if adjusted is not None else np.nan,
            }
            for i, flat in enumerate(self.chosen)
        }


def infer_columns(
    measured: Mapping[Split, Measured],
    scores: Mapping[str, npt.NDArray[np.float32]],
    heldout: Mapping[str, npt.NDArray[np.float32]],
    positions: Mapping[str, npt.NDArray[np.int64]],
    factory: Callable[..., Any],
    settings: InferenceSettings,
    baseline: Doubles | None = None,
    only: Sequence[str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, ColumnInference]:
    """Return the inference of every column, or of ``only`` some; both splits must have kept their rows."""
    columns = list(scores)
    asked = columns if only is None else list(only)
    where = [columns.index(column) for column in asked]
    discovery, held = measured["discovery"], measured["heldout"]
    if discovery.rows is None or held.rows is None:
        raise ValueError("inference needs the rows of both splits; measure with keep_rows=True")
    form = getattr(factory, "linear_form", None)
    if form is None:
        why = "this statistic has no linear form, so its permutations cannot be computed"
        nulls = [ColumnNull(reason=why) for _ in asked]
    else:
        nulls = permutation_null(
            discovery.rows,
            discovery.values[:, where],
            discovery.groups,
            form,
            n_permutations=settings.permutations,
            seed=settings.seed,
            thresholds=settings.thresholds,
            t_distribution=bool(getattr(factory, "t_distribution", False)),
            baseline=baseline,
        )
    found = {}
    for index, column, null in zip(where, asked, nulls, strict=True):
        found[column] = _infer(
            held, index, null, scores[column], heldout[column], positions.get(column), factory, settings, baseline
        )
        if progress:
            progress(1)
    return found


def _infer(
    held: Measured,
    index: int,
    null: ColumnNull,
    scores: npt.NDArray[np.float32],
    heldout: npt.NDArray[np.float32],
    positions: npt.NDArray[np.int64] | None,
    factory: Callable[..., Any],
    settings: InferenceSettings,
    baseline: Doubles | None,
) -> ColumnInference:
    rows = held.rows
    if rows is None:
        raise ValueError("inference needs the kept rows of heldout")
    values, groups = held.values[:, index], held.groups
    chosen = ranking(scores, max(KEPT, settings.top_k))
    at = np.zeros(scores.size, dtype=np.int64) if positions is None else positions.ravel()
    n_neurons = scores.size

    def part(neurons: npt.NDArray[np.int64]) -> Doubles | None:
        return None if baseline is None else baseline.reshape(-1, n_neurons)[at[neurons], neurons]

    empty = np.full(len(chosen), np.nan)
    found: dict[str, Any] = {"null": null, "d_ff": scores.shape[1], "chosen": chosen, "low": empty, "high": empty}
    scored = values[~np.isnan(values)]
    if len(chosen) and len(scored) > 1 and np.ptp(scored) > 0:
        own = part(chosen)

        def accumulator(n: int, columns: int) -> Any:
            made = factory(n, columns)
            if own is not None:
                made.set_baseline(own)
            return made

        interval = bootstrap_effects(
            rows.of(chosen, at[chosen]),
            values,
            groups,
            factory if own is None else accumulator,
            n_resamples=settings.bootstrap,
            seed=settings.seed,
        )
        signs = np.sign(scores.ravel()[chosen].astype(np.float64))
        found |= {"low": interval.low, "high": interval.high, "interval_reason": interval.reason}
        if not interval.reason:
            top = (signs[: settings.top_k, None] * interval.resamples[: settings.top_k]).mean(axis=0)
            low, high = percentiles(top[None])
            found |= {"top_low": float(low[0]), "top_high": float(high[0]), "top_resamples": top}
            found["resampled_groups"] = _fingerprint(g for g, v in zip(groups, values, strict=True) if not np.isnan(v))
            if np.isnan(low[0]):
                found["interval_reason"] = "undefined on more than 5 % of the resamples: too few groups have the value"
    else:
        found["interval_reason"] = "nothing varies on heldout"
    form = getattr(factory, "linear_form", None)
    if form is not None and null.p_adjusted is not None:
        survivors = np.flatnonzero(null.p_adjusted <= ALPHA)
        again = replicated(
            rows.of(survivors, at[survivors]),
            np.sign(scores.ravel()[survivors].astype(np.float64)),
            values,
            groups,
            form,
            n_permutations=settings.permutations,
            seed=settings.seed + 1,
            baseline=part(survivors),
        )
        found |= {"n_replicated": again.n, "replication_reason": again.reason}
    return ColumnInference(**found)


def _fingerprint(groups: Iterable[str]) -> str:
    """Return what tells the drawn groups of two cells apart: the same text, the same resamples."""
    return hashlib.sha256("\n".join(dict.fromkeys(groups)).encode()).hexdigest()[:16]

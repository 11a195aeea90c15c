"""Differences of held-out r between two models, from what their cells store; and corrections for many differences.

A column stores its resamples (whole multiples of 1e-4 of the signed held-out mean r of its ten strongest neurons, one
per bootstrap resample) and which groups they were drawn from. Two models that were scored on the same groups, with the
same seed of inference, drew the same groups each time: the b-th resample of one minus the b-th of the other is the
b-th resample of the difference, over examples, given the prompts. Several prompt seeds: means over those both have.

    interval   2.5th and 97.5th percentile of the resampled differences
    counted    two-sided bootstrap p = min(1, 2 min(1 + #(d <= 0), 1 + #(d >= 0)) / (1 + resamples))
    p          counted; where no resample lies beyond 0, its floor or the normal tail with the resamples' sd,
               whichever is smaller: a thousand resamples alone can never pass a correction for a hundred columns

Neither p is one of a permutation: that needs the activations of both models.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from skillneurons.leaderboard.models import Identity
from skillneurons.leaderboard.seeds import LEVEL, NOT_WHOLE, UNIT, resamples_of
from skillneurons.results import Result

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Doubles = npt.NDArray[np.float64]

ALPHA = 1 - LEVEL


@dataclass(frozen=True)
class Difference:
    """``difference`` is A - B; ``p_holm`` is p corrected for the others of its family, None before that.

    ``n`` counts the examples and ``groups`` what was resampled; ``reason`` says why a figure is None.
    ``p_counted`` is the p of counting alone where ``p`` may be another; ``same``: the values of both models are equal,
    example by example, as of a column that describes the question and not the answer.
    """

    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    a: float | None = None
    b: float | None = None
    n: int | None = None
    groups: int | None = None
    seeds: tuple[int, ...] = ()
    p_counted: float | None = None
    same: bool = False
    reason: str = ""

    @property
    def beyond_noise(self) -> bool:
        """Whether both the corrected p and the interval say that the models differ."""
        if self.p_holm is None or self.low is None or self.high is None:
            return False
        return self.p_holm <= ALPHA + 1e-12 and not self.low <= 0 <= self.high

    @property
    def verdict(self) -> str:
        """``A higher``, ``B higher``, ``within noise``, ``the same``, or ``not compared``."""
        if self.same:
            return "the same"
        if self.difference is None or self.p is None or self.low is None:
            return "not compared"
        if not self.beyond_noise:
            return "within noise"
        return "A higher" if self.difference > 0 else "B higher"


def heldout_differences(
    cells: Mapping[Identity, Mapping[int, Result]], column: str, pairs: Sequence[tuple[Identity, Identity]]
) -> list[Difference]:
    """Return the difference of ``heldout_top10_r`` of a column for each pair (A, B) of models; ``cells`` by model and seed."""
    import numpy as np

    found: list[Difference] = [Difference()] * len(pairs)
    read = {
        (model, seed): resamples_of(str(text)) if (text := cell.columns.get(column, {}).get("resamples")) else None
        for model, by_seed in cells.items()
        for seed, cell in by_seed.items()
    }
    drawn: dict[tuple[Identity, tuple[int, ...]], Doubles] = {}
    together: dict[int, list[int]] = {}  # pairs of as many resamples are one array
    for i, (one, other) in enumerate(pairs):
        found[i] = _compared(cells[one], cells[other], column)
        if not found[i].reason:
            wrong = _misread([read[model, seed] for seed in found[i].seeds for model in (one, other)])
            if wrong:
                found[i] = replace(found[i], reason=wrong)
        if not found[i].reason:
            seeds = found[i].seeds
            for model in (one, other):
                if (model, seeds) not in drawn:
                    rows = [numbers for seed in seeds if (numbers := read[model, seed]) is not None]
                    drawn[model, seeds] = sum(rows[1:], start=rows[0]) / len(seeds)
            together.setdefault(len(drawn[one, seeds]), []).append(i)
    for places in together.values():
        both = [(drawn[pairs[i][0], found[i].seeds], drawn[pairs[i][1], found[i].seeds]) for i in places]
        differences = np.stack([one - other for one, other in both])
        for i, (low, high, counted, p) in zip(places, _figures(differences), strict=True):
            if math.isnan(low):
                why = "undefined on more than 5 % of the resamples: too few groups have the value"
                found[i] = replace(found[i], reason=why)
            else:
                found[i] = replace(found[i], low=UNIT * low, high=UNIT * high, p=p, p_counted=counted)
    return found


def heldout_value(cells: Mapping[int, Result], column: str) -> tuple[float | None, str]:
    """Return the mean ``heldout_top10_r`` of a column over the seeds of a model, or None and why it is undefined."""
    figures = [cell.columns.get(column, {}) for cell in cells.values()]
    return _mean([one.get("heldout_top10_r") for one in figures]), _why(figures)


def _compared(a: Mapping[int, Result], b: Mapping[int, Result], column: str) -> Difference:
    """Return the difference without interval and p; its ``reason`` says why it can have none."""
    seeds = tuple(sorted(a.keys() & b.keys()))
    if not seeds:
        return Difference(reason=no_seed(a, b))
    ours, theirs = ([by_seed[seed].columns.get(column, {}) for seed in seeds] for by_seed in (a, b))
    mean_a, mean_b = (_mean([figures.get("heldout_top10_r") for figures in one]) for one in (ours, theirs))
    both = [*ours, *theirs]
    if mean_a is None or mean_b is None:
        return Difference(a=mean_a, b=mean_b, seeds=seeds, n=_least(both), reason=_undefined(ours, theirs))
    return Difference(mean_a - mean_b, a=mean_a, b=mean_b, seeds=seeds, n=_least(both), reason=_not_paired(both))


def _not_paired(columns: Sequence[Mapping[str, Any]]) -> str:
    """Return why the resamples of these columns are not of the same draws, ``""`` where they are."""
    missing = [one for one in columns if not one.get("resamples")]
    if missing:
        told = sorted({one.get("interval_reason") or "" for one in missing} - {""})
        return "; ".join(told) or "no resamples were stored: attribution.bootstrap was 0"
    drawn_from = {one.get("resampled_groups") for one in columns}
    if None in drawn_from or "" in drawn_from:
        return "a cell does not say which groups its resamples were drawn from; run it again into another folder"
    if len(drawn_from) > 1:
        return "the models were scored on different groups, so they share no resamples"
    return ""


def _misread(drawn: Sequence[Doubles | None]) -> str:
    """Return what is wrong with the resamples of two models, ``""`` where nothing is."""
    lengths = {len(one) for one in drawn if one is not None}
    if any(one is None for one in drawn) or 0 in lengths:
        return NOT_WHOLE
    return "the cells store different numbers of resamples: one of them was changed by hand" if len(lengths) > 1 else ""


def _figures(differences: Doubles) -> list[tuple[float, float, float, float]]:
    """Return (low, high, counted, p) of each row of resampled differences (pairs, resamples); NaN where undefined."""
    import numpy as np

    whole = ~np.isnan(differences).any(axis=1)
    found = [(math.nan,) * 4] * len(differences)
    for i, figures in zip(np.flatnonzero(whole), _described(differences[whole]), strict=True):
        found[i] = figures
    for i in np.flatnonzero(~whole):
        known = differences[i][~np.isnan(differences[i])]
        if len(known) >= LEVEL * differences.shape[1]:
            (found[i],) = _described(known[None])
    return found


def _described(differences: Doubles) -> list[tuple[float, float, float, float]]:
    """Return (low, high, counted, p) of rows of resampled differences (pairs, resamples) without NaN, as in the formula."""
    import numpy as np

    n = differences.shape[1]
    places = [share * (n - 1) for share in (ALPHA / 2, 1 - ALPHA / 2)]
    below = [math.floor(place) for place in places]
    above = [min(one + 1, n - 1) for one in below]
    ordered = np.partition(differences, sorted({*below, *above}), axis=1)
    ends = [
        ordered[:, low] + (place - low) * (ordered[:, high] - ordered[:, low])
        for place, low, high in zip(places, below, above, strict=True)
    ]
    beyond = np.minimum((differences <= 0).sum(axis=1), (differences >= 0).sum(axis=1))
    spread = differences.std(axis=1, ddof=1) if n > 1 else np.zeros(len(differences))
    rows = zip(*ends, beyond.tolist(), spread.tolist(), differences.mean(axis=1).tolist(), strict=True)
    return [(float(low), float(high), *_p(int(beyond), spread, mean, n)) for low, high, beyond, spread, mean in rows]


def _p(beyond: int, spread: float, mean: float, n: int) -> tuple[float, float]:
    counted = min(1.0, 2 * (1 + beyond) / (1 + n))
    if beyond or spread == 0:
        return counted, counted
    return counted, min(counted, math.erfc(abs(mean) / spread / math.sqrt(2)))


def holm(p: Sequence[float]) -> list[float]:
    """Return Holm's step-down corrected p-values, in the order given (Holm 1979)."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    corrected, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        corrected[i] = largest
    return corrected


def no_seed(a: Iterable[int], b: Iterable[int]) -> str:
    """Return why two models cannot be paired by prompt seed."""
    ours, theirs = (", ".join(map(str, sorted(seeds))) for seeds in (a, b))
    return f"no prompt seed in common: {ours} and {theirs}; run both with the same --seed"


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return math.fsum(present) / len(present) if present and len(present) == len(values) else None


def _least(figures: Sequence[Mapping[str, Any]]) -> int | None:
    return min((int(one["n_heldout"]) for one in figures if one.get("n_heldout") is not None), default=None)


def _undefined(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]) -> str:
    told = [f"{name}: {why}" for name, figures in (("A", ours), ("B", theirs)) if (why := _why(figures))]
    return ", ".join(told)


def _why(figures: Sequence[Mapping[str, Any]]) -> str:
    """Return why a column has no held-out r on some seeds, ``""`` where it has it on all."""
    reasons = {
        str(one.get("reason") or one.get("status") or "no such column")
        for one in figures
        if one.get("heldout_top10_r") is None
    }
    return "; ".join(sorted(reasons))

"""Several prompt seeds of one row: spread, overlap of their best neurons, and the interval of their mean.

All seeds of a row were resampled alike (the resamples depend on the examples' groups and one seed), so the mean of
their b-th resamples is the b-th resample of their mean. Sums are exact, so the order of files does not show.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

from skillneurons.leaderboard.settings import parse_json

LEVEL = 0.95
UNIT = 1e-4  # resamples are whole multiples of it


def interval_of_mean(
    texts: Sequence[str | None], drawn_from: Sequence[str | None] = ()
) -> tuple[float | None, float | None, str]:
    """Return the percentile interval of the mean over seeds and, where there is none, why.

    One text of whole numbers (x: undefined) per seed; ``drawn_from`` says which groups each was drawn from.
    """
    import numpy as np

    # as a JSON list it is read several times as fast
    lists = [parse_json(f"[{text.replace(' ', ',').replace('x', 'null')}]") for text in texts if text]
    rows = [np.array(numbers, dtype=np.float64) for numbers in lists]
    if len(rows) < len(texts) or not all(map(len, rows)):
        return None, None, ""
    if len({len(row) for row in rows}) != 1 or len(set(drawn_from)) > 1:
        return None, None, "the seeds score different examples, so they share no resamples"
    means = np.sum(rows, axis=0) / len(rows)  # sums of whole numbers are exact, in any order
    known: list[float] = np.sort(means[~np.isnan(means)]).tolist()
    if len(known) < LEVEL * len(means):
        return None, None, "undefined on more than 5 % of the resamples: too few groups have the value"
    return UNIT * quantile(known, (1 - LEVEL) / 2), UNIT * quantile(known, (1 + LEVEL) / 2), ""


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile of sorted numbers, interpolated between neighbours."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def sd(values: Iterable[float | None]) -> float | None:
    """Return the standard deviation (n - 1) of the values that are there, None for fewer than two."""
    present = [float(value) for value in values if value is not None]
    if len(present) < 2:
        return None
    mean = math.fsum(present) / len(present)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in present) / (len(present) - 1))


def overlap(rankings: Sequence[Sequence[Mapping[str, Any]]], k: int) -> float | None:
    """Return the mean Jaccard overlap of the ``k`` best neurons between two seeds; None for fewer than two."""
    best = [{(neuron["layer"], neuron["neuron"]) for neuron in ranking[:k]} for ranking in rankings if ranking]
    shares = [len(one & other) / len(one | other) for one, other in combinations(best, 2)]
    return math.fsum(shares) / len(shares) if shares else None


def chance_overlap(k: int, n_neurons: int) -> float:
    """Return the expected Jaccard overlap of two random sets of ``k`` among ``n_neurons``.

    The size of the intersection is hypergeometric; Jaccard is i / (2 k - i).
    """
    k = min(k, n_neurons)
    total = math.comb(n_neurons, k)
    return math.fsum(
        math.comb(k, i) * math.comb(n_neurons - k, k - i) / total * i / (2 * k - i) for i in range(1, k + 1)
    )

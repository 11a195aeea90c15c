"""Several prompt seeds of one row: spread, overlap of their best neurons, and the interval of their mean.

All seeds of a row were resampled alike (the resamples depend on the examples' groups and one seed), so the mean of
their b-th resamples is the b-th resample of their mean. Sums are exact, so the order of files does not show.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from skillneurons.leaderboard.settings import parse_json

LEVEL = 0.95
UNIT = 1e-4  # resamples are whole multiples of it
NOT_WHOLE = "the stored resamples are not whole numbers: a cell was changed by hand"


def interval_of_mean(
    texts: Sequence[str | None], drawn_from: Sequence[str | None] = ()
) -> tuple[float | None, float | None, str]:
    """Return the percentile interval of the mean over seeds and, where there is none, why.

    One text of whole numbers (x: undefined) per seed; ``drawn_from`` says which groups each was drawn from.
    """
    read = [resamples_of(text) for text in texts if text]
    rows = [numbers for numbers in read if numbers is not None]
    if len(rows) < len(read):
        return None, None, NOT_WHOLE
    if len(rows) < len(texts) or not all(map(len, rows)):
        return None, None, ""
    if len({len(row) for row in rows}) != 1 or len(set(drawn_from)) > 1:
        return None, None, "the seeds score different examples, so they share no resamples"
    means = sum(rows[1:], start=rows[0]) / len(rows)  # sums of whole numbers are exact, in any order
    known = means[~np.isnan(means)]
    if len(known) < LEVEL * len(means):
        return None, None, "undefined on more than 5 % of the resamples: too few groups have the value"
    low, high = quantiles(known, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return UNIT * low, UNIT * high, ""


@lru_cache(maxsize=2048)  # rows and standings read the same texts, one task and metric after the other
def resamples_of(text: str) -> npt.NDArray[np.float64] | None:
    """Return the resamples that a cell stores (resamples,), in units of 1e-4, NaN for ``x``; None where it stores others.

    As a JSON list, by way of an array, they are read several times as fast as by ``numpy.array(text.split())``.
    """
    if text.encode("ascii", "replace").translate(None, b"0123456789- x"):
        return None
    try:
        numbers = parse_json(f"[{text.replace(' ', ',').replace('x', 'null')}]")
        if "x" in text:
            found = np.array(numbers, dtype=np.float64)
        else:
            found = np.frombuffer(array("q", numbers), dtype=np.int64).astype(np.float64)
    except (ValueError, TypeError, OverflowError):  # no list, or numbers of more digits than a resample has
        return None
    found.flags.writeable = False
    return found


def quantiles(values: npt.NDArray[np.float64], shares: Sequence[float]) -> list[float]:
    """Return quantiles of numbers in any order, interpolated between neighbours."""
    places = [share * (len(values) - 1) for share in shares]
    below = [math.floor(place) for place in places]
    above = [min(one + 1, len(values) - 1) for one in below]
    values = np.partition(values, sorted({*below, *above}))
    ends = [(float(values[low]), float(values[high])) for low, high in zip(below, above, strict=True)]
    return [low + (place - math.floor(place)) * (high - low) for place, (low, high) in zip(places, ends, strict=True)]


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

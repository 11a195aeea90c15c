"""What is gathered of one column's null while blocks of neurons go by: the largest of each permutation, and counts.

Products of the observed values and of every order of them stand in one matrix (1 + B, n_positions, neurons), the observed
ones first, as sizes in [0, 1]. With several read positions a neuron counts by its strongest one, in the null too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from skillneurons.exchange import Exchange
from skillneurons.statistics import LinearForm, products

ALPHA = 0.05
ROUNDING = 2e-6  # two float32 products of one value may differ by this much; ties count against the neuron
BINS = 1 << 14  # of the pooled null over |product| in [0, 1]

Doubles = npt.NDArray[np.float64]
LinearForms = Callable[..., LinearForm]


@dataclass
class Tally:
    """What is gathered of one column while blocks of neurons go by; products lie in [-1, 1]."""

    exchange: Exchange
    largest: Doubles
    histogram: npt.NDArray[np.int64]
    above: npt.NDArray[np.float64]
    observed: list[Doubles] = field(default_factory=list)
    link: Callable[[Any], Any] = lambda product: product
    fired: list[Doubles] = field(default_factory=list)  # on how many rows each neuron (and position) fired


def single(fired: Doubles | None) -> npt.NDArray[np.float32] | None:
    """Return which rows fired in float32, None where all did."""
    return None if fired is None else fired.astype(np.float32)


def sizes(form: LinearForm, tally: Tally, x: Any, fired: Any) -> npt.NDArray[np.float32]:
    """Return |product| of the observed values and of all orders, in float32: (1 + B, n_positions * neurons)."""
    permuted = np.concatenate([form.y[None], form.y[tally.exchange.orders]]).astype(np.float32)
    size: npt.NDArray[np.float32] = np.abs(products(permuted, x, fired))
    return size


def add(tally: Tally, size: npt.NDArray[np.floating[Any]], thresholds: Sequence[float]) -> None:
    """Add |products| of shape (1 + B, n_positions, neurons), the observed ones first."""
    strongest = size[:, 0] if size.shape[1] == 1 else np.fmax.reduce(size, axis=1)
    tally.observed.append(strongest[0].astype(np.float64))
    null = strongest[1:][:, ~np.isnan(strongest[0])]
    if null.shape[1] == 0:
        return
    np.maximum(tally.largest, null.max(axis=1), out=tally.largest)
    levels = np.minimum((null * BINS).astype(np.int32), BINS)
    tally.histogram += np.bincount(levels.ravel(), minlength=BINS + 1)
    effects = tally.link(null) if thresholds else null
    tally.above += [np.count_nonzero(effects >= level) / len(null) for level in thresholds]

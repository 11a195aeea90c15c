"""A statistic under examination, and the rows it is tried on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from skillneurons.testing.checks import NotApplicable, told

if TYPE_CHECKING:
    from skillneurons.testing.subjects import Context

Array = npt.NDArray[np.float64]
ROWS, NEURONS = 150, 12
LIKE, UNLIKE, CONSTANT = 0, 1, 2  # the neuron that all but equals column 0, its negative, and one that never changes
CLASSES, NUMBERS, GAPS = 0, 1, 2  # a column of 0 and 1, one of numbers, and one of 0 and 1 that is not always scored


def rows() -> tuple[Array, Array]:
    """Return activations (rows, neurons) and values (rows, columns), the same every time."""
    rng = np.random.default_rng(20)
    activations = rng.normal(size=(ROWS, NEURONS))
    values = np.stack([rng.integers(0, 2, ROWS), rng.normal(size=ROWS), rng.integers(0, 2, ROWS)], axis=1).astype(float)
    values[rng.permutation(ROWS)[: ROWS // 4], GAPS] = np.nan
    near = 0.01 * activations  # a spread within the classes, for a statistic that divides by it
    activations[:, LIKE] = values[:, CLASSES] + near[:, LIKE]
    activations[:, UNLIKE] = near[:, UNLIKE] - values[:, CLASSES]
    activations[:, CONSTANT] = 2.5
    return activations, values


class AttributionCase:
    """A registered factory of accumulators."""

    def __init__(self, context: Context, name: str) -> None:
        self.context, self.name = context, name
        self.factory: Callable[[int, int], Any] = context.registry.attribution(name)
        self.activations, self.values = rows()

    @property
    def subject(self) -> str:
        """Return what messages call it."""
        return f"attribution {self.name!r}"

    def new(self, values: Array | None = None) -> Any:
        """Return an accumulator without rows, with its baseline where it needs one."""
        n_columns = (self.values if values is None else values).shape[1]
        made = self.factory(NEURONS, n_columns)
        if getattr(self.factory, "baseline_split", None):
            made.set_baseline(self.activations.mean(axis=0))
        return made

    def filled(self, parts: Sequence[Any] = (slice(None),), values: Array | None = None) -> Any:
        """Return an accumulator that has seen parts of the rows, one update each."""
        chosen = self.values if values is None else values
        made = self.new(chosen)
        for part in parts:
            made.update(self.activations[part].copy(), chosen[part].copy())
        return made

    def of(self, accumulator: Any) -> dict[str, Array]:
        """Return ``result`` and ``effect`` of an accumulator, as they come."""
        from skillneurons.statistics import effect_of

        with np.errstate(invalid="ignore", divide="ignore"):
            return {"result": accumulator.result(), "effect": effect_of(accumulator)}

    @cached_property
    def outcome(self) -> dict[str, Array] | str:
        """Return ``result`` and ``effect`` of all rows at once, or what is wrong with them."""
        try:
            found = self.of(self.filled())
        except (Exception, SystemExit) as error:  # a plugin may fail in any way; the check says which
            has = "update(activations, values), merge(other), result() and, if it likes, effect()"
            return f"{told(self, error)}; factory(n_neurons, n_columns) makes an accumulator, which has {has}"
        shape = (self.values.shape[1], NEURONS)
        for name, array in found.items():
            if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype.kind != "f":
                what = (
                    f"shape {array.shape} of {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
                )
                return f"{name}() gives {what}; it must be a float array of shape (columns, neurons), here {shape}"
        return found

    @property
    def whole(self) -> dict[str, Array]:
        """Return ``result`` and ``effect`` of all rows; raise NotApplicable where they cannot be had."""
        if isinstance(self.outcome, str):
            raise NotApplicable(f"{self.subject} gives no arrays of the right shape (see shape)")
        return self.outcome

    @property
    def relates(self) -> dict[str, Array]:
        """Return ``whole`` of a statistic that relates neurons to columns; NotApplicable for one of gradients."""
        if getattr(self.factory, "gradient", False):
            raise NotApplicable(f"{self.subject} is of activation times gradient, which no value of a column plants")
        return self.whole

    def fingerprint(self) -> dict[str, str]:
        """Return every number, as text."""
        return {name: repr(array.tolist()) for name, array in self.whole.items()}


def largest_difference(mine: Array, theirs: Array) -> float:
    """Return the largest difference as a share of the largest number; infinity where NaN or infinities do not match."""
    if mine.shape != theirs.shape or (np.isnan(mine) != np.isnan(theirs)).any():
        return float("inf")
    known = ~np.isnan(mine)
    if not known.any() or np.array_equal(mine[known], theirs[known]):
        return 0.0
    with np.errstate(invalid="ignore"):
        size = max(float(np.abs(mine[known]).max()), 1e-300)
        gap = float(np.abs(mine[known] - theirs[known]).max())
    return gap / size if np.isfinite(gap / size) else float("inf")

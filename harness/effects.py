"""What a change did to behaviour: accuracy, the target's log-probability, and a metric column.

With b before and a after the change, over the examples of heldout:

    accuracy   accuracy(b) - accuracy(a)                    (a drop is positive)
    log_prob   mean of log p(target)_b - log p(target)_a    (nats; a drop is positive)
    metric     mean of value_a - value_b
    moved      sqrt(mean of (value_a - value_b)^2) / sd(value_b)

``moved`` says how far the metric moves in either direction: a neuron that decides an answer moves half of the examples
up and half down. Rows where a value is not scored before or after are left out of that column; NaN where none is left,
or where the column has no variance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from skillneurons.errors import SkillNeuronsError
from skillneurons.inputs import EncodedExample
from skillneurons.measurement import Applied
from skillneurons.metric_row import metric_row
from skillneurons.types import Output

Doubles = npt.NDArray[np.float64]
OUTCOMES = ("accuracy", "log_prob", "metric", "moved")


@dataclass(frozen=True, eq=False)
class Behaviour:
    """What the model did with N examples: ``correct`` (N,), ``log_prob`` (N,), ``values`` (N, columns).

    ``classes`` (N,) numbers the target's class, all 0 where accuracy is not balanced; ``groups`` (N,) the group.
    """

    correct: Doubles
    log_prob: Doubles
    values: Doubles
    classes: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        """Return the mean of ``correct`` over scored examples, balanced over the classes."""
        return balanced(self.correct, self.classes)


def behaviour_of(encoded: Sequence[EncodedExample], outputs: Sequence[Output], metrics: Applied) -> Behaviour:
    """Return the behaviour that outputs show, with the columns of ``metrics`` in order; a metric's error is raised."""
    choices = {row.example.choices for row in encoded}
    names = [row.example.target if row.example.choices and len(choices) == 1 else "" for row in encoded]
    groups = [row.example.group or row.example.id for row in encoded]
    values = [
        [number for metric, columns in metrics.values() for number in metric_row(metric, columns, row.example, output)]
        for row, output in zip(encoded, outputs, strict=True)
    ]
    return Behaviour(
        np.array([output.correct for output in outputs], dtype=np.float64),
        np.array([output.target_log_prob for output in outputs], dtype=np.float64),
        np.array(values, dtype=np.float64).reshape(len(encoded), -1),
        np.unique(names, return_inverse=True)[1],
        np.unique(groups, return_inverse=True)[1],
    )


def balanced(correct: Doubles, classes: npt.NDArray[np.int64]) -> float:
    """Return the mean over classes of the mean of ``correct``; NaN where nothing was scored."""
    scored = ~np.isnan(correct)
    means = [correct[scored & (classes == one)].mean() for one in np.unique(classes[scored])]
    return float(np.mean(means)) if means else float("nan")


def effect(before: Behaviour, after: Behaviour, column: int | None, outcome: str) -> float:
    """Return one outcome of a change (see above); ``column`` is needed for metric and moved."""
    everyone = np.arange(before.groups.max() + 1)[None]
    return float(_statistic(before, after, column, outcome)(everyone)[0])


def effect_interval(
    before: Behaviour, after: Behaviour, column: int | None, outcome: str, *, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of an outcome, by group; NaN with fewer than 5 groups or undefined."""
    from scipy.stats import bootstrap

    statistic = _statistic(before, after, column, outcome)
    groups = np.arange(before.groups.max() + 1)
    if len(groups) < 5 or resamples < 1 or not np.isfinite(statistic(groups[None])[0]):
        return float("nan"), float("nan")
    drawn = bootstrap(
        (groups,),
        lambda indices, axis=-1: statistic(indices),
        vectorized=True,
        n_resamples=resamples,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).bootstrap_distribution
    low, high = np.nanpercentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def _statistic(
    before: Behaviour, after: Behaviour, column: int | None, outcome: str
) -> Callable[[npt.NDArray[np.int64]], Doubles]:
    """Return the function from drawn groups (draws, groups) to the outcome of each draw."""
    n_groups = int(before.groups.max()) + 1
    if outcome == "accuracy":
        cells = before.classes * n_groups + before.groups
        n_classes = int(before.classes.max()) + 1
        scored = ~np.isnan(before.correct) & ~np.isnan(after.correct)
        size = np.bincount(cells[scored], minlength=n_classes * n_groups).reshape(n_classes, n_groups)
        lost = np.where(scored, before.correct - after.correct, 0.0)
        sums = np.bincount(cells, lost, minlength=n_classes * n_groups).reshape(n_classes, n_groups)

        def drop(drawn: npt.NDArray[np.int64]) -> Doubles:
            with np.errstate(invalid="ignore", divide="ignore"):
                shares = sums[:, drawn].sum(axis=-1) / size[:, drawn].sum(axis=-1)  # (classes, draws)
            found: Doubles = np.nanmean(shares, axis=0) if scored.any() else np.full(len(drawn), np.nan)
            return found

        return drop
    if outcome == "log_prob":
        return _mean_of(before.log_prob - after.log_prob, before.groups, n_groups)
    if column is None or outcome not in OUTCOMES:
        raise ValueError(f"outcome {outcome!r} of column {column!r}")
    change = after.values[:, column] - before.values[:, column]
    if outcome == "metric":
        return _mean_of(change, before.groups, n_groups)
    square = _mean_of(change**2, before.groups, n_groups)
    known = before.values[:, column][~np.isnan(before.values[:, column])]
    sd = float(known.std()) if len(known) else float("nan")
    scale = sd if sd > 0 else float("nan")
    return lambda drawn: np.sqrt(square(drawn)) / scale


def _mean_of(
    change: Doubles, groups: npt.NDArray[np.int64], n_groups: int
) -> Callable[[npt.NDArray[np.int64]], Doubles]:
    scored = ~np.isnan(change)
    sums = np.bincount(groups[scored], change[scored], minlength=n_groups)
    size = np.bincount(groups[scored], minlength=n_groups)

    def mean(drawn: npt.NDArray[np.int64]) -> Doubles:
        with np.errstate(invalid="ignore", divide="ignore"):
            found: Doubles = sums[drawn].sum(axis=-1) / size[drawn].sum(axis=-1)
        return found

    return mean


def first_failure(error: Exception) -> str:
    """Return the one line of an error that a cell keeps; an error of nobody's making is named by its type."""
    told = " ".join(str(error).split())
    return told if isinstance(error, SkillNeuronsError) else f"{type(error).__name__}: {told}"

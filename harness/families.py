"""One figure of all compared models: what it is of each, and how every two of them differ.

    accuracy           per task, held out, from the passes; of one that is not on disk, from the cells, and no p
    mean               per task and column: the metric's values on held-out examples, from the passes
    heldout_top10_r    per task and column, from the resamples that the cells store

Accuracies and means are over the examples that are scored for every model which has any, so the values of a family and
its differences are of the same examples. Metrics of one prompt share their answers, so a task has one family of
accuracies for each prompt setting, whichever metric's pass is on disk.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt
from skillneurons.leaderboard.common_seeds import common_seeds, no_common_seed, seeds_left_out
from skillneurons.leaderboard.differences import Difference, heldout_differences, heldout_value
from skillneurons.leaderboard.models import Identity
from skillneurons.leaderboard.settings import differences as settings_apart
from skillneurons.leaderboard.shared import Apart, Shared, asked
from skillneurons.paired import paired_means
from skillneurons.pairing import Examples, Scored, scored_values
from skillneurons.results import Result, canonical_json

Couple = tuple[Identity, Identity]
Values = Mapping[Identity, float | None]
NONE_SCORED = "no example is scored for both models"


@dataclass(frozen=True)
class Family:
    """``values`` by model, ``why`` of those that have none, and the ``differences`` of every two models.

    ``metric`` and ``column`` are ``""`` for accuracy, ``setting`` where there is one alone.
    """

    figure: str
    task: str
    metric: str
    column: str
    setting: str
    values: Values
    why: Mapping[Identity, str]
    differences: Mapping[Couple, Difference]


@dataclass(frozen=True)
class Draws:
    """How many resamples and permutations are drawn, from which seed."""

    n: int
    seed: int


def of_common_seeds(one: Shared, labels: Mapping[Identity, str]) -> tuple[Shared | None, list[Apart]]:
    """Return the cells of the seeds that all models have here, and what was left out; None where there is no such seed."""
    common = common_seeds(one.cells)
    if not common:
        return None, [Apart(one.name, no_common_seed(one.cells, labels))]
    kept = {model: {seed: by_seed[seed] for seed in common} for model, by_seed in one.cells.items()}
    told = [Apart(one.name, line) for line in seeds_left_out(one.cells, labels)]
    return Shared(one.task, one.metric, one.setting, kept), told


def accuracy_families(
    units: Sequence[Shared], labels: Mapping[Identity, str], examples: Examples, draws: Draws
) -> tuple[list[Family], list[Apart]]:
    """Return the accuracies of every task, and what was left out; models in the order of ``labels``."""
    families, notes = [], []
    for pooled in _by_prompt(units, list(labels), examples):
        one, told = of_common_seeds(pooled, labels)
        notes += told
        if one is not None:
            scored = scored_values(one.cells, ["correct"], examples)
            (family,), fewer = _families(one, "accuracy", [""], scored, draws)
            families.append(_from_cells(family, one.cells))
            notes += fewer
    return families, notes


def _by_prompt(units: Sequence[Shared], models: Sequence[Identity], examples: Examples) -> list[Shared]:
    """Return the cells that share their answers as one, by task and prompt setting: those whose pass is on disk, if any."""
    groups: dict[str, dict[str, list[Shared]]] = {}
    for one in units:
        groups.setdefault(one.task, {}).setdefault(canonical_json(_prompted(one)), []).append(one)
    found = []
    for task, settings in groups.items():
        apart = settings_apart([_prompted(same[0]) for same in settings.values()])
        for setting, same in zip(apart, settings.values(), strict=True):
            cells: dict[Identity, dict[int, Result]] = {}
            for model, seed, cell in ((m, s, c) for one in same for m, of in one.cells.items() for s, c in of.items()):
                known = cells.setdefault(model, {}).setdefault(seed, cell)
                if known is not cell and not examples.has(known) and examples.has(cell):
                    cells[model][seed] = cell
            found.append(Shared(task, "accuracy", setting, {model: cells[model] for model in models if model in cells}))
    return found


def _prompted(one: Shared) -> dict[str, object]:
    """Return what the answers depend on: neither the metric nor where neurons were read."""
    cell = next(cell for by_seed in one.cells.values() for cell in by_seed.values())
    return {**asked(cell, without=("attribution",)), "metric": None}


def _from_cells(family: Family, cells: Mapping[Identity, Mapping[int, Result]]) -> Family:
    """Return the accuracies with those that the cells hold, where passes give none."""
    kept = {model: _tuned(list(by_seed.values())) for model, by_seed in cells.items()}
    values = {model: kept[model] if value is None else value for model, value in family.values.items()}
    differences = {}
    for (a, b), one in family.differences.items():
        ours, theirs = kept[a], kept[b]
        apart = None if ours is None or theirs is None else ours - theirs
        differences[a, b] = one if one.difference is not None else replace(one, difference=apart, a=ours, b=theirs)
    return Family("accuracy", family.task, "", "", family.setting, values, family.why, differences)


def _tuned(cells: Sequence[Result]) -> float | None:
    known = [value for cell in cells if (value := cell.accuracy.get("tuned")) is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(cells) else None


def column_families(one: Shared, examples: Examples, draws: Draws) -> tuple[list[Family], list[Apart]]:
    """Return the means and the held-out r of every column, and what was left out."""
    columns = one.columns()
    means, notes = _families(one, "mean", columns, scored_values(one.cells, columns, examples), draws)
    return [*means, *(_heldout(one, column) for column in columns)], notes


def _heldout(one: Shared, column: str) -> Family:
    pairs = list(combinations(one.cells, 2))
    differences = dict(zip(pairs, heldout_differences(one.cells, column, pairs), strict=True))
    known = {model: heldout_value(by_seed, column) for model, by_seed in one.cells.items()}
    values = {model: value for model, (value, _) in known.items()}
    why = {model: reason for model, (value, reason) in known.items() if value is None}
    return Family("heldout_top10_r", one.task, one.metric, column, one.setting, values, why, differences)


def _families(
    one: Shared, figure: str, columns: Sequence[str], scored: Scored, draws: Draws
) -> tuple[list[Family], list[Apart]]:
    """Return a family for each column of the scored values, and how many examples not all models have scored."""
    known = {model: ~np.isnan(values) for model, values in scored.values.items()}
    every, notes = [], []
    for i, column in enumerate(columns):
        masks = [mask[:, i] for mask in known.values() if mask[:, i].any()]
        both = np.logical_and.reduce(masks) if masks else np.zeros(len(scored.groups), dtype=bool)
        every.append(both)
        fewer = int((np.sum(masks, axis=0) > 1).sum() - both.sum()) if len(masks) > 2 else 0
        if fewer:
            name = f"{one.task} {column or figure}{f' ({one.setting})' if one.setting else ''}"
            notes.append(Apart(name, f"examples left out that are not scored for every model: {fewer}"))
    masked = {  # (rows, columns), NaN where not every model is scored
        model: np.where(np.stack(every, axis=1), values, np.nan) for model, values in scored.values.items()
    }
    seeds = common_seeds(one.cells)
    pairs = {pair: _pair(pair, masked, scored, seeds, draws, len(columns)) for pair in combinations(one.cells, 2)}
    found = []
    for i, column in enumerate(columns):
        values = {model: _mean(masked[model][:, i]) if model in masked else None for model in one.cells}
        why = {model: scored.why.get(model, "no example is scored") for model in one.cells if values[model] is None}
        differences = {pair: differences[i] for pair, differences in pairs.items()}
        found.append(Family(figure, one.task, one.metric, column, one.setting, values, why, differences))
    return found, notes


def _mean(values: npt.NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _pair(
    pair: Couple,
    values: Mapping[Identity, npt.NDArray[np.float64]],
    scored: Scored,
    seeds: tuple[int, ...],
    draws: Draws,
    n_columns: int,
) -> list[Difference]:
    """Return the paired difference of each column's mean."""
    a, b = pair
    if a not in values or b not in values:
        reason = scored.why[a] if a in scored.why else scored.why[b]
        return [Difference(seeds=seeds, reason=reason)] * n_columns
    apart = values[a] - values[b]
    varying = [i for i in range(n_columns) if np.nan_to_num(apart[:, i]).any()]
    means = paired_means(apart[:, varying], scored.groups, n_resamples=draws.n, seed=draws.seed)
    figures = dict(zip(varying, means, strict=True))
    found = []
    for i in range(n_columns):
        ours, theirs, n = _mean(values[a][:, i]), _mean(values[b][:, i]), int((~np.isnan(apart[:, i])).sum())
        if not n:
            found.append(Difference(n=0, seeds=seeds, reason=NONE_SCORED))
        elif i in figures:
            of = figures[i]
            found.append(
                Difference(
                    of.difference, of.low, of.high, of.p, a=ours, b=theirs, n=n, groups=of.groups, seeds=seeds,
                    reason=of.reason,
                )
            )  # fmt: skip
        else:
            found.append(Difference(0.0, a=ours, b=theirs, n=n, seeds=seeds, same=True))
    return found

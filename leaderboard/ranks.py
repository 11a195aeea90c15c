"""Several models beside each other: the held-out r of each, and which places are sure.

For every task and column that two models or more have, the models are ordered by ``heldout_top10_r``: the mean over the
prompt seeds on which every model that has the column has an r, so that values and ranks are of the same prompts. Seeds
that are left out are told; where no seed is left, every model has the mean over its own seeds and no rank. Two models
tie where their paired difference is within noise: the interval holds 0, or p, corrected by Holm over the pairs of this
column, is above 0.05. Ties need not be transitive (A ~ B and B ~ C, yet A above C), so a model has no rank but a range
of ranks that the data leave open, among the n that were compared:

    best   1 + the number of models beyond noise above it
    worst  n - the number of models beyond noise below it

Everything comes from the cells alone. A model that cannot be compared with every other has no range but a reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations
from typing import Any

from skillneurons.leaderboard.common_seeds import common_seeds, no_common_seed, seeds_left_out
from skillneurons.leaderboard.differences import Difference, heldout_differences, holm
from skillneurons.leaderboard.models import Identity
from skillneurons.leaderboard.rows import mean
from skillneurons.leaderboard.settings import parse_json, plain_bytes
from skillneurons.leaderboard.shared import Apart, Shared, side_by_side, told_once
from skillneurons.results import Result

NO_R = "no held-out r; the table of the model says why"
NO_SEED = "no prompt seed that every model has"


@dataclass(frozen=True)
class Place:
    """Where a model stands: ``value``, its ranks ``best`` to ``worst``, and the models that it ties with.

    Without ranks, ``reason`` says why.
    """

    model: str
    value: float | None
    best: int | None = None
    worst: int | None = None
    ties: tuple[str, ...] = ()
    reason: str = ""

    @property
    def ranks(self) -> str:
        """``2``, ``1-3``, or ``""`` without one."""
        if self.best is None:
            return ""
        return str(self.best) if self.best == self.worst else f"{self.best}-{self.worst}"


_PLACE = tuple(one.name for one in fields(Place))


@dataclass(frozen=True)
class Standing:
    """The models on one column of a task, highest first; ``setting`` tells several settings of a task apart."""

    task: str
    metric: str
    column: str
    setting: str
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Standings:
    """All columns in order, what could not be set side by side, and the prompt seeds that were left out."""

    models: tuple[str, ...] = ()
    standings: tuple[Standing, ...] = ()
    refused: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def standings_bytes(cells: Sequence[Result], labels: Mapping[Identity, str]) -> bytes:
    """Return the standings of these cells as JSON, with what stands apart and the seeds left out.

    ``labels`` are of all models. Columns of different tasks or metrics have nothing to do with each other.
    """
    rows: list[list[Any]] = []
    left_out: list[Apart] = []
    found, refused = side_by_side(cells, labels) if len(labels) > 1 else ([], [])
    for one in found:
        standings, less, none = _standings(one, labels)
        left_out += less
        refused += none
        for standing in standings:
            places = [[getattr(place, name) for name in _PLACE] for place in standing.places]
            rows.append([standing.task, standing.metric, standing.column, standing.setting, places])
    return plain_bytes([rows, [list(one) for one in refused], [list(one) for one in left_out]])


def _standings(one: Shared, labels: Mapping[Identity, str]) -> tuple[list[Standing], list[Apart], list[Apart]]:
    """Return the standings of all columns, the seeds that were left out, and the columns whose models share no seed."""
    standings: list[Standing] = []
    left_out: list[tuple[str, str]] = []
    refused: list[tuple[str, str]] = []
    for column in one.columns():
        seeds = _seeds(one, column)
        have = {model: own for model, own in seeds.items() if own}
        if not have:
            continue
        common = common_seeds(have)
        if common:
            left_out += [(column, line) for line in seeds_left_out(have, labels)]
        else:
            refused.append((column, no_common_seed(have, labels)))
        standings.append(
            Standing(one.task, one.metric, column, one.setting, _places(one, column, seeds, common, labels))
        )
    every = len(standings)
    return standings, _named(one, left_out, every), _named(one, refused, every)


def _seeds(one: Shared, column: str) -> dict[Identity, tuple[int, ...]]:
    """Return on which seeds each model that has the column has an r."""
    return {
        model: tuple(
            seed for seed, cell in by_seed.items() if cell.columns.get(column, {}).get("heldout_top10_r") is not None
        )
        for model, by_seed in one.cells.items()
        if any(column in cell.columns for cell in by_seed.values())
    }


def _places(
    one: Shared,
    column: str,
    seeds: Mapping[Identity, Sequence[int]],
    common: Sequence[int],
    labels: Mapping[Identity, str],
) -> tuple[Place, ...]:
    have = [model for model, own in seeds.items() if own]
    cells = {model: {seed: one.cells[model][seed] for seed in common or seeds[model]} for model in have}
    pairs = list(combinations(have, 2)) if common else []
    compared = dict(zip(pairs, corrected(heldout_differences(cells, column, pairs)), strict=True))
    values = {
        model: mean(cell.columns[column]["heldout_top10_r"] for cell in cells.get(model, {}).values())
        for model in seeds
    }
    why = {model: NO_SEED if own else NO_R for model, own in seeds.items() if not (own and common)}
    return ranked(values, compared, labels, why)


def _named(one: Shared, told: Sequence[tuple[str, str]], every: int) -> list[Apart]:
    """Return what is told of columns as told of all of them at once where it concerns ``every``."""
    columns: dict[str, list[str]] = {}
    for column, line in told:
        columns.setdefault(line, []).append(column)
    setting = f" ({one.setting})" if one.setting else ""
    found = []
    for line, names in columns.items():
        whats = [one.name] if len(names) == every else [f"{one.task} {column}{setting}" for column in names]
        found += [Apart(what, line) for what in whats]
    return found


def joined(models: tuple[str, ...], parts: Iterable[bytes]) -> Standings:
    """Return the standings of several tasks and metrics, each as ``standings_bytes`` gave it, in their order."""
    standings: list[Standing] = []
    refused: list[Apart] = []
    left_out: list[Apart] = []
    for part in parts:
        rows, apart, less = parse_json(part)
        for task, metric, column, setting, places in rows:
            placed = (dict(zip(_PLACE, place, strict=True)) for place in places)
            told_places = tuple(Place(**{**one, "ties": tuple(one["ties"])}) for one in placed)
            standings.append(Standing(task, metric, column, setting, told_places))
        refused += [Apart(*one) for one in apart]
        left_out += [Apart(*one) for one in less]
    return Standings(models, tuple(standings), tuple(told_once(refused)), tuple(told_once(left_out)))


def corrected(family: Sequence[Difference]) -> list[Difference]:
    """Return the differences with Holm's correction over those that have a p."""
    with_p = [i for i, one in enumerate(family) if one.p is not None]
    p = holm([family[i].p or 0.0 for i in with_p])
    found = list(family)
    for i, value in zip(with_p, p, strict=True):
        found[i] = replace(found[i], p_holm=value)
    return found


def ranked(
    values: Mapping[Identity, float | None],
    compared: Mapping[tuple[Identity, Identity], Difference],
    labels: Mapping[Identity, str],
    why: Mapping[Identity, str] | None = None,
) -> tuple[Place, ...]:
    """Return the models by falling value (then by name; those without one last), each with its range of ranks.

    ``why`` says of models that can have no rank (those without a value, at least) what the reason is.
    """
    why = why or {}
    why_not: dict[Identity, dict[str, list[str]]] = {model: {} for model in values}
    above: dict[Identity, int] = dict.fromkeys(values, 0)
    below: dict[Identity, int] = dict.fromkeys(values, 0)
    ties: dict[Identity, list[str]] = {model: [] for model in values}
    for (one, other), difference in compared.items():
        if difference.verdict == "not compared":
            for model, against in ((one, other), (other, one)):
                why_not[model].setdefault(difference.reason, []).append(labels[against])
        elif difference.beyond_noise:
            higher, lower = (one, other) if difference.verdict == "A higher" else (other, one)
            above[lower] += 1
            below[higher] += 1
        else:
            ties[one].append(labels[other])
            ties[other].append(labels[one])
    n = sum(value is not None for value in values.values())
    places = []
    for model in sorted(values, key=lambda model: (values[model] is None, -(values[model] or 0.0), labels[model])):
        value, tied = values[model], tuple(sorted(ties[model]))
        told = sorted(f"not compared with {', '.join(sorted(names))}: {said}" for said, names in why_not[model].items())
        if value is None or model in why:
            places.append(Place(labels[model], value, reason=why.get(model, "")))
        elif told or n < 2:
            places.append(Place(labels[model], value, ties=tied, reason="; ".join(told) or "no other model has it"))
        else:
            places.append(Place(labels[model], value, 1 + above[model], n - below[model], tied))
    return tuple(places)

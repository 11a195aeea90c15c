"""Several models beside each other: the held-out r of each, and which places are sure.

For every task and column that two models or more have, the models are ordered by ``heldout_top10_r`` (the mean over
their seeds). Two models tie where their paired difference is within noise: the interval holds 0, or p, corrected by
Holm over the pairs of this column, is above 0.05. Ties need not be transitive (A ~ B and B ~ C, yet A above C), so a
model has no rank but a range of ranks that the data leave open, among the n that were compared:

    best   1 + the number of models beyond noise above it
    worst  n - the number of models beyond noise below it

Everything comes from the cells alone. A model that cannot be compared with every other has no range but a reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations

from skillneurons.leaderboard.differences import Difference, heldout_differences, holm
from skillneurons.leaderboard.models import Identity, model_labels
from skillneurons.leaderboard.rows import mean
from skillneurons.leaderboard.settings import parse_json, plain_bytes
from skillneurons.leaderboard.shared import shared
from skillneurons.results import Result


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
    """All columns in order, and what could not be set side by side."""

    models: tuple[str, ...] = ()
    standings: tuple[Standing, ...] = ()
    refused: tuple[str, ...] = ()


def make_standings(cells: Iterable[Result]) -> Standings:
    """Return the standings of all models of these cells; no column where there is one model alone."""
    kept = list(cells)
    labels = model_labels(kept)
    standings, refused = standings_of(kept, labels)
    return Standings(tuple(labels.values()), standings, refused)


def standings_of(
    cells: Sequence[Result], labels: Mapping[Identity, str]
) -> tuple[tuple[Standing, ...], tuple[str, ...]]:
    """Return the standings of these cells, and what could not be set side by side; ``labels`` are of all models.

    Columns of different tasks or metrics have nothing to do with each other.
    """
    found, refused = shared(cells) if len(labels) > 1 else ([], [])
    standings = []
    for one in found:
        for column in one.columns():
            models = [model for model in one.cells if any(column in cell.columns for cell in one.cells[model].values())]
            values = {
                model: mean(cell.columns.get(column, {}).get("heldout_top10_r") for cell in one.cells[model].values())
                for model in models
            }
            pairs = list(combinations([model for model in models if values[model] is not None], 2))
            compared = dict(zip(pairs, corrected(heldout_differences(one.cells, column, pairs)), strict=True))
            if any(value is not None for value in values.values()):
                places = ranked(values, compared, labels)
                standings.append(Standing(one.task, one.metric, column, one.setting, places))
    return tuple(standings), tuple(refused)


def standings_bytes(cells: Sequence[Result], labels: Mapping[Identity, str]) -> bytes:
    """Return ``standings_of`` as JSON."""
    standings, refused = standings_of(cells, labels)
    rows = [
        [
            one.task,
            one.metric,
            one.column,
            one.setting,
            [[getattr(place, name) for name in _PLACE] for place in one.places],
        ]
        for one in standings
    ]
    return plain_bytes([rows, list(refused)])


def joined(models: tuple[str, ...], parts: Iterable[bytes]) -> Standings:
    """Return the standings of several tasks and metrics, each as ``standings_bytes`` gave it, in their order."""
    standings, refused = [], []
    for part in parts:
        rows, told = parse_json(part)
        for task, metric, column, setting, places in rows:
            placed = (dict(zip(_PLACE, place, strict=True)) for place in places)
            told_places = tuple(Place(**{**one, "ties": tuple(one["ties"])}) for one in placed)
            standings.append(Standing(task, metric, column, setting, told_places))
        refused += told
    return Standings(models, tuple(standings), tuple(refused))


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
) -> tuple[Place, ...]:
    """Return the models by falling value (then by name), each with its range of ranks."""
    why_not: dict[Identity, list[str]] = {model: [] for model in values}
    above: dict[Identity, int] = dict.fromkeys(values, 0)
    below: dict[Identity, int] = dict.fromkeys(values, 0)
    ties: dict[Identity, list[str]] = {model: [] for model in values}
    for (one, other), difference in compared.items():
        if difference.verdict == "not compared":
            for model, against in ((one, other), (other, one)):
                why_not[model].append(f"not compared with {labels[against]}: {difference.reason}")
        elif difference.beyond_noise:
            higher, lower = (one, other) if difference.verdict == "A higher" else (other, one)
            above[lower] += 1
            below[higher] += 1
        else:
            ties[one].append(labels[other])
            ties[other].append(labels[one])
    n = sum(value is not None for value in values.values())
    places = []
    known = {model: value for model, value in values.items() if value is not None}
    for model in sorted(values, key=lambda model: (-known.get(model, -2.0), labels[model])):  # r is at least -1
        value, told = values[model], sorted(why_not[model])
        tied = tuple(sorted(ties[model]))
        if value is None:
            places.append(Place(labels[model], None, reason="no held-out r; the table of the model says why"))
        elif told or n < 2:
            places.append(Place(labels[model], value, ties=tied, reason="; ".join(told) or "no other model has it"))
        else:
            places.append(Place(labels[model], value, 1 + above[model], n - below[model], tied))
    return tuple(places)

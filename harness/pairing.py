"""Which examples of two models belong together: the same prompt seed, the same id, the same group.

The values of both are subtracted example by example and averaged over prompt seeds; an example counts where every seed
of both models has it scored. What cannot be paired says why: a pass that is not on disk, or examples that differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from skillneurons.errors import ResultsError
from skillneurons.leaderboard.differences import Difference, no_seed
from skillneurons.leaderboard.models import Identity
from skillneurons.leaderboard.settings import differences as settings_apart
from skillneurons.leaderboard.shared import Shared, asked
from skillneurons.paired import paired_means
from skillneurons.pass_examples import PassExamples, examples_path, read_heldout
from skillneurons.results import Result, ResultsFolder, canonical_json

Doubles = npt.NDArray[np.float64]


class NotPaired(Exception):
    """Why examples cannot be paired, as a person reads it."""


@dataclass
class Examples:
    """The passes of a runs folder, each read once; ``problems`` names the damaged ones."""

    folder: ResultsFolder
    problems: list[str] = field(default_factory=list)
    _read: dict[Path, PassExamples | str] = field(default_factory=dict)

    def of(self, cell: Result) -> PassExamples:
        """Return the held-out examples of a cell; raise NotPaired where they are missing or damaged."""
        if cell.pass_ is None:
            raise NotPaired(f"{cell.key} has no pass")
        path = examples_path(self.folder, cell.pass_)
        if path not in self._read:
            self._read[path] = self._load(path, cell)
        read = self._read[path]
        if isinstance(read, str):
            raise NotPaired(read)
        return read

    def _load(self, path: Path, cell: Result) -> PassExamples | str:
        if not path.exists():
            place = path.relative_to(self.folder.root)
            return f"{place} is missing; delete cells/{cell.key}.json and run again into this folder"
        try:
            return read_heldout(path)
        except ResultsError as error:
            self.problems.append(str(error))
            return str(error)


def accuracy_differences(
    units: Sequence[Shared], a: Identity, b: Identity, examples: Examples, *, n_resamples: int, seed: int
) -> list[tuple[str, str, Difference]]:
    """Return (task, setting, difference of accuracy) for every task; metrics of one prompt share their answers."""
    groups: dict[str, dict[str, list[Shared]]] = {}
    for one in units:
        cell = next(iter(one.cells[a].values()))
        content = asked(cell, without=("attribution",))
        groups.setdefault(one.task, {}).setdefault(canonical_json({**content, "metric": None}), []).append(one)
    found = []
    for task, settings in groups.items():
        about = [
            {**asked(next(iter(same[0].cells[a].values())), without=("attribution",)), "metric": None}
            for same in settings.values()
        ]
        for setting, same in zip(settings_apart(about), settings.values(), strict=True):
            found.append((task, setting, _accuracy(same, a, b, examples, n_resamples, seed)))
    return found


def _accuracy(units: Sequence[Shared], a: Identity, b: Identity, examples: Examples, n: int, seed: int) -> Difference:
    """Return the difference from the first metric whose passes are whole."""
    told = []
    for one in units:
        found = mean_differences(one, a, b, ["correct"], examples, n_resamples=n, seed=seed)["correct"]
        if found.difference is not None:
            return found
        told.append(found.reason)
    return Difference(reason=told[0])


def mean_differences(
    one: Shared,
    a: Identity,
    b: Identity,
    columns: Sequence[str],
    examples: Examples,
    *,
    n_resamples: int,
    seed: int,
) -> dict[str, Difference]:
    """Return the paired difference of each column's held-out mean."""
    seeds = tuple(sorted(one.cells[a].keys() & one.cells[b].keys()))
    if not seeds:
        return dict.fromkeys(columns, Difference(reason=no_seed(one.cells[a], one.cells[b])))
    try:
        ours, theirs, groups = _values(one, a, b, seeds, columns, examples)
    except NotPaired as error:
        return dict.fromkeys(columns, Difference(reason=str(error)))
    apart = ours - theirs
    varying = [i for i in range(len(columns)) if np.nan_to_num(apart[:, i]).any()]
    figures = dict(
        zip(varying, paired_means(apart[:, varying], groups, n_resamples=n_resamples, seed=seed), strict=True)
    )
    found = {}
    for i, column in enumerate(columns):
        both = ~np.isnan(apart[:, i])
        n = int(both.sum())
        if not n:
            found[column] = Difference(n=0, seeds=seeds, reason="no example is scored for both models")
            continue
        bare = Difference(0.0, a=float(ours[both, i].mean()), b=float(theirs[both, i].mean()), n=n, seeds=seeds)
        if i in figures:
            of = figures[i]
            found[column] = replace(
                bare, difference=of.difference, low=of.low, high=of.high, p=of.p, groups=of.groups, reason=of.reason
            )
        else:
            found[column] = replace(bare, same=True)
    return found


def _values(
    one: Shared, a: Identity, b: Identity, seeds: Sequence[int], columns: Sequence[str], examples: Examples
) -> tuple[Doubles, Doubles, list[str]]:
    """Return the values of both models (rows, columns), averaged over seeds, and the groups of the rows."""
    first = examples.of(one.cells[a][seeds[0]])
    ours, theirs = (
        np.mean(
            [_in_order(examples.of(cell), first, columns, cell) for cell in (one.cells[model][seed] for seed in seeds)],
            axis=0,
        )
        for model in (a, b)
    )
    return ours, theirs, list(first.groups)


def _in_order(read: PassExamples, first: PassExamples, columns: Sequence[str], cell: Result) -> Doubles:
    """Return the values (rows, columns) in the order of the first pass's examples."""
    missing = [name for name in columns if name not in read.values]
    if missing:
        raise NotPaired(f"passes/{cell.pass_} has no column {missing[0]!r}; delete cells/{cell.key}.json and run again")
    place = {one: i for i, one in enumerate(read.ids)}
    other = set(place) ^ set(first.ids)
    if other:
        raise NotPaired(
            f"passes/{first.path.parent.name} and passes/{cell.pass_} hold different held-out examples "
            f"({len(other)} are in one alone, as {min(other)!r}), although their data hashes agree; run both again"
        )
    rows = [place[one] for one in first.ids]
    if [read.groups[row] for row in rows] != list(first.groups):
        raise NotPaired(
            f"passes/{first.path.parent.name} and passes/{cell.pass_} put the same examples into different groups; run both again"
        )
    return np.stack([read.values[name][rows] for name in columns], axis=1)

"""Which examples of several models belong together: the same prompt seed, the same id, the same group.

Values are averaged over prompt seeds, and a model has one for an example where every seed has it scored. Rows stand in the
order of their ids, so that the order of a file has no say in what is drawn. A model whose examples cannot be paired says
why: a pass that is not on disk, or examples that differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from skillneurons.errors import ResultsError
from skillneurons.leaderboard.models import Identity
from skillneurons.pass_examples import PassExamples, examples_path, read_heldout
from skillneurons.results import Result, ResultsFolder

Doubles = npt.NDArray[np.float64]


class NotPaired(Exception):
    """Why examples cannot be paired, as a person reads it."""


@dataclass
class Examples:
    """The passes of a runs folder, each read once.

    ``problems`` names the damaged ones, ``missing`` the cells whose pass is not on disk, by what is said of it.
    """

    folder: ResultsFolder
    problems: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
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

    def has(self, cell: Result) -> bool:
        """Whether the held-out examples of a cell can be read."""
        return not isinstance(_read(cell, self), str)

    def _load(self, path: Path, cell: Result) -> PassExamples | str:
        if not path.exists():
            place = path.relative_to(self.folder.root)
            told = f"{place} is missing; delete cells/{cell.key}.json and run again into this folder"
            self.missing[told] = cell.key
            return told
        try:
            return read_heldout(path)
        except ResultsError as error:
            told = self.folder.told(str(error))
            self.problems.append(told)
            return told


@dataclass(frozen=True, eq=False)
class Scored:
    """Held-out values (examples, columns) by model, NaN where not scored, with the examples' ``groups``.

    ``why`` says of every other model why it has none.
    """

    values: Mapping[Identity, Doubles]
    why: Mapping[Identity, str]
    groups: Sequence[str]


def scored_values(cells: Mapping[Identity, Mapping[int, Result]], columns: Sequence[str], examples: Examples) -> Scored:
    """Return the values of each model of ``cells`` (by model, then by seed; all of the same seeds), averaged over seeds."""
    read: dict[Identity, list[tuple[Result, PassExamples]]] = {}
    why: dict[Identity, str] = {}
    for model, by_seed in cells.items():
        found = [_read(cell, examples) for _, cell in sorted(by_seed.items())]
        told = [one for one in found if isinstance(one, str)]
        if told:
            why[model] = told[0]
        else:
            read[model] = [one for one in found if not isinstance(one, str)]
    if not read:
        return Scored({}, why, ())
    first = next(iter(read.values()))[0][1]
    ids = sorted(first.ids, key=lambda one: (len(one), one))  # e2 before e10
    values = {}
    for model, passes in read.items():
        try:
            values[model] = np.mean([_in_order(one, ids, first, columns, cell) for cell, one in passes], axis=0)
        except NotPaired as error:
            why[model] = str(error)
    place = dict(zip(first.ids, first.groups, strict=True))
    return Scored(values, why, [place[one] for one in ids])


def _read(cell: Result, examples: Examples) -> tuple[Result, PassExamples] | str:
    """Return a cell with its examples, or why there are none."""
    try:
        return cell, examples.of(cell)
    except NotPaired as error:
        return str(error)


def _in_order(
    read: PassExamples, ids: Sequence[str], first: PassExamples, columns: Sequence[str], cell: Result
) -> Doubles:
    """Return the values (rows, columns) of the examples ``ids``, which are those of the ``first`` pass."""
    missing = [name for name in columns if name not in read.values]
    if missing:
        raise NotPaired(f"passes/{cell.pass_} has no column {missing[0]!r}; delete cells/{cell.key}.json and run again")
    place = {one: i for i, one in enumerate(read.ids)}
    other = set(place) ^ set(ids)
    if other:
        raise NotPaired(
            f"passes/{first.path.parent.name} and passes/{cell.pass_} hold different held-out examples "
            f"({len(other)} are in one alone, as {min(other)!r}), although their data hashes agree; run both again"
        )
    if dict(zip(read.ids, read.groups, strict=True)) != dict(zip(first.ids, first.groups, strict=True)):
        raise NotPaired(
            f"passes/{first.path.parent.name} and passes/{cell.pass_} put the same examples into different groups; run both again"
        )
    rows = [place[one] for one in ids]
    return np.stack([read.values[name][rows] for name in columns], axis=1)

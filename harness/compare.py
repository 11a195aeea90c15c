"""Two models or more, compared on what both did: ``skillneurons compare DIR A B``.

Three figures, each A - B:

    accuracy           per task, held out, paired by example (``paired``), from the passes on disk
    mean               per task and column: the metric's values on held-out examples, paired likewise
    heldout_top10_r    per task and column: from the resamples that the cells share (``leaderboard.differences``)

Only cells that differ in nothing but the model and the seed are set beside each other (``leaderboard.shared``), over
the prompt seeds that all compared models have. Holm's correction runs over all comparisons of one figure between two
models; a difference is beyond noise where the corrected p is at most 0.05 and the interval leaves out 0. Of more than
two models, every pair is compared, and each figure is ranked with Holm over its pairs (``leaderboard.ranks``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from skillneurons.errors import UserError, unknown_name
from skillneurons.leaderboard.differences import ALPHA, Difference, heldout_differences, no_seed
from skillneurons.leaderboard.models import Identity, find_model, identity, model_labels
from skillneurons.leaderboard.ranks import Place, corrected, ranked
from skillneurons.leaderboard.shared import Shared, shared
from skillneurons.pairing import Examples, accuracy_differences, mean_differences
from skillneurons.results import DamagedCell, Result, ResultsFolder

FIGURES = ("accuracy", "mean", "heldout_top10_r")
FEWEST_RESAMPLES = 100


@dataclass(frozen=True)
class Compared:
    """One figure of two models; ``metric`` and ``column`` are ``""`` for accuracy, ``setting`` where there is one alone."""

    figure: str
    task: str
    metric: str
    column: str
    setting: str
    difference: Difference


@dataclass(frozen=True)
class Pair:
    """All that was compared of the models ``a`` and ``b``."""

    a: str
    b: str
    rows: tuple[Compared, ...]

    def of(self, figure: str) -> list[Compared]:
        """Return the rows of one figure."""
        return [row for row in self.rows if row.figure == figure]


@dataclass(frozen=True)
class Count:
    """Of ``compared`` differences: ``nominal`` have p <= 0.05 before correction, where ``expected`` are by chance alone."""

    compared: int
    nominal: int
    expected: float
    beyond_noise: int
    same: int


@dataclass(frozen=True)
class Ranking:
    """One figure of a task (and column), the models highest first."""

    figure: str
    task: str
    column: str
    setting: str
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Comparison:
    """What ``compare`` found: every pair, rankings of more than two models, what was left out, and damaged files."""

    models: tuple[str, ...]
    pairs: tuple[Pair, ...]
    rankings: tuple[Ranking, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    n_resamples: int
    seed: int


def compare(
    folder: Path | str,
    models: Sequence[str],
    *,
    tasks: Sequence[str] = (),
    metrics: Sequence[str] = (),
    n_resamples: int = 9999,
    seed: int = 0,
) -> Comparison:
    """Compare the named models of a runs folder, on some tasks and metrics or all; raise UserError where nothing is shared."""
    if n_resamples < FEWEST_RESAMPLES:
        raise UserError(
            f"--resamples {n_resamples}: at least {FEWEST_RESAMPLES} are needed for a p of 0.05 to mean something"
        )
    if len(models) < 2:
        raise UserError(f"one model ({models[0]}) cannot be compared; name at least two")
    results = ResultsFolder(Path(folder))
    cells, problems = _cells(results)
    labels = model_labels(cells)
    chosen = [find_model(name, labels) for name in models]
    for i, model in enumerate(chosen):
        if model in chosen[:i]:
            raise UserError(
                f"{models[i]!r} is the same model as {models[chosen.index(model)]!r}; name different models"
            )
    own = _chosen([cell for cell in cells if identity(cell) in chosen], tasks, metrics)
    found, refused = shared(own)
    if not found:
        why = "; ".join(refused) or "they ran no task and metric in common; run them into this folder with one config"
        raise UserError(f"{', '.join(labels[model] for model in chosen)} share no cells: {why}")
    notes = [*refused, *(f"{cell.key} failed and is left out" for cell in own if cell.status == "failed")]
    units = []
    for one in found:
        unit, told = _common_seeds(one, chosen, labels)
        notes += told
        units += [unit] if unit else []
    pairs = list(combinations(chosen, 2))
    examples = Examples(results)
    rows = [
        *_accuracies(units, pairs, examples, n_resamples, seed),
        *_columns(units, pairs, examples, n_resamples, seed),
    ]
    return Comparison(
        tuple(labels[model] for model in chosen),
        tuple(Pair(labels[a], labels[b], _corrected([row for pair, row in rows if pair == (a, b)])) for a, b in pairs),
        tuple(_rankings(rows, chosen, labels)) if len(chosen) > 2 else (),
        tuple(dict.fromkeys(notes)),
        (*problems, *examples.problems),
        n_resamples,
        seed,
    )


def _cells(folder: ResultsFolder) -> tuple[list[Result], list[str]]:
    if not folder.cells.is_dir():
        what = "it has no folder cells/" if folder.root.is_dir() else "no such folder"
        raise UserError(
            f"cannot read results from {folder.root}: {what}; run `skillneurons run -o {folder.root}` first"
        )
    cells, problems = [], []
    for path, loaded in folder.iter_cells():
        if isinstance(loaded, DamagedCell):
            problems.append(f"{path} is left out: {loaded.reason}")
        else:
            cells.append(loaded)
    if not cells:
        told = f" ({problems[0]})" if problems else ""
        raise UserError(f"{folder.root} holds no cells{told}; run `skillneurons run -o {folder.root}` first")
    return cells, problems


def _chosen(cells: Sequence[Result], tasks: Sequence[str], metrics: Sequence[str]) -> list[Result]:
    """Return the cells of the named tasks and metrics; all where none is named."""
    for kind, names, known in (
        ("task", tasks, {cell.task["name"] for cell in cells}),
        ("metric", metrics, {cell.metric["name"] for cell in cells}),
    ):
        for name in names:
            if name not in known:
                raise unknown_name(kind, name, known, "these have finished cells of the models")
    return [
        cell
        for cell in cells
        if (not tasks or cell.task["name"] in tasks) and (not metrics or cell.metric["name"] in metrics)
    ]


def _common_seeds(
    one: Shared, chosen: Sequence[Identity], labels: Mapping[Identity, str]
) -> tuple[Shared | None, list[str]]:
    """Return the cells of the seeds that all models have here, and what was left out; None where there is no such seed."""
    models = [model for model in chosen if model in one.cells]
    common = set.intersection(*(set(one.cells[model]) for model in models))
    name = f"{one.task} {one.metric}{f' ({one.setting})' if one.setting else ''}"
    if not common:
        return None, [f"{name}: {no_seed(one.cells[models[0]], one.cells[models[1]])}"]
    notes = []
    for model in models:
        more = sorted(set(one.cells[model]) - common)
        if more:
            seeds = f"seed{'s' * (len(more) > 1)} {', '.join(map(str, more))}"
            notes.append(
                f"{name}: {seeds} of {labels[model]} left out: not every model has {'them' if len(more) > 1 else 'it'}"
            )
    kept = {model: {seed: one.cells[model][seed] for seed in sorted(common)} for model in models}
    return Shared(one.task, one.metric, one.setting, kept), notes


Row = tuple[tuple[Identity, Identity], Compared]


def _accuracies(
    units: Sequence[Shared], pairs: Sequence[tuple[Identity, Identity]], examples: Examples, n: int, seed: int
) -> list[Row]:
    rows = []
    for pair in pairs:
        both = [one for one in units if pair[0] in one.cells and pair[1] in one.cells]
        for task, setting, difference in accuracy_differences(both, *pair, examples, n_resamples=n, seed=seed):
            rows.append((pair, Compared("accuracy", task, "", "", setting, difference)))
    return rows


def _columns(
    units: Sequence[Shared], pairs: Sequence[tuple[Identity, Identity]], examples: Examples, n: int, seed: int
) -> list[Row]:
    rows = []
    for one in units:
        inside = [pair for pair in pairs if pair[0] in one.cells and pair[1] in one.cells]
        for pair in inside:
            means = mean_differences(one, *pair, one.columns(), examples, n_resamples=n, seed=seed)
            for column, difference in means.items():
                rows.append((pair, Compared("mean", one.task, one.metric, column, one.setting, difference)))
        for column in one.columns():
            for pair, difference in zip(inside, heldout_differences(one.cells, column, inside), strict=True):
                figure = Compared("heldout_top10_r", one.task, one.metric, column, one.setting, difference)
                rows.append((pair, figure))
    return rows


def _corrected(rows: Sequence[Compared]) -> tuple[Compared, ...]:
    """Return the rows of one pair, figure by figure, corrected within each."""
    found = []
    for figure in FIGURES:
        family = [row for row in rows if row.figure == figure]
        for row, difference in zip(family, corrected([row.difference for row in family]), strict=True):
            found.append(_with(row, difference))
    return tuple(found)


def _with(row: Compared, difference: Difference) -> Compared:
    return Compared(row.figure, row.task, row.metric, row.column, row.setting, difference)


def count(rows: Sequence[Compared]) -> Count:
    """Return how many of the rows of one figure differ; those of a column that is the same for both do not count."""
    compared = [row.difference for row in rows if row.difference.p is not None]
    return Count(
        len(compared),
        sum(one.p is not None and one.p <= ALPHA for one in compared),
        ALPHA * len(compared),
        sum(one.beyond_noise for one in compared),
        sum(row.difference.same for row in rows),
    )


def _rankings(rows: Sequence[Row], chosen: Sequence[Identity], labels: Mapping[Identity, str]) -> list[Ranking]:
    """Return every figure that more than two models have, Holm over its pairs."""
    families: dict[tuple[str, str, str, str], dict[tuple[Identity, Identity], Difference]] = {}
    for pair, row in rows:
        families.setdefault((row.figure, row.task, row.column, row.setting), {})[pair] = row.difference
    found = []
    for (figure, task, column, setting), family in families.items():
        values: dict[Identity, float | None] = {}
        for (a, b), one in family.items():
            for model, value in ((a, one.a), (b, one.b)):
                values[model] = value if values.get(model) is None else values[model]
        if len(values) > 2 and not all(one.same for one in family.values()):
            known = {
                pair: one for pair, one in family.items() if values[pair[0]] is not None and values[pair[1]] is not None
            }
            differences = dict(zip(known, corrected(list(known.values())), strict=True))
            in_order = {model: values[model] for model in chosen if model in values}
            found.append(Ranking(figure, task, column, setting, ranked(in_order, differences, labels)))
    return sorted(found, key=lambda one: FIGURES.index(one.figure))

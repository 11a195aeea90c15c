"""Two models or more, compared on what both did: ``skillneurons compare DIR A B``.

Three figures, each A - B:

    accuracy           per task, held out, paired by example (``paired``), from the passes on disk; without them no p
    mean               per task and column: the metric's values on held-out examples, paired likewise
    heldout_top10_r    per task and column: from the resamples that the cells share (``leaderboard.differences``)

Only cells that differ in nothing but the model and the seed are set beside each other (``leaderboard.shared``), over
the prompt seeds and the examples that all compared models have (``families``). Holm's correction runs over all
comparisons of one figure between two models; a difference is beyond noise where the corrected p is at most 0.05 and the
interval leaves out 0. Of more than two models, every pair is compared, and each figure is ranked with Holm over its
pairs (``leaderboard.ranks``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from skillneurons.comparison import FIGURES, Compared, Comparison, Pair, Ranking, missing_passes, short_reason
from skillneurons.errors import UserError, unknown_name
from skillneurons.families import Couple, Draws, Family, accuracy_families, column_families, of_common_seeds
from skillneurons.leaderboard.models import Identity, find_model, identity, model_labels
from skillneurons.leaderboard.ranks import corrected, ranked
from skillneurons.leaderboard.shared import Apart, Shared, side_by_side, told_once
from skillneurons.pairing import Examples
from skillneurons.results import DamagedCell, Result, ResultsFolder, open_folder

FEWEST_RESAMPLES = 100


def compare(
    folder: Path | str | ResultsFolder,
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
    results = open_folder(folder)
    cells, problems = _cells(results)
    labels = model_labels(cells)
    chosen = _models(models, labels)
    own = _chosen([cell for cell in cells if identity(cell) in chosen], tasks, metrics)
    units, apart = _units(own, chosen, labels)
    examples, draws = Examples(results), Draws(n_resamples, seed)
    families, told = accuracy_families(units, {model: labels[model] for model in chosen}, examples, draws)
    apart += told
    for unit in units:
        found, told = column_families(unit, examples, draws)
        families += found
        apart += told
    pairs = list(combinations(chosen, 2))
    failed = [f"{cell.key} failed and is left out" for cell in own if cell.status == "failed"]
    return Comparison(
        tuple(labels[model] for model in chosen),
        tuple(Pair(labels[a], labels[b], _corrected(_rows(families, (a, b)))) for a, b in pairs),
        tuple(_rankings(families, labels, examples.missing)) if len(chosen) > 2 else (),
        tuple(dict.fromkeys([*failed, *told_once(apart), *missing_passes(examples.missing)])),
        (*problems, *examples.problems),
        n_resamples,
        seed,
        examples.missing,
    )


def _models(names: Sequence[str], labels: Mapping[Identity, str]) -> list[Identity]:
    """Return the models of these names; raise UserError for an unknown one and for one that is named twice."""
    chosen = [find_model(name, labels) for name in names]
    for i, model in enumerate(chosen):
        if model in chosen[:i]:
            raise UserError(f"{names[i]!r} is the same model as {names[chosen.index(model)]!r}; name different models")
    return chosen


def _units(
    cells: Sequence[Result], chosen: Sequence[Identity], labels: Mapping[Identity, str]
) -> tuple[list[Shared], list[Apart]]:
    """Return what models share, over common seeds and in the order they were named; raise UserError where that is nothing."""
    found, apart = side_by_side(cells, labels)
    units = []
    for one in found:
        in_order = {model: one.cells[model] for model in chosen if model in one.cells}
        unit, told = of_common_seeds(replace(one, cells=in_order), labels)
        apart += told
        units += [unit] if unit else []
    if not units:
        names = ", ".join(labels[model] for model in chosen)
        fewer = f"; {_sharing(found, chosen, labels)}" if len(chosen) > 2 else ""
        raise UserError(f"{names} share no cells: {_why_apart(cells, apart)}{fewer}")
    return units, apart


def _sharing(found: Sequence[Shared], chosen: Sequence[Identity], labels: Mapping[Identity, str]) -> str:
    """Return which two of several models can be compared."""
    pairs = [
        f"{labels[a]} and {labels[b]}"
        for a, b in combinations(chosen, 2)
        if any(set(one.cells.get(a, ())) & set(one.cells.get(b, ())) for one in found)
    ]
    return f"name two of them that share seeds: {', '.join(pairs)}" if pairs else "no two of them share a seed"


def _why_apart(cells: Sequence[Result], apart: Sequence[Apart]) -> str:
    ran: dict[tuple[str, str], set[Identity]] = {}
    for cell in cells:
        if cell.status == "ok":
            ran.setdefault((cell.task["name"], cell.metric["name"]), set()).add(identity(cell))
    if all(len(models) < 2 for models in ran.values()):
        return "they ran no task and metric in common; run them into this folder with one config"
    return "; ".join(told_once(apart))


def _cells(folder: ResultsFolder) -> tuple[list[Result], list[str]]:
    if not folder.is_there:
        what = "it has no folder cells/" if folder.root.is_dir() else "no such folder"
        raise UserError(
            f"cannot read results from {folder.place}: {what}; run `skillneurons run -o {folder.place}` first"
        )
    cells, problems = [], []
    for path, loaded in folder.iter_cells():
        if isinstance(loaded, DamagedCell):
            problems.append(f"{folder.told(str(path))} is left out: {loaded.reason}")
        else:
            cells.append(loaded)
    if not cells:
        told = f" ({problems[0]})" if problems else ""
        raise UserError(f"{folder.place} holds no cells{told}; run `skillneurons run -o {folder.place}` first")
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


def _rows(families: Sequence[Family], pair: Couple) -> list[Compared]:
    """Return what the families say of two models."""
    return [
        Compared(one.figure, one.task, one.metric, one.column, one.setting, one.differences[pair])
        for one in families
        if pair in one.differences
    ]


def _corrected(rows: Sequence[Compared]) -> tuple[Compared, ...]:
    """Return the rows of one pair, figure by figure, corrected within each."""
    found = []
    for figure in FIGURES:
        family = [row for row in rows if row.figure == figure]
        for row, difference in zip(family, corrected([row.difference for row in family]), strict=True):
            found.append(replace(row, difference=difference))
    return tuple(found)


def _rankings(families: Sequence[Family], labels: Mapping[Identity, str], missing: Mapping[str, str]) -> list[Ranking]:
    """Return every figure that more than two models have, Holm over its pairs."""
    found = []
    for one in families:
        values = one.values
        if len(values) > 2 and not all(difference.same for difference in one.differences.values()):
            known = {
                pair: replace(difference, reason=short_reason(difference.reason, missing))
                for pair, difference in one.differences.items()
                if values[pair[0]] is not None and values[pair[1]] is not None
            }
            differences = dict(zip(known, corrected(list(known.values())), strict=True))
            why = {model: short_reason(reason, missing) for model, reason in one.why.items()}
            places = ranked(values, differences, labels, why)
            found.append(Ranking(one.figure, one.task, one.column, one.setting, places))
    return sorted(found, key=lambda one: FIGURES.index(one.figure))
